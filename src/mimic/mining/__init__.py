"""Judging candidate pairs: the loop over a clip, shards as units of work, privacy, samples of
rejects."""
