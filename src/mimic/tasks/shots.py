"""Few-shot protocol (MIMIC, figure 3b): which images a draw trains on, and what is said of many draws."""

from __future__ import annotations

from typing import Any

import numpy as np


def subset(seed: int, shots: int, length: int) -> np.ndarray:
    """The first `shots` places of a seed's permutation: smaller subsets lie in larger ones."""
    return np.random.default_rng([seed, length]).permutation(length)[:shots]


def by_shots(values: dict[int, list[float]]) -> dict[str, dict[str, Any]]:
    """Per number of images: mean, sample deviation (n - 1), and the value of each seed."""
    return {str(k): {"mean": float(np.mean(v)), "std": float(np.std(v, ddof=1)), "values": v} for k, v in values.items()}
