"""Prefect: when the pipeline runs, again, and who is told. What is stale, and in which order, DVC
decides."""
