"""How well models name clips: scores, reports, ensembles, clips joined to recordings."""
