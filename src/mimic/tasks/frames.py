"""Images with dense labels, resized for an encoder and augmented together. Arrays and numbers in, arrays out.

Resizing follows OpenCV, as the peers' preparation did: bilinear without antialiasing for images (`antialias` averages areas
instead), nearest for labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

JITTER = {"brightness": 0.1255, "contrast": 0.4, "saturation": 0.5, "hue": 0.2}  # of half of the images; a third becomes grey
JITTER_SHARE, GREY_SHARE, FLIP_SHARE = 0.5, 0.3, 0.5


@dataclass(frozen=True)
class Batch:
    """images uint8[n, h, w, 3], target float32[n, h, w], valid bool[n, h, w]."""

    images: np.ndarray
    target: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Batch:
        return Batch(self.images[index], self.target[index], self.valid[index])

    def window(self, top: np.ndarray, left: np.ndarray, size_px: int) -> Batch:
        """A square of each item."""
        parts = (
            np.stack([array[i, y : y + size_px, x : x + size_px] for i, (y, x) in enumerate(zip(top, left, strict=True))])
            for array in (self.images, self.target, self.valid)
        )
        return Batch(*parts)

    def mirrored(self, chosen: np.ndarray) -> Batch:
        """The chosen items (bool[n]) mirrored left to right."""
        parts = []
        for array in (self.images, self.target, self.valid):
            array = array.copy()
            array[chosen] = array[chosen, :, ::-1]
            parts.append(array)
        return Batch(*parts)


def frame_size(height: int, width: int, size_px: int, multiple: int) -> tuple[int, int]:
    """Height and width when the smaller side becomes size_px and the larger follows, rounded to a multiple (1: truncated)."""
    scale = size_px / min(height, width)

    def side(length: int) -> int:
        return int(length * scale + 1e-9) if multiple == 1 else max(multiple, round(length * scale / multiple) * multiple)

    return (size_px, side(width)) if height <= width else (side(height), size_px)


def resize_image(image: np.ndarray, size: tuple[int, int], antialias: bool) -> np.ndarray:
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if antialias and shrinks else cv2.INTER_LINEAR)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    labels = labels.astype(np.uint8) if labels.dtype == bool else labels
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)


def centre(batch: Batch, size_px: int) -> Batch:
    """The central square of each item."""
    height, width = batch.valid.shape[1:]
    n = len(batch)
    return batch.window(np.full(n, (height - size_px) // 2), np.full(n, (width - size_px) // 2), size_px)


def random_square(batch: Batch, size_px: int, rng: np.random.Generator) -> Batch:
    """A random square of each item."""
    height, width = batch.valid.shape[1:]
    top = rng.integers(0, height - size_px + 1, len(batch))
    left = rng.integers(0, width - size_px + 1, len(batch))
    return batch.window(top, left, size_px)


def recoloured(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour jitter on half of the images (brightness, contrast, saturation, hue in random order), then grey on three in ten."""
    from torchvision.transforms import v2  # slow to import, and only the peers' recipe needs it

    jitter, grey = v2.ColorJitter(**JITTER), v2.Grayscale(num_output_channels=3)
    out = []
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global state only
        torch.manual_seed(int(rng.integers(2**31)))
        for image in images:
            tensor: Tensor = torch.from_numpy(image).permute(2, 0, 1)
            tensor = jitter(tensor) if rng.random() < JITTER_SHARE else tensor
            tensor = grey(tensor) if rng.random() < GREY_SHARE else tensor
            out.append(tensor.permute(1, 2, 0).numpy())
    return np.stack(out)
