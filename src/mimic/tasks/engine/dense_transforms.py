"""Images with dense labels, resized for an encoder and augmented together. Arrays and numbers in,
arrays out.

Resizing follows the library of the peers' preparation. Most use OpenCV: bilinear without
antialiasing for images (`antialias` averages areas instead), nearest for labels. Taskonomy's use
Pillow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import cv2
import numpy as np
from PIL import Image

FLIP_SHARE = 0.5
READERS = 4  # threads that read and decode the images of a batch


class Flippable(Protocol):
    """Some examples, before they are made equal in size."""

    def hflip(self, chosen: np.ndarray) -> Self:
        """The chosen ones (bool[n]) mirrored left to right."""


T_co = TypeVar("T_co", bound=Flippable, covariant=True)


class TrainSet(Protocol[T_co]):
    """A train set: in memory (Batch) or on disk (OnDisk)."""

    def __len__(self) -> int: ...

    def take(self, index: np.ndarray) -> T_co:
        """The examples of these numbers, counted from 0."""


@dataclass(frozen=True)
class Item:
    """One image with dense labels: image uint8[h, w, 3], target [h, w] or [h, w, channels], valid
    bool[h, w]."""

    image: np.ndarray
    target: np.ndarray
    valid: np.ndarray

    def hflip(self) -> Item:
        """Mirrored left to right, labels by place alone: what points sideways is not turned."""
        return Item(
            *(
                np.ascontiguousarray(array[:, ::-1])
                for array in (self.image, self.target, self.valid)
            )
        )


@dataclass(frozen=True)
class Items:
    """Images of different sizes."""

    items: tuple[Item, ...]

    def __len__(self) -> int:
        return len(self.items)

    def hflip(self, chosen: np.ndarray) -> Items:
        """The chosen items (bool[n]) mirrored left to right."""
        return Items(
            tuple(
                item.hflip() if turn else item
                for item, turn in zip(self.items, chosen, strict=True)
            )
        )

    def color_jitter(self, recipe: ColorJitter, rng: np.random.Generator) -> Items:
        """Images alone change; labels stay."""
        images = color_jitter([item.image for item in self.items], recipe, rng)
        return Items(
            tuple(
                replace(item, image=image) for item, image in zip(self.items, images, strict=True)
            )
        )

    def batch(self) -> Batch:
        """Of items of one size."""
        return Batch(
            *(
                np.stack([getattr(item, name) for item in self.items])
                for name in ("image", "target", "valid")
            )
        )


@dataclass(frozen=True)
class OnDisk:
    """A set too large for memory: `read` gives the image of a number of `numbers`."""

    read: Callable[[int], Item]
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, index: np.ndarray) -> Items:
        """The images at these places of `numbers`, read in threads."""
        with ThreadPoolExecutor(
            min(READERS, max(1, len(index)))
        ) as pool:  # decoders release the interpreter
            return Items(tuple(pool.map(self.read, self.numbers[index].tolist())))


@dataclass(frozen=True)
class Batch:
    """images uint8[n, h, w, 3], target [n, h, w] or [n, h, w, channels], valid bool[n, h, w]."""

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
            np.stack(
                [
                    array[i, y : y + size_px, x : x + size_px]
                    for i, (y, x) in enumerate(zip(top, left, strict=True))
                ]
            )
            for array in (self.images, self.target, self.valid)
        )
        return Batch(*parts)

    def hflip(self, chosen: np.ndarray) -> Batch:
        """The chosen items (bool[n]) mirrored left to right."""
        parts = []
        for array in (self.images, self.target, self.valid):
            array = array.copy()
            array[chosen] = array[chosen, :, ::-1]
            parts.append(array)
        return Batch(*parts)


def frame_size(height: int, width: int, size_px: int, multiple: int) -> tuple[int, int]:
    """Height and width when the smaller side becomes size_px and the larger follows, rounded to a
    multiple (1: truncated)."""
    scale = size_px / min(height, width)

    def side(length: int) -> int:
        return (
            int(length * scale + 1e-9)
            if multiple == 1
            else max(multiple, round(length * scale / multiple) * multiple)
        )

    return (size_px, side(width)) if height <= width else (side(height), size_px)


def resize_image(image: np.ndarray, size: tuple[int, int], antialias: bool) -> np.ndarray:
    """uint8[h, w, 3] to this height and width: bilinear, or by areas where it shrinks and antialias
    is asked for."""
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    return cv2.resize(
        image,
        size[::-1],
        interpolation=cv2.INTER_AREA if antialias and shrinks else cv2.INTER_LINEAR,
    )


def pillow_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8[h, w, 3] to this height and width as Pillow does it, antialiased when it shrinks."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def pillow_nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 or uint16 [h, w, channels] by the nearest pixel, as Pillow picks it.

    Of 8 bits Pillow adds up its steps, so that rounding takes it to a neighbour here and there; no
    formula gives the same pixels.
    """

    def resized(channel: np.ndarray) -> np.ndarray:
        file = Image.fromarray(np.ascontiguousarray(channel))
        return np.asarray(file.resize(size[::-1], Image.Resampling.NEAREST))

    return np.stack([resized(channel) for channel in np.moveaxis(values, -1, 0)], axis=-1)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    labels = labels.astype(np.uint8) if labels.dtype == bool else labels
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)


