"""ADE20K as the SceneParsing benchmark distributes it (ADEChallengeData2016), read image by image.

    <folder>/images/{training,validation}/<stem>.jpg         RGB of any size
    <folder>/annotations/{training,validation}/<stem>.png    8 bits, same size: 0 = unlabelled, else
                                                             the number of a class, from 1
    <folder>/objectInfo150.txt (or .csv)                     a row a class: Idx, Ratio, Train, Val,
                                                             Stuff, Name

The official set has 20,210 training and 2,000 validation images and 150 classes. Labels here count
from 0; unlabelled is IGNORED.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimic.errors import BadInput
from mimic.tasks.engine.image_io import extent, read_labels, read_photo

SPLITS = ("training", "validation")
INFO = ("objectInfo150.txt", "objectInfo150.csv")
CLASSES = 150
IGNORED = 255  # in labels: unlabelled, or padding


@dataclass(frozen=True)
class AdeImage:
    """One labelled image: image uint8[h, w, 3] RGB, labels uint8[h, w], class from 0 or IGNORED."""

    image: np.ndarray
    labels: np.ndarray


class Ade20k:
    """A listed set: `train` and `test` (the validation split) hold image numbers counted from 0;
    `read` gives one image.

    Args:
        counts: how many images the two splits must have; None = whatever is there.

    Raises:
        BadInput: a folder or file is missing, an image has no annotation, the counts or classes are
            not the expected ones.
    """

    n_classes = CLASSES
    own = ""  # in the protocol, of data that are not the official ones
    notes: tuple[str, ...] = ()  # by `prepare`, beyond what every set says

    def __init__(self, folder: Path, counts: tuple[int, int] | None) -> None:
        self.folder = folder
        self.names = _names(folder)
        self._pairs = [_pairs(folder, split) for split in SPLITS]
        actual = (len(self._pairs[0]), len(self._pairs[1]))
        if counts is not None and actual != counts:
            raise BadInput(
                f"{folder}: {actual[0]} training and {actual[1]} validation images, expected "
                f"{counts[0]} and {counts[1]}; "
                "unpack the archive again"
            )
        self.train = np.arange(actual[0])
        self.test = np.arange(actual[0], sum(actual))

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    def stem(self, index: int) -> str:
        """The image's name in the set, such as ADE_val_00000001."""
        return self._pair(index)[0].stem

    def read(self, index: int) -> AdeImage:
        """Image `index`, counted from 0, the training split first.

        Raises:
            BadInput: the labels are not ADE20K's 150 classes, or of another size than the image.
        """
        image_path, label_path = self._pair(index)
        image = read_photo(image_path)
        raw = read_labels(label_path)
        if raw.ndim != 2 or raw.dtype != np.uint8:
            raise BadInput(
                f"{label_path}: {raw.dtype} {raw.shape}, expected 8-bit class numbers of one "
                "channel (not the full ADE20K's masks)"
            )
        if raw.shape != image.shape[:2]:
            raise BadInput(
                f"{label_path}: {raw.shape[1]} x {raw.shape[0]} but its image is {image.shape[1]} "
                f"x {image.shape[0]}"
            )
        if raw.max(initial=0) > CLASSES:
            raise BadInput(
                f"{label_path}: class {raw.max()}, expected 0 (unlabelled) to {CLASSES}; are these "
                "labels shifted, or of another set?"
            )
        return AdeImage(image, raw - np.uint8(1))  # 0 wraps to IGNORED

    def extent(self) -> dict[str, int | str]:
        """Bytes and digest of all files."""
        return extent(
            (path for pairs in self._pairs for pair in pairs for path in pair), self.folder
        )

    def _pair(self, index: int) -> tuple[Path, Path]:
        first = self._pairs[0]
        return first[index] if index < len(first) else self._pairs[1][index - len(first)]


def _pairs(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """Images and annotations of a split, by name."""
    by_stem = []
    for kind, suffix in (("images", ".jpg"), ("annotations", ".png")):
        split_folder = folder / kind / split
        if not split_folder.is_dir():
            raise BadInput(
                f"{split_folder}: no such folder; point `data` at the unpacked ADEChallengeData2016"
            )
        by_stem.append({path.stem: path for path in split_folder.glob(f"*{suffix}")})
    images, annotations = by_stem
    if not images:
        raise BadInput(f"{folder / 'images' / split}: holds no .jpg; unpack the archive again")
    lonely = sorted(images.keys() ^ annotations.keys())
    if lonely:
        has, lacks = ("image", "annotation") if lonely[0] in images else ("annotation", "image")
        raise BadInput(
            f"{folder}: {split}/{lonely[0]} has an {has} but no {lacks} ({len(lonely)} such); "
            "unpack the archive again"
        )
    return [(images[stem], annotations[stem]) for stem in sorted(images)]


def _names(folder: Path) -> tuple[str, ...]:
    """Names of the classes, the first of each row's synonyms."""
    path = next((folder / name for name in INFO if (folder / name).is_file()), None)
    if path is None:
        raise BadInput(f"{folder}: neither {' nor '.join(INFO)}; unpack the archive again")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [
        row
        for row in csv.reader(lines, delimiter="\t" if lines and "\t" in lines[0] else ",")
        if row
    ]
    header = [cell.strip() for cell in rows[0]] if rows else []
    if header[:1] != ["Idx"] or header[-1:] != ["Name"]:
        raise BadInput(
            f"{path}: its first line is not Idx, Ratio, Train, Val, Stuff, Name; {path.name} of "
            "the archive is needed"
        )
    numbers = [row[0].strip() for row in rows[1:]]
    if numbers != [str(number) for number in range(1, CLASSES + 1)]:
        raise BadInput(
            f"{path}: {len(numbers)} classes, expected {CLASSES} numbered from 1 in order"
        )
    return tuple(row[-1].split(";")[0].split(",")[0].strip() for row in rows[1:])
