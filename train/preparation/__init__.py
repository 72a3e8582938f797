"""Before training: what the data decide, what they measure, and whether they would spoil a run."""
