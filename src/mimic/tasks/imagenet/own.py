"""Folders of classes of one's own: a folder a class, called as you call it, images of any ending in
it or below it.

    train/CLASS/*  val/CLASS/*       or test/; or CLASS/train/*, CLASS/test/*
    CLASS/*                          with train.txt and test.txt, or without: of each class a fifth
                                     is scored, chosen by the CRC-32 of the images' names

Classes are numbered by sorted name. Photographs are read upright and in sRGB, as the miner reads
them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from mimic.errors import BadInput
from mimic.sources.base import Unreadable, numeric_order
from mimic.sources.photos import pictures
from mimic.sources.photos.folders import files_below, passed_over, shown
from mimic.sources.rgbd_layouts import COLOUR_FOLDERS, DEPTH_FOLDERS, same_name
from mimic.tasks.imagenet.class_folders import class_paths
from mimic.tasks.own.files import contents, digests_of, first_named, same_on_both_sides
from mimic.tasks.own.splits import (
    SCORED,
    LabelledImage,
    Parts,
    checksum,
    split,
    without_ending,
)

BETWEEN = Path("/")  # the splits, in a digest
PHOTOS = (*COLOUR_FOLDERS, "photos")
# Folders beside photographs, and the tasks that read them.
LABELS = {
    **dict.fromkeys(DEPTH_FOLDERS, ("depth", "depth, linear-depth or few-shot-depth")),
    **dict.fromkeys(
        ("masks", "mask", "labels", "annotations"),
        ("masks", "segmentation, linear-segmentation or few-shot-segmentation"),
    ),
}


class OwnClasses:
    """A listed folder; `train` and `val` are (paths, classes int64[n]) in a fixed order, `wnids`
    the names of the classes.

    Raises:
        BadInput: fewer than two classes, a class that is scored and never trained on, or a split
            that is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._skipped: dict[str, str] = {}
        self._items = _items(folder, self._skipped)
        self._require_classes({item.scene for item in self._items})
        parts = split(folder, self._items, _fifth_of_each)
        self._rule = parts.rule
        self._unused = parts.unused
        used = (*parts.train.tolist(), *parts.test.tolist())
        self.wnids = sorted({self._items[index].scene for index in used})
        self._require_classes(self.wnids)
        numbers = {name: number for number, name in enumerate(self.wnids)}
        self.train = self._listed(parts.train, numbers)
        self.val = self._listed(parts.test, numbers)
        self._require_trained()

    def read(self, path: Path) -> np.ndarray:
        """uint8[h, w, 3] sRGB, upright.

        Raises:
            BadInput: it cannot be read as an image.
        """
        try:
            return pictures.read(path)
        except (Unreadable, OSError) as error:
            raise BadInput(f"{path}: {error}; replace it, or take it away") from None

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return digests_of([*self.train[0], *self.val[0]])

    @cached_property
    def extent(self) -> dict[str, int | str]:
        """Bytes of all images; digest of their names, contents and splits."""
        files = contents(self._digests, self.folder, ())
        digest = hashlib.sha256(str(files["digest"]).encode())
        for path in (*self.train[0], BETWEEN, *self.val[0]):
            name = path if path == BETWEEN else path.relative_to(self.folder)
            digest.update(f"{name.as_posix()}\n".encode(errors="surrogateescape"))
        return {**files, "digest": digest.hexdigest()}

    @property
    def own(self) -> str:
        """What the protocol says, so that nobody takes the number for ImageNet's."""
        rule = self._rule.partition(";")[0]
        return f"own data {shown(self.folder.name)} ({len(self.wnids)} classes; split {rule})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, a line each."""
        counts = Counter(self.train[1].tolist())
        tested = Counter(self.val[1].tolist())
        few = min(range(len(self.wnids)), key=lambda number: counts[number])
        untested = [name for number, name in enumerate(self.wnids) if not tested[number]]
        lines = [
            f"classes: {len(self.wnids)} ({', '.join(shown(name) for name in self.wnids[:8])}"
            f"{', ...' if len(self.wnids) > 8 else ''}), the fewest training images "
            f"{counts[few]} of {shown(self.wnids[few])}",
            f"split: {self._rule}",
        ]
        if untested:
            lines.append(f"never scored: {len(untested)} classes, such as {shown(untested[0])}")
        unused = [f"{count:,} {why}" for why, count in self._unused.items()]
        unused += first_named(self._skipped)
        if unused:
            lines.append(f"not used: {', '.join(unused)}")
        lines += same_on_both_sides(self._digests, self.train[0], self.val[0], self.folder)
        return tuple(lines)

    def _require_classes(self, names: Collection[str]) -> None:
        if len(names) < 2:
            raise BadInput(
                f"{self.folder}: {len(names)} classes; a folder a class is needed, with images in "
                f"it, or train/ and val/ that hold such folders{passed_over(self._skipped)}"
            )

    def _listed(
        self, indices: np.ndarray, numbers: dict[str, int]
    ) -> tuple[list[Path], np.ndarray]:
        chosen = [self._items[index] for index in indices.tolist()]
        classes = np.array([numbers[item.scene] for item in chosen], np.int64)
        return [item.image for item in chosen], classes

    def _require_trained(self) -> None:
        never = sorted(set(self.val[1].tolist()) - set(self.train[1].tolist()))
        if never:
            raise BadInput(
                f"{self.folder}: class {self.wnids[never[0]]} is scored and has no training image; "
                "are the folders of both splits called alike?"
            )


