"""Tables of runs: trained, reported, and compared with the published results."""
