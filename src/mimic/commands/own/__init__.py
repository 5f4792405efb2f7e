"""`mimic pairs` and `mimic pair`: data that no parameter file names."""
