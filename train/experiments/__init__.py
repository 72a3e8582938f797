"""Tables of runs: trained, compared, and held against the paper's."""
