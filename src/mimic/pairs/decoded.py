"""A manifest's images at a small size, decoded once and kept: every later step reads bytes instead
of JPEGs.

    <folder>/<digest>.npy    uint8 [pairs, 2, h, w, 3], mapped into memory

The digest is of the JPEGs and the size, so that equal pairs share a file whatever run, seed or
dataset asks for them. A file has its name only when it is whole. The least recently used make room;
whoever has one mapped keeps reading it.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from mimic.infra.storage import replacing
from mimic.pairs.images import DIGESTS, PairImages

VERSION = 1  # of what is kept; raise it when equal JPEGs would no longer give equal bytes
LIMIT_BYTES = 8 << 30  # of all files together
PART = 64  # pairs decoded at once


class DecodedPairs:
    """What `PairImages` gives, from bytes that lie in a file."""

    def __init__(self, images: PairImages, pixels: np.ndarray) -> None:
        self.keys = images.keys
        self.size_px = images.size_px
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def pairs(self, indices: np.ndarray) -> Tensor:
        """See `PairImages.pairs`."""
        return torch.from_numpy(self._pixels[indices])

    def singles(self, indices: np.ndarray) -> Tensor:
        """See `PairImages.singles`."""
        return torch.from_numpy(self._pixels[indices // 2, indices % 2][:, None])


def decoded_once(
    images: PairImages, rows: pd.DataFrame, folder: Path, workers: int
) -> PairImages | DecodedPairs:
    """The same images from the folder, decoded first if nobody did; `images` itself where they
    would not fit below LIMIT_BYTES.

    Args:
        rows: those of `images`, with the columns DIGESTS, which the file is named by.
        workers: threads that decode; 0 = this one.
    """
    height, width = images.size_px
    shape = (len(images), 2, height, width, 3)
    needed = int(np.prod(shape, dtype=np.int64))
    if needed > LIMIT_BYTES:
        return images
    path = folder / f"{_digest(rows, images.size_px)}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # one process decodes, the others wait for it
        if path.exists():
            os.utime(path)
        else:
            _make_room(folder, needed)
            _decode(images, shape, path, workers)
        return DecodedPairs(images, np.load(path, mmap_mode="r"))


def _digest(rows: pd.DataFrame, size_px: tuple[int, int]) -> str:
    digest = hashlib.sha256(f"{VERSION} {size_px[0]} {size_px[1]}\n".encode())
    for column in DIGESTS:
        digest.update("\n".join(rows[column]).encode())
    return digest.hexdigest()[:16]


def _decode(images: PairImages, shape: tuple[int, ...], path: Path, workers: int) -> None:
    with replacing(path) as scratch:
        pixels = np.lib.format.open_memmap(scratch, "w+", np.uint8, shape)
        _allocate(scratch)

        def decode(start: int) -> None:
            part = np.arange(start, min(start + PART, len(images)))
            pixels[part] = images.pairs(part).numpy()

        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode") as pool:
            for _ in pool.map(decode, range(0, len(images), PART)):
                pass  # an error of a part is raised here
        pixels.flush()


def _allocate(path: Path) -> None:
    """Take the room of a file now: a page that finds the disk full later kills the process
    (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _make_room(folder: Path, needed: int) -> None:
    """Remove the least recently used files until `needed` bytes fit."""
    kept = sorted(
        (path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.npy")
    )
    used = sum(size for _, size, _ in kept)
    for _, size, path in kept:
        if used + needed <= LIMIT_BYTES:
            return
        path.unlink()
        used -= size
