"""What of a labelled folder is trained on and what is scored, in this order:

    train.txt, test.txt      a name a line (also nyu_train.txt, splits/val.txt; `#` comments), with
                             or without ending and folder, or "image label"; without a test list
                             the validation list is scored
    train/, test/            folders of these names anywhere on an image's path; or val/
    neither                  a fifth is scored: of several scenes (folders) whole ones, chosen by
                             the CRC-32 of their names; of one scene the end, by name

so that the same folder is split the same way everywhere. Links are images of their own where a
split is stated, as many a split is made of links; else each file counts once.
"""

from __future__ import annotations

import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mimic.errors import BadInput

WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation", "dev"),
}
SIDES = {word: side for side, words in WORDS.items() for word in words}
LIST = re.compile(rf"(?:.*[-_. ])?({'|'.join(SIDES)})\.txt", re.IGNORECASE)
SCORED = 5  # one in so many
FileId = tuple[int, int]


@dataclass(frozen=True)
class LabelledImage:
    """An image, its label, and the scene it shows: those of one scene stay together.

    name: the image's path below the folder, without its ending.
    side: the folder on that path that is named after its side of a split, or ""; None: the first
        such folder is.
    """

    name: str
    image: Path
    label: Path
    scene: str
    side: str | None = None


@dataclass(frozen=True)
class Parts:
    """Places of the items to train on and to score, how they were chosen, and what is used for
    neither, with the reason."""

    train: np.ndarray
    test: np.ndarray
    rule: str
    unused: dict[str, int] = field(default_factory=dict)


def split(
    folder: Path,
    items: Sequence[LabelledImage],
    otherwise: Callable[[Sequence[LabelledImage]], Parts] | None = None,
) -> Parts:
    """
    Args:
        otherwise: divides items where nothing states their split; null = by scenes.

    Raises:
        BadInput: one split only is stated, a list names what is not there, an item is in both, or a
            single item cannot be divided.
    """
    if len(items) < 2:
        raise BadInput(f"{folder}: {len(items)} labelled images; two are needed, one to score")
    lists = _lists(folder)
    sides = {side: _named(path, items) for side, path in lists.items()} or _by_folder(items)
    if not sides:
        return _each_once(folder, items, otherwise or _fifth)
    tested = "test" if "test" in sides else "validation"
    stated = ", ".join(path.name for path in lists.values()) or "the folders' names"
    for side, words in (("train", "train"), (tested, "test or val")):
        if not len(sides.get(side, ())):
            raise BadInput(
                f"{folder}: by {stated} there is nothing in {words}; state both, or neither: a "
                "fifth is scored then"
            )
    _require_apart(folder, items, sides["train"], sides[tested], stated)
    again = sum(_repeated(items, sides[side]) for side in ("train", tested))
    spare = sides["validation"] if tested == "test" and "validation" in sides else ()
    rest = len(items) - len(sides["train"]) - len(sides[tested]) - len(spare)
    unused = {"of the validation split": len(spare), "in no split": rest}
    rule = f"by {stated}" if lists else f"by the folders train and {tested}"
    if again:
        rule += f"; {again:,} images of a split are other names (links) of images of it"
    return Parts(
        np.array(sides["train"]),
        np.array(sides[tested]),
        rule,
        {why: count for why, count in unused.items() if count > 0},
    )


def _lists(folder: Path) -> dict[str, Path]:
    lists: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.txt"), *(folder / "splits").glob("*.txt")]):
        match = LIST.fullmatch(path.name)
        if match is None:
            continue
        side = SIDES[match[1].lower()]
        if side in lists:
            raise BadInput(
                f"{folder}: both {lists[side].name} and {path.name} list the {side} split; keep one"
            )
        lists[side] = path
    return lists


def _named(path: Path, items: Sequence[LabelledImage]) -> list[int]:
    """Places of the items that a list names, in their own order."""
    known = _keys(items)
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    chosen: set[int] = set()
    lines = [line.strip() for line in text.splitlines()]
    for line in lines:
        if not line or line.startswith("#"):
            continue
        index = next((known[key] for key in _spellings(line) if key in known), None)
        if index is None:
            raise BadInput(f"{path}: {line[:80]!r} names no image with a label in {path.parent}")
        if index < 0:
            raise BadInput(
                f"{path}: {line[:80]!r} names several images; write the path below {path.parent}"
            )
        if not any(key in known for key in _as_written(line)):
            _require_label(path, line, items[index])
        chosen.add(index)
    return sorted(chosen)


def _require_label(path: Path, line: str, item: LabelledImage) -> None:
    """Of "image label": labels are told by their names, and a list cannot give an image another.

    Raises:
        BadInput: it names one.
    """
    words = line.split()
    if len(words) != 2 or not set("./\\") & set(words[1]):
        return
    label = unicodedata.normalize("NFC", without_ending(item.label.as_posix()))
    _, stated = _as_written(words[1])
    if label != stated and not label.endswith(f"/{stated}"):
        raise BadInput(
            f"{path}: {line[:80]!r} gives {item.image.name} another label than {item.label.name}, "
            "which its name says; name the files alike"
        )


