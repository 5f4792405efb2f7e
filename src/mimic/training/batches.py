"""Batches by position: which rows step 1000 sees is a pure function, so resuming is calling with a later step, at any world size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mimic.errors import BadInput
from mimic.infra import shards
from mimic.infra.store import ShardStore

T = TypeVar("T")
PIXELS = ["key", "shard", "split", "size_px", "offset_a", "size_a", "offset_b", "size_b"]  # columns that locate the images of a pair


def read_manifest(path: Path, split: str, columns: list[str] | None = PIXELS) -> pd.DataFrame:
    """Rows of one split of a manifest, in its order.

    Args:
        split: "train", "validation" or "test".
        columns: which columns to read (`split` among them), None = all.

    Raises:
        BadInput: the file is missing or damaged, or the split is empty.
    """
    rows = shards.read_table(path, columns, shards.MANIFEST).to_pandas()
    rows = rows[rows["split"] == split].reset_index(drop=True)
    if rows.empty:
        share = "test" if split == "test" else "validation"
        raise BadInput(f"{path}: no pair in its {split} split; mine more pairs, or change datasets.{path.stem}.{share}")
    return rows


def batch_indices(step: int, batch: int, length: int, seed: int) -> np.ndarray:
    """Samples of one step: i64 [batch], each in 0..length-1.

    The stream of samples is a fresh permutation for every epoch, cut into batches that run on across epochs: no sample is lost. A rank
    of a larger world takes its slice of the same batch.
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


class PairImages:
    """The images of a manifest's rows, decoded on demand; safe to call from many threads.

    Args:
        rows: of `read_manifest`.
        root: the workspace; shards are relative to it.
        size_px: (height, width) of what is returned; None = as stored (of several stored sizes, the largest).
        store: where shards are that the workspace does not hold; None = nowhere.
    """

    def __init__(self, rows: pd.DataFrame, root: Path, size_px: tuple[int, int] | None, store: ShardStore | None = None) -> None:
        self.keys = rows["key"].to_numpy()
        # A million rows name few shards: the path is looked up, not repeated.
        codes, names = pd.factorize(rows["shard"])
        self._shard, self._names, self._paths = codes, list(names), [root / name for name in names]
        self._store, self._here = store, [store is None or path.exists() for path in self._paths]
        self._offset = rows[["offset_a", "offset_b"]].to_numpy(np.int64)
        self._bytes = rows[["size_a", "size_b"]].to_numpy(np.int64)
        stored = int(rows["size_px"].max())
        self.size_px = size_px or (stored, stored)

    def __len__(self) -> int:
        return len(self.keys)

    def pairs(self, indices: np.ndarray) -> Tensor:
        """uint8 [b, 2, h, w, 3] RGB: views a and b of the given rows."""
        return self._decode(indices.repeat(2), np.tile([0, 1], len(indices))).unflatten(0, (-1, 2))

    def singles(self, indices: np.ndarray) -> Tensor:
        """uint8 [b, 1, h, w, 3] RGB: every view as an image of its own, 2 * len(self) of them; 2 i is view a of row i, 2 i + 1 view b."""
        return self._decode(indices // 2, indices % 2)[:, None]

    def _decode(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        height, width = self.size_px
        images = np.empty((len(rows), height, width, 3), np.uint8)
        for image, row, view in zip(images, rows, views, strict=True):
            data = self._bytes_of(int(row), int(view))
            if shards.decode_into(data, image):
                continue
            decoded = self._decoded(data, int(row), int(view))
            if decoded.shape != image.shape:
                smaller = decoded.shape[0] >= height and decoded.shape[1] >= width
                decoded = cv2.resize(decoded, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
            image[:] = decoded
        return torch.from_numpy(images)

    def read(self, row: int, view: int) -> np.ndarray:
        """One view as stored: u8 [h, w, 3] RGB; view 0 is a, 1 is b."""
        return self._decoded(self._bytes_of(row, view), row, view)

    def _decoded(self, data: bytes, row: int, view: int) -> np.ndarray:
        image = shards.decode(data)
        if image is None:
            raise BadInput(f"{self._paths[self._shard[row]]}: damaged (no JPEG at {self._offset[row, view]}); delete it and run dvc repro")
        return image

    def _bytes_of(self, row: int, view: int) -> bytes:
        shard, place = self._shard[row], (int(self._offset[row, view]), int(self._bytes[row, view]))
        if self._store is not None and not self._here[shard]:
            return self._store.read(self._names[shard], *place)
        return shards.read_bytes(self._paths[shard], *place)


def prefetch(load: Callable[[int], T], start: int, stop: int, workers: int) -> Iterator[tuple[int, T]]:
    """(step, load(step)) for steps start .. stop - 1, in order, loaded ahead of time by `workers` threads (0 = none).

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
