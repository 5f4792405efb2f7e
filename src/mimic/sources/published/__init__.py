"""Readers of published datasets, and of formats that datasets are published in."""
