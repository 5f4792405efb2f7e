"""Pairs that others chose: released lists and crops."""
