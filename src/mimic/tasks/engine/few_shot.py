"""Few-shot protocol (MIMIC, figure 3b): which images a draw trains on, and what is said of many
draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput
from mimic.tasks.api import Figure
from mimic.tasks.inspection import Split
from mimic.tasks.metrics.items import standard_error


def subset(seed: int, shots: int, length: int) -> np.ndarray:
    """The first `shots` places of a seed's permutation: smaller subsets lie in larger ones."""
    return np.random.default_rng([seed, length]).permutation(length)[:shots]


def by_shots(values: dict[int, list[float]]) -> dict[str, dict[str, Any]]:
    """Per number of images: mean, sample deviation (n - 1), and the value of each seed."""
    return {
        str(k): {"mean": float(np.mean(v)), "std": float(np.std(v, ddof=1)), "values": v}
        for k, v in values.items()
    }


@dataclass(frozen=True)
class Draw:
    """One training of the protocol: the first `shots` images of a seed."""

    seed: int
    chosen: np.ndarray  # places in the train split
    progress: Path


@dataclass(frozen=True)
class Draws:
    """What all draws measured."""

    metrics: dict[str, Any]  # the headline's mean over the draws of the most images, and by_k
    pictures: list[Figure]  # of the first draw of the most images
    items: np.ndarray  # of each test item, its mean over the draws of the most images


Measured = tuple[float, np.ndarray, list[Figure]]  # the headline, each item's share of it, pictures


def measure_draws(
    headline: str,
    shots: Sequence[int],
    seeds: range,
    length: int,
    progress: Path,
    measure: Callable[[Draw], Measured],
) -> Draws:
    """Train and measure on nested subsets of the train split, for each seed.

    Args:
        shots: images a draw trains on, ascending or not; the headline is that of the most.
        seeds: two or more.
        length: of the train split.
        measure: trains on a draw and measures on the whole test split.
    """
    most = max(shots)
    values: dict[int, list[float]] = {count: [] for count in shots}
    pictures: list[Figure] = []
    items: list[np.ndarray] = []
    for seed in seeds:
        for count in shots:
            draw = Draw(seed, subset(seed, count, length), progress / f"{seed}-{count}")
            value, shares, shown = measure(draw)
            values[count].append(value)
            if count == most:
                items.append(shares)
                pictures = shown if seed == seeds[0] else pictures
    statistics = by_shots(values)
    each = np.mean(items, axis=0)
    metrics = {
        headline: statistics[str(most)]["mean"],
        "standard_error": standard_error(each),  # over test items, as of every task
        "by_k": statistics,  # how far draws are apart
    }
    return Draws(metrics, pictures, each)


def require_images(shots: Sequence[int], length: int) -> None:
    """
    Raises:
        BadInput: the train split has fewer images than the largest number of shots.
    """
    if max(shots) > length:
        raise BadInput(f"shots {max(shots)}: there are {length} training images; lower shots")


def require_labels(train: Split, where: Path, shots: Sequence[int], seeds: range) -> None:
    """
    Raises:
        BadInput: there are fewer images than the largest number of shots, or a draw holds no label
            to train on.
    """
    train.require(where)
    length = len(train.used)
    require_images(shots, length)
    for seed in seeds:
        drawn = subset(seed, min(shots), length)
        if not any(train.used[index] for index in drawn):
            raise BadInput(
                f"seed {seed} draws {len(drawn)} training images, none of which has "
                f"{train.needs.part}; raise shots, or {train.needs.remedy}"
            )