def is_own(folder: Path, synset: re.Pattern[str]) -> bool:
    """Whether a folder holds named classes rather than ImageNet's.

    Args:
        synset: pattern of the official names of classes.
    """
    parent = folder / "train" if (folder / "train").is_dir() else folder
    if not parent.is_dir():
        return False
    names = [path.name for path in parent.iterdir() if path.is_dir()]
    if any(synset.fullmatch(name) for name in names):
        return False
    return bool(class_paths(files_below(folder, pictures.EXTENSIONS, each_path=True)))


def _items(folder: Path, skipped: dict[str, str]) -> list[LabelledImage]:
    """Images with their class as `scene`, in the order of their names."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; point `data` at a folder of classes")
    items = []
    paths = files_below(folder, pictures.EXTENSIONS, skipped, each_path=True)
    _refuse_labelled(folder, paths)
    known = class_paths(paths)
    for path in paths:
        if path not in known:
            skipped[path] = "in no folder of a class"
            continue
        image = folder / path
        name = same_name(without_ending(path))
        items.append(LabelledImage(name, image, image, known[path].name, known[path].side))
    return sorted(items, key=lambda item: (numeric_order(item.name), item.image.name))


def _refuse_labelled(folder: Path, paths: Sequence[str]) -> None:
    """Images with depth or masks, whose folders would pass for classes.

    Raises:
        BadInput: it is such a folder, and names the tasks that fit.
    """
    for photos in sorted({(folder / path).parent for path in paths}):
        parent = photos.parent
        if photos.name.lower() not in PHOTOS or parent.name.lower() in PHOTOS:
            continue
        for name, (what, tasks) in LABELS.items():
            if (parent / name).is_dir():
                raise BadInput(
                    f"{parent}: {photos.name}/ and {name}/ are images with {what}, not classes; "
                    f"tasks that read them: {tasks}"
                )


def _fifth_of_each(items: Sequence[LabelledImage]) -> Parts:
    """Of each class the fifth with the lowest check sums; the only image of a class is trained
    on."""
    classes: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        classes[item.scene].append(index)
    tested: set[int] = set()
    for indices in classes.values():
        indices.sort(key=lambda index: (checksum(items[index].name), index))
        tested.update(indices[: max(1, round(len(indices) / SCORED))] if len(indices) > 1 else ())
    is_tested = np.isin(np.arange(len(items)), sorted(tested))
    rule = "a fifth of each class, by the images' names; write train.txt and test.txt to choose"
    return Parts(np.flatnonzero(~is_tested), np.flatnonzero(is_tested), rule + " yourself")