def _keys(items: Sequence[LabelledImage]) -> dict[str, int]:
    """Every end of an item's path, and its place; -1 where several items share it."""
    known: dict[str, int] = {}
    for index, item in enumerate(items):
        parts = item.name.split("/")
        for start in range(len(parts)):
            key = "/".join(parts[start:])
            known[key] = -1 if key in known else index
    for index, item in enumerate(items):  # a whole path means that item, whatever ends alike
        known[item.name] = index
    return known


def _spellings(line: str) -> Iterable[str]:
    """A line as a name, with and without its ending; then its first word."""
    for text in (line, line.split()[0], line.split(",")[0]):
        yield from _as_written(text)


def _as_written(text: str) -> Iterable[str]:
    name = unicodedata.normalize("NFC", text.strip().replace("\\", "/").removeprefix("./"))
    yield name.strip("/")
    yield without_ending(name.strip("/"))


def without_ending(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    return f"{folder}{slash}{stem}"


def _by_folder(items: Sequence[LabelledImage]) -> dict[str, list[int]]:
    """Places by the split that a folder on the way to an image is named after."""
    sides: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        for part in item.name.split("/")[:-1] if item.side is None else [item.side]:
            if part.lower() in SIDES:
                sides.setdefault(SIDES[part.lower()], []).append(index)
                break
    return sides


def _fifth(items: Sequence[LabelledImage]) -> Parts:
    scenes = sorted({item.scene for item in items}, key=lambda name: (checksum(name), name))
    if len(scenes) > 1:
        count = max(1, round(len(scenes) / SCORED))
        tested = set(scenes[:count])
        is_tested = np.array([item.scene in tested for item in items])
        rule = f"{count} of {len(scenes)} scenes are scored, chosen by their names"
    else:
        start = len(items) - max(1, round(len(items) / SCORED))
        is_tested = np.arange(len(items)) >= start
        rule = "one scene, of which the last fifth by name is scored"
    advice = "; write train.txt and test.txt to choose yourself"
    return Parts(np.flatnonzero(~is_tested), np.flatnonzero(is_tested), rule + advice)


def checksum(name: str) -> int:
    return zlib.crc32(name.encode(errors="surrogateescape"))


def _require_apart(
    folder: Path, items: Sequence[LabelledImage], train: list[int], test: list[int], stated: str
) -> None:
    shared = sorted(set(train) & set(test))
    if shared:
        raise BadInput(
            f"{folder}: by {stated} {len(shared)} images are both trained on and scored, the first "
            f"is {items[shared[0]].name}"
        )
    trained: dict[FileId | None, int] = {_file_of(items[index]): index for index in train}
    trained.pop(None, None)
    links = [
        (items[index], items[trained[file]])
        for index in test
        if (file := _file_of(items[index])) in trained
    ]
    if links:
        scored, other = links[0]
        raise BadInput(
            f"{folder}: by {stated} {len(links)} images are both trained on and scored under two "
            f"names, such as {other.image.relative_to(folder)} and "
            f"{scored.image.relative_to(folder)}, which are one file; take one of the two away"
        )


def _file_of(item: LabelledImage) -> FileId | None:
    """Device and inode of an image's file, through links; None of a frame of a video."""
    try:
        status = item.image.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None  # 0: it has no numbers


def _repeated(items: Sequence[LabelledImage], side: Sequence[int]) -> int:
    files = [file for index in side if (file := _file_of(items[index])) is not None]
    return len(files) - len(set(files))


def _each_once(
    folder: Path,
    items: Sequence[LabelledImage],
    divide: Callable[[Sequence[LabelledImage]], Parts],
) -> Parts:
    """The split of items by a rule that knows nothing of links: of the names of one file the one
    that lies there itself counts, else the first.

    Raises:
        BadInput: a single file is left, which cannot be divided.
    """
    order = sorted(range(len(items)), key=lambda index: _is_linked(folder, items[index].image))
    files: dict[FileId | int, int] = {}
    for index in order:
        files.setdefault(_file_of(items[index]) or index, index)
    kept = np.array(sorted(files.values()))
    if len(kept) < 2:
        raise BadInput(f"{folder}: all labelled images are one file; two are needed, one to score")
    parts = divide([items[index] for index in kept])
    unused = dict(parts.unused)
    if len(kept) < len(items):
        unused["links to other images"] = len(items) - len(kept)
    return Parts(kept[parts.train], kept[parts.test], parts.rule, unused)


def _is_linked(folder: Path, image: Path) -> bool:
    """Whether a link leads to an image, on its way below the folder or as its name."""
    own = os.path.join(os.path.realpath(folder), os.path.relpath(image, folder))
    return os.path.realpath(image) != own
