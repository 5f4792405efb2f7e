"""Runs against each other: which differ in one setting, over seeds and test items, and in words."""
