"""CroCo's published pair lists: pairs that were chosen already, taken as they are; their overlap is
measured.

Layouts (`form`):

    pairs    habitat_release/pairs.txt         `img1 img2` a line; paths that hold "val" are left
                                               out, as in CroCo's training
    stems    <Dataset>_crops/listing.txt       "# pair_path", then a stem a line: <stem>_1.jpg and
                                               <stem>_2.jpg
    crops    crops_release.txt                 `img1, img2, rotation`, then a line of 8 integers for
                                               each crop of the two:
                                               l1, r1, t1, b1, l2, r2, t2, b2; the images are the
                                               user's

Rotation: degrees of the second image; up to 60 either way it is taken for none, beyond it is
rounded to quarter turns (counter-clockwise), by which the second crop is turned. A clip is the
folder of the first image. Paths that leave `images` are refused.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.infra.confined import is_below
from mimic.sources import images
from mimic.sources.base import (
    Description,
    Group,
    Image,
    Unreadable,
    View,
    digest_of_digests,
    numeric_order,
    read_text,
    require_folder,
    stamp,
)
from mimic.sources.photos import pictures

Box = tuple[int, int, int, int]  # left, right, top, bottom, right and bottom excluded
NO_ROTATION_DEG = 60


@dataclass(frozen=True)
class CroppedImage:
    """A view: an image, or a box of it, turned."""

    path: str
    box: Box | None = None
    quarter_turns: int = 0

    @property
    def key(self) -> str:
        return (
            self.path
            if self.box is None
            else f"{self.path}[{','.join(map(str, self.box))}]@{self.quarter_turns}"
        )


class CropsSource:
    """See `config.Crops`."""

    def __init__(self, name: str, section: config.Crops, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}
        self._images = root / section.images

    def clips(self) -> list[str]:
        require_folder(self.name, self.root)
        if not self._pairs:
            raise BadInput(
                f"sources.{self.name}.list: {self._section.list} holds no pair of the form "
                f"{self._section.form!r}"
            )
        return sorted(self._pairs, key=numeric_order)

    def describe(self, clip: str) -> Description:
        pairs = self._pairs[clip]
        description = images.describe_listed(
            self._images, {crop.path for pair in pairs for crop in pair}
        )
        description["digest"] = digest_of_digests(
            [("images", description["digest"]), *((a.key, b.key) for a, b in pairs)]
        )
        return description

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        for pair in self._pairs.get(clip, ()):
            views = tuple(
                View(crop.key, functools.partial(self._read, crop), None) for crop in pair
            )
            yield Group(views=views, pairs=((0, 1),), precomputed=_none_known)

    def _read(self, crop: CroppedImage) -> Image:
        if not is_below(crop.path):
            raise Unreadable(f"{crop.path} leaves {self._section.images}")
        file = self._images / crop.path
        image = images.read(file)
        if crop.box is not None:  # of pixels as they are stored, which CroCo reads
            image = pictures.as_stored(image, pictures.orientation(file))
            left, right, top, bottom = crop.box
            height, width = image.shape[:2]
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                raise Unreadable(
                    f"{crop.path}: the crop {crop.box} is not within {width} x {height}"
                )
            image = image[top:bottom, left:right]
        return np.ascontiguousarray(np.rot90(image, crop.quarter_turns))

    @property
    def _pairs(self) -> dict[str, list[tuple[CroppedImage, CroppedImage]]]:
        path = self.root / self._section.list
        return _read_list(path, stamp(path), self._section.form)


@functools.lru_cache(maxsize=1)  # a worker process opens the source anew for every shard
def _read_list(
    path: Path,
    stamped: tuple[int, int],  # noqa: ARG001
    form: str,
) -> dict[str, list[tuple[CroppedImage, CroppedImage]]]:
    """Clip -> its pairs, in the order of the file; `stamped` only tells versions of the file apart.

    Raises:
        BadInput: a line that is not of the form.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a readable list ({error})") from None
    numbered = [
        (number, line.strip())
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    pairs: dict[str, list[tuple[CroppedImage, CroppedImage]]] = defaultdict(list)
    for pair in {"pairs": _pairs, "stems": _stems, "crops": _crops}[form](path, numbered):
        pairs[PurePosixPath(pair[0].path).parent.as_posix()].append(pair)
    return dict(pairs)


Lines = list[tuple[int, str]]


def _pairs(path: Path, lines: Lines) -> Iterator[tuple[CroppedImage, CroppedImage]]:
    for number, line in lines:
        match line.split():
            case [first, second] if "val" not in line:
                yield CroppedImage(first), CroppedImage(second)
            case [_, _]:
                pass
            case _:
                raise BadInput(f"{path}: line {number} is not two paths: {line[:80]!r}")


def _stems(path: Path, lines: Lines) -> Iterator[tuple[CroppedImage, CroppedImage]]:  # noqa: ARG001
    for _, stem in lines:
        yield CroppedImage(f"{stem}_1.jpg"), CroppedImage(f"{stem}_2.jpg")


def _crops(path: Path, lines: Lines) -> Iterator[tuple[CroppedImage, CroppedImage]]:
    images: tuple[str, str, int] | None = None
    for number, line in lines:
        fields = [field.strip() for field in line.split(",")]
        integers = [int(field) for field in fields if re.fullmatch(r"-?[0-9]{1,9}", field)]
        if len(integers) == len(fields) == 8 and images is not None:
            l1, r1, t1, b1, l2, r2, t2, b2 = integers
            yield (
                CroppedImage(images[0], (l1, r1, t1, b1)),
                CroppedImage(images[1], (l2, r2, t2, b2), images[2]),
            )
        elif len(fields) == 3 and re.fullmatch(r"-?[0-9]{1,9}", fields[2]):
            images = (fields[0], fields[1], quarter_turns(int(fields[2])))
        else:
            raise BadInput(
                f"{path}: line {number} is neither 'img1, img2, rotation' nor eight integers below "
                f"one: {line[:80]!r}"
            )


def quarter_turns(rotation_deg: int) -> int:
    """Counter-clockwise, 0 to 3."""
    return 0 if abs(rotation_deg) <= NO_ROTATION_DEG else round(rotation_deg / 90) % 4


def _none_known() -> None:
    return None
