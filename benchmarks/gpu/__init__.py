"""Everything that only a GPU can tell, in one call: `python -m benchmarks.gpu`."""
