"""Which examples a step trains on, and lists gone through in batches."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from mimic.infra.progress import counted
from mimic.training.batches import batch_indices


def in_batches(length: int, batch: int) -> Iterable[slice]:
    return (slice(start, min(start + batch, length)) for start in range(0, length, batch))


def shown_batches(length: int, batch: int, title: str, unit: str) -> Iterable[slice]:
    """The same with progress shown while they are gone through."""

    def size(part: slice) -> int:
        return int(part.stop - part.start)

    return counted(in_batches(length, batch), title, length, unit, size)


def step_indices(step: int, batch: int, length: int, seed: int) -> np.ndarray:
    """Examples of a step: a fresh permutation every epoch, its incomplete last batch dropped (795
    in batches of 128: 6 steps an epoch).

    Fewer examples than a batch holds (few-shot): epochs run on inside a batch.
    """
    if length < batch:
        return batch_indices(step, batch, length, seed)
    epoch, position = divmod(step, length // batch)
    return _epoch_order(length, seed, epoch)[position * batch : (position + 1) * batch]


@lru_cache(maxsize=2)
def _epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """Kept, because a mixture of a million pairs takes longer to shuffle than a step takes."""
    order = np.random.default_rng([seed, epoch]).permutation(length)
    order.setflags(write=False)
    return order
