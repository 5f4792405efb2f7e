"""Judging candidate pairs: the loop over a clip, shards as units of work, privacy, samples of
rejects."""

# Raise it when other candidates are kept, or the same with other numbers: geometry, the loop over a
# clip, privacy. DVC reads it, and mines every source again.
RULE_VERSION = 1