def resize_item(item: Item, size: tuple[int, int], antialias: bool) -> Item:
    """To this height and width."""
    if item.valid.shape == size:
        return item
    valid = resize_labels(item.valid, size).astype(bool)
    return Item(resize_image(item.image, size, antialias), resize_labels(item.target, size), valid)


def size_within(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Height and width when the larger side becomes size_px."""
    scale = size_px / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def pad(item: Item, size_px: int, grey: int, label: int) -> Item:
    """At least size_px high and wide: `grey` and `label`, not valid, at the right and the
    bottom."""
    height, width = item.valid.shape
    more = ((0, max(0, size_px - height)), (0, max(0, size_px - width)))
    return Item(
        np.pad(item.image, (*more, (0, 0)), constant_values=grey),
        np.pad(item.target, more, constant_values=label),
        np.pad(item.valid, more, constant_values=False),
    )


def crop_square(item: Item, top: int, left: int, size_px: int) -> Item:
    """A square."""
    rows = slice(top, top + size_px)
    columns = slice(left, left + size_px)
    return Item(item.image[rows, columns], item.target[rows, columns], item.valid[rows, columns])


def center_crop(batch: Batch, size_px: int) -> Batch:
    """The central square of each item."""
    height, width = batch.valid.shape[1:]
    n = len(batch)
    return batch.window(
        np.full(n, (height - size_px) // 2), np.full(n, (width - size_px) // 2), size_px
    )


def random_crop(batch: Batch, size_px: int, rng: np.random.Generator) -> Batch:
    """A random square of each item."""
    height, width = batch.valid.shape[1:]
    top = rng.integers(0, height - size_px + 1, len(batch))
    left = rng.integers(0, width - size_px + 1, len(batch))
    return batch.window(top, left, size_px)


@dataclass(frozen=True)
class ColorJitter:
    """Colour jitter as torchvision has it (brightness, contrast, saturation, hue in random order),
    then grey: of what share of images."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    share: float
    grey_share: float


def color_jitter(
    images: Sequence[np.ndarray], recipe: ColorJitter, rng: np.random.Generator
) -> list[np.ndarray]:
    """Images uint8[h, w, 3], each with colours of its own; what happens depends on `rng` alone."""
    import torch  # slow to import, and only training needs them
    from torchvision.transforms import v2

    jitter = v2.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    grey = v2.Grayscale(num_output_channels=3)
    out = []
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global state only
        torch.manual_seed(int(rng.integers(2**31)))
        for image in images:
            tensor = torch.from_numpy(image).permute(2, 0, 1)
            tensor = jitter(tensor) if rng.random() < recipe.share else tensor
            tensor = grey(tensor) if rng.random() < recipe.grey_share else tensor
            out.append(tensor.permute(1, 2, 0).numpy())
    return out
