"""Which folder on an image's path is its class, and which its side of a split:

    train/CLASS/*  CLASS/train/*  CLASS/*    and images/ or data/ around any of them

A class may be called as a side or such a folder is (`test`, `data`): it is one inside a side, and
where it holds nothing but images beside folders of other names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mimic.sources.rgbd_layouts import same_name
from mimic.tasks.own.splits import SIDES

AROUND = ("images", "image", "data")  # folders around the classes that are none


class ClassPath(NamedTuple):
    """The class of an image, and the folder named after its side of a split, or ""."""

    name: str
    side: str


def class_paths(paths: Sequence[str]) -> dict[str, ClassPath]:
    """By the paths of images below a folder, posix; without those in no folder of a class."""
    known: dict[str, ClassPath] = {}
    _descend({path: path.split("/")[:-1] for path in paths}, "", known)
    return known


def _descend(folders: Mapping[str, Sequence[str]], side: str, known: dict[str, ClassPath]) -> None:
    """
    Args:
        folders: by path, those on the way to an image that have not been understood.
        side: of a split that all of them are in, if it has been named.
    """
    by_head: dict[str, dict[str, Sequence[str]]] = {}
    for path, names in folders.items():
        if names:
            by_head.setdefault(names[0], {})[path] = names[1:]
    passed = {name for name in by_head if _may_be_passed(name, side)}
    for name, below in by_head.items():
        is_of_images = not any(below.values())
        if name in passed and not (is_of_images and passed < set(by_head)):
            _descend(below, side or (name if name.lower() in SIDES else ""), known)
            continue
        for path, names in below.items():
            inner = next((name for name in names if name.lower() in SIDES), "")
            known[path] = ClassPath(same_name(name), side or inner)


def _may_be_passed(name: str, side: str) -> bool:
    return name.lower() in AROUND or (not side and name.lower() in SIDES)
