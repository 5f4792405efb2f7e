"""Features of a frozen encoder, computed once for an image set and kept on disk for every task,
seed and number of shots.

    <folder>/<key>/00000.npy, 00001.npy, ...    features of PART images each, in the set's order

A part has its name only when it is whole. Processes that work on the same key at once each compute
what they find missing; whoever finishes last replaces equal bytes, so that none needs to wait for,
or to trust, another. A killed extraction goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimic.infra.progress import counted
from mimic.infra.storage import fingerprint
from mimic.infra.writing import writing
from mimic.models.encoder import Encoder, VisionTransformer, normalise
from mimic.tasks.engine.encoder_with_head import with_final_norm
from mimic.training.batches import prefetch

VERSION = 2  # of what is kept; raise it when equal keys would no longer mean equal features
PART = 2048  # images in a file
READERS = 4  # threads that read images ahead


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, in a fixed order.

    Args:
        digest: of the files they come from.
        view: everything that decides what the encoder sees of them: split, size, crop, mirroring;
            JSON-able.
        read: image of a place counted from 0, uint8[h, w, 3] RGB; pure, called from threads.
    """

    digest: str
    view: dict[str, Any]
    length: int
    read: Callable[[int], np.ndarray]


class FeatureArray(Sequence[np.ndarray]):
    """Features of a set, mapped into memory: [length, ...]."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self.parts = parts
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        """One image's by number, or several by an array of numbers."""
        if np.ndim(index) == 0:
            return self.parts[int(index) // PART][int(index) % PART]
        indices = np.asarray(index, np.int64)
        out = np.empty((len(indices), *self.parts[0].shape[1:]), self.parts[0].dtype)
        for number in np.unique(indices // PART):
            chosen = indices // PART == number
            out[chosen] = self.parts[number][indices[chosen] % PART]
        return out


def features(
    folder: Path,
    images: ImageSet,
    encoder: Encoder,
    encode: Callable[[Tensor], Tensor],
    what: dict[str, Any],
    batch: int,
    dtype: str,
) -> FeatureArray:
    """What `encode` makes of every image, from disk if it was made before.

    Args:
        folder: of this encoder's features; another checkpoint has another folder.
        encode: normalised images [b, 3, h, w] to features [b, ...]; run in eval mode without
            gradient.
        what: names what `encode` does (blocks, pooling); JSON-able.
        batch: images encoded at once.
        dtype: "float32" or "float16".
    """
    key = fingerprint(VERSION, images.digest, images.view, images.length, what, dtype)
    starts = range(0, images.length, PART)
    paths = [folder / key / f"{number:05d}.npy" for number in range(len(starts))]
    for start, path in zip(starts, paths, strict=True):
        if not path.exists():
            encoded = _encoded(
                images,
                start,
                min(start + PART, images.length),
                encoder,
                encode,
                batch,
                np.dtype(dtype),
            )
            with writing(path) as file:
                np.save(file, encoded)
    return FeatureArray([np.load(path, mmap_mode="r") for path in paths])


def lookup_features(
    views: Sequence[FeatureArray], chosen: np.ndarray, device: torch.device
) -> Callable[[np.ndarray, np.ndarray], list[Tensor]]:
    """Features of training examples as `tuning.tune` asks for them, read from disk at every step.

    Args:
        views: [images, levels, ...] of the images, then, if they can be drawn, of their mirror
            images.
        chosen: the places in the set of the examples trained on.
    """

    def read(index: np.ndarray, mirrored: np.ndarray) -> list[Tensor]:
        rows = np.stack(
            [
                views[int(turned)][int(image)]
                for image, turned in zip(chosen[index], mirrored, strict=True)
            ]
        )
        return list(torch.from_numpy(rows).to(device).unbind(dim=1))

    return read


def _encoded(
    images: ImageSet,
    first: int,
    last: int,
    encoder: Encoder,
    encode: Callable[[Tensor], Tensor],
    batch: int,
    dtype: np.dtype[Any],
) -> np.ndarray:
    """Features of images first .. last - 1."""
    assert isinstance(encoder, torch.nn.Module)
    device = next(encoder.parameters()).device
    out = None
    encoder.eval()
    batches = _batched(images, first, last, batch)
    shown = counted(batches, "encode", last - first, "images", lambda part: len(part[1]))
    for start, pixels in shown:
        with torch.inference_mode():
            encoded = encode(normalise(torch.from_numpy(pixels).to(device))).float().cpu().numpy()
        out = np.empty((last - first, *encoded.shape[1:]), dtype) if out is None else out
        out[start - first : start - first + len(encoded)] = encoded
    assert out is not None
    return out


def _batched(
    images: ImageSet, first: int, last: int, batch: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first, uint8[b, h, w, 3]), read ahead."""
    waiting: list[np.ndarray] = []
    for index, image in prefetch(images.read, first, last, READERS):
        waiting.append(image)
        if len(waiting) == batch or index + 1 == last:
            yield index + 1 - len(waiting), np.stack(waiting)
            waiting = []


def pooled(encoder: VisionTransformer, pool: str) -> Callable[[Tensor], Tensor]:
    """One vector per image after the final norm: the class token, or the mean of the patch
    tokens."""

    def encode(images: Tensor) -> Tensor:
        first, patches = encoder.tokens(images)
        return patches.mean(dim=1) if pool == "mean" or first is None else first

    return encode


def maps(
    encoder: VisionTransformer, blocks: Sequence[int], norm: bool
) -> Callable[[Tensor], Tensor]:
    """[b, levels, width, rows, columns]: patch tokens as they leave the blocks; with `norm` the
    last passes the encoder's final norm."""

    def encode(images: Tensor) -> Tensor:
        return torch.stack(
            with_final_norm(encoder, encoder.intermediates(images, blocks), norm), dim=1
        )

    return encode
