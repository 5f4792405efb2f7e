"""Folders of images: numbered frames, each paired with a later one, or an unordered set, all pairs of it.

Layout: any tree below the root; every folder that holds images itself is a clip, named by its path below the root ("." is
the root). Numbered frames: the number is the digits of the name that change most; names that differ elsewhere are different
sequences (`frame-000005.color.jpg` is never paired with `frame-000005.depth.png`).
"""

from __future__ import annotations

import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image as pillow
from PIL import ImageOps

from mimic import config
from mimic.errors import BadInput
from mimic.sources.base import (
    SAMPLES,
    WHOLE_FILE_BYTES,
    Description,
    Group,
    Image,
    Pose,
    Unreadable,
    View,
    content_digest,
    digest_of_digests,
    files_below,
    files_in,
    require_folder,
)

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".gif"})
NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


class ImageSource:
    """Image folders below a root; see `config.Images` for the numbers."""

    def __init__(self, name: str, section: config.Images, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        files = map(PurePosixPath, files_below(require_folder(self.name, self.root), EXTENSIONS, self.skipped, "an image"))
        found = list(dict.fromkeys(file.parent.as_posix() for file in files if file.match(self._section.glob)))
        if not found:
            raise BadInput(f"sources.{self.name}.root: no image that matches {self._section.glob!r} in {self.root}")
        return found

    def describe(self, clip: str) -> Description:
        files = self._files(clip)
        error = None
        try:
            self._check_size(len(files))
        except Unreadable as unreadable:
            error = str(unreadable)
        return describe(files, error)

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002  (images draw nothing)
        """Neighbours: a group for every first frame. All: a group for every pair, so that each is judged on its own."""
        files = self._files(clip)
        match self._section.pairing:
            case "neighbours":
                section = self._section
                for sequence in sequences(files):
                    yield from neighbours(sequence, section.stride, section.retry_strides, section.advance)
            case "all":
                self._check_size(len(files))
                views = tuple(view(file) for file in files)
                for pair in itertools.combinations(range(len(views)), 2):
                    yield Group(views=views, pairs=(pair,))

    def _files(self, clip: str) -> list[Path]:
        """The clip's images, in numeric order."""
        folder = self.root / clip
        return [folder / name for name in files_in(folder, EXTENSIONS) if PurePosixPath(name).match(self._section.glob)]

    def _check_size(self, count: int) -> None:
        if self._section.pairing == "all" and count > self._section.group_max:
            raise Unreadable(f"{count} images make {count * (count - 1) // 2} pairs; raise group_max, or pair neighbours")


def describe(files: list[Path], error: str | None) -> Description:
    """What the inventory says of a clip that is some files of images."""
    sizes = [file.stat().st_size for file in files]
    return Description(bytes=sum(sizes), frames=len(files), digest=_digest(files, sizes), error=error)


def neighbours(
    sequence: dict[float, Path], stride: int, retry_strides: tuple[int, ...], advance: int, unit: float | None = None
) -> Iterator[Group]:
    """A group for every first frame: with the one `stride` later, else with those at the retry distances.

    Distances count frames of the sequence, gaps included: a pair whose second frame is missing is no candidate.

    Args:
        unit: how far apart the numbers of successive frames are; None = their usual distance (exports keep every n-th, or times).
    """
    numbers = np.array(list(sequence))
    if len(numbers) < 2:
        return
    views = [view(file) for file in sequence.values()]
    steps = np.rint((numbers - numbers[0]) / (unit or np.median(np.diff(numbers)))).astype(int)
    position = {int(step): index for index, step in enumerate(steps)}
    for first in position:
        if first % advance or first + stride not in position:
            continue
        later = [position[first + further] for further in retry_strides if first + further in position]
        yield Group(
            views=tuple(views[index] for index in (position[first], position[first + stride], *later)),
            pairs=((0, 1),),
            retry=tuple((0, 2 + index) for index in range(len(later))),
        )


def sequences(files: list[Path]) -> list[dict[float, Path]]:
    """Numbered sequences in a folder: number -> file, in order. Files with no number belong to none."""
    by_pattern: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_pattern[NUMBER.sub("#", file.stem) + file.suffix].append(file)
    found = []
    for members in by_pattern.values():
        fields = [NUMBER.findall(file.stem) for file in members]
        columns = list(zip(*fields, strict=True))
        if columns:
            changing = max(reversed(columns), key=lambda column: len(set(column)))  # the last, of equals
            found.append(dict(sorted(zip(map(float, changing), members, strict=True), key=lambda item: item[0])))
    return found


def read(source: Path | io.BytesIO) -> Image:
    """The upright RGB image of a file, or of one in memory; colours with transparency, palettes, grey, CMYK and 16 bits become 8-bit RGB.

    Raises:
        Unreadable: missing, truncated, or no image.
    """
    try:
        with pillow.open(source) as file:
            file.load()
            if file.mode.startswith("I;16") or file.mode == "I":
                deep = np.asarray(ImageOps.exif_transpose(file)).astype(np.int64)
                return np.repeat(np.clip(deep >> 8, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
            if file.mode == "F":
                raise Unreadable("floating-point pixels are no photograph")
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except Unreadable:
        raise
    except Exception as error:  # damaged bytes surface as nearly any exception of a decoder
        raise Unreadable(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Without the machine's path in it."""
    if isinstance(error, pillow.UnidentifiedImageError):
        return "not an image"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


def view(file: Path, pose: Pose | None = None) -> View:
    """An image file as a view of its folder."""
    return View(key=file.name, read=lambda: read(file), pose=pose)


def _digest(files: list[Path], sizes: list[int]) -> str:
    """As for one big file: up to 64 MiB everything counts; above, all names and sizes, and the contents of 16 spread files."""
    if sum(sizes) <= WHOLE_FILE_BYTES or len(files) <= SAMPLES:
        return digest_of_digests([(file.name, content_digest(file)) for file in files])
    sampled = {(len(files) - 1) * sample // (SAMPLES - 1) for sample in range(SAMPLES)}
    contents = [
        content_digest(file) if index in sampled else str(size) for index, (file, size) in enumerate(zip(files, sizes, strict=True))
    ]
    return digest_of_digests([(file.name, content) for file, content in zip(files, contents, strict=True)])
