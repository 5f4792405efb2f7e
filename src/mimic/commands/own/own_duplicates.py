"""Your own data: every real file is mined once, by whatever names and links it is reached."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mimic.commands.own.own_kinds import PathClips
from mimic.errors import BadInput
from mimic.sources import base, images

FileId = tuple[int, int]  # what a file or folder is, by whatever name: device and inode


@dataclass(frozen=True)
class Owner:
    """The name under which a clip is mined."""

    held: PathClips
    name: str
    is_link: bool


def find_owners(held: Sequence[PathClips], skipped: dict[str, str]) -> dict[FileId, Owner]:
    """Under which of its names each clip is mined: the first that is no link, else the first. Names
    links to nothing."""
    owners: dict[FileId, Owner] = {}
    for one in held:
        for name in one.names:
            with skipping(skipped, one.shown(name)):
                place = one.root / name
                is_link = os.path.realpath(place) != os.path.abspath(place)
                real = file_id(place)
                if real not in owners or (owners[real].is_link and not is_link):
                    owners[real] = Owner(one, name, is_link)
    return owners


def first_folder(place: Path, shown: str, pictures: dict[FileId, str]) -> str | None:
    """A folder that holds the images of this one already, if every one of them is known; else they
    are known from now on."""
    if not place.is_dir():
        return None
    found = [file_id(place / name) for name in base.files_in(place, images.EXTENSIONS)]
    if found and all(real in pictures for real in found):
        return pictures[found[0]]
    for real in found:
        pictures.setdefault(real, shown)
    return None


def duplicate_reason(shown: str, owner: str) -> str:
    return (
        "named more than once; mined once"
        if shown == owner
        else f"the same as {owner}, which is mined"
    )


def file_id(place: Path) -> FileId:
    try:
        about = place.stat()
    except FileNotFoundError:
        raise BadInput("a link to nothing" if place.is_symlink() else "it is gone") from None
    return about.st_dev, about.st_ino


@contextmanager
def skipping(skipped: dict[str, str], shown: str) -> Iterator[None]:
    """What cannot be looked at is named, and the rest goes on."""
    try:
        yield
    except OSError as error:
        skipped[shown] = error.strerror or str(error)
    except BadInput as error:
        skipped[shown] = str(error).removeprefix(f"{shown}: ")
