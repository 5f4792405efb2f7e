"""Batches by position: which rows step 1000 sees is a pure function, so resuming is calling with a
later step, at any world size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def batch_indices(step: int, batch: int, length: int, seed: int) -> np.ndarray:
    """Samples of one step: i64 [batch], each in 0..length-1.

    The stream of samples is a fresh permutation for every epoch, cut into batches that run on
    across epochs: no sample is lost. A rank of a larger world takes its slice of the same batch.
    """
    position = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    epochs, places = np.divmod(position, length)
    indices = np.empty(batch, np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        indices[chosen] = _permutation(int(epoch), length, seed)[places[chosen]]
    return indices


@lru_cache(maxsize=4)  # threads work on a few steps at once, and a batch may straddle epochs
def _permutation(epoch: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)


def evenly_spaced(length: int, count: int, *, nearest: bool = False) -> list[int]:
    """At most `count` of the numbers 0 .. length - 1, evenly spread, first and last included.

    Args:
        nearest: round to the nearest number; else down.
    """
    positions = np.linspace(0, length - 1, min(count, length))
    if nearest:
        positions = positions.round()
    numbers: list[int] = positions.astype(int).tolist()
    return numbers


def prefetch(
    load: Callable[[int], T], start: int, stop: int, workers: int
) -> Iterator[tuple[int, T]]:
    """(step, load(step)) for steps start .. stop - 1, in order, loaded ahead of time by `workers`
    threads (0 = none).

    An exception of `load` is raised at its own step.
    """
    if workers == 0:
        yield from ((step, load(step)) for step in range(start, stop))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for step in range(start, stop):
                while len(ahead) <= workers and step + len(ahead) < stop:
                    ahead.append(pool.submit(load, step + len(ahead)))
                yield step, ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
