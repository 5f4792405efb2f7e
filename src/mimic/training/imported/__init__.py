"""Weights of others: read safely, unwrapped, and what was assumed."""
