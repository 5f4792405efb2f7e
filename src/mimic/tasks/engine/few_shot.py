"""Few-shot protocol (MIMIC, figure 3b): which images a draw trains on, and what is said of many
draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput
from mimic.tasks.inspection import Split


def subset(seed: int, shots: int, length: int) -> np.ndarray:
    """The first `shots` places of a seed's permutation: smaller subsets lie in larger ones."""
    return np.random.default_rng([seed, length]).permutation(length)[:shots]


def by_shots(values: dict[int, list[float]]) -> dict[str, dict[str, Any]]:
    """Per number of images: mean, sample deviation (n - 1), and the value of each seed."""
    return {
        str(k): {"mean": float(np.mean(v)), "std": float(np.std(v, ddof=1)), "values": v}
        for k, v in values.items()
    }


def require_labels(train: Split, where: Path, shots: Sequence[int], seeds: range) -> None:
    """
    Raises:
        BadInput: there are fewer images than the largest number of shots, or a draw holds no label
            to train on.
    """
    train.require(where)
    length = len(train.used)
    if max(shots) > length:
        raise BadInput(f"shots {max(shots)}: there are {length} training images; lower shots")
    for seed in seeds:
        drawn = subset(seed, min(shots), length)
        if not any(train.used[place] for place in drawn):
            raise BadInput(
                f"seed {seed} draws {len(drawn)} training images, none of which has "
                f"{train.needs.part}; raise shots, or {train.needs.remedy}"
            )
