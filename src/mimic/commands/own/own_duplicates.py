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
                path = one.root / name
                is_link = os.path.realpath(path) != os.path.abspath(path)
                real = file_id(path)
                if real not in owners or (owners[real].is_link and not is_link):
                    owners[real] = Owner(one, name, is_link)
    return owners


def first_folder(path: Path, shown: str, pictures: dict[FileId, str]) -> str | None:
    """A folder that holds the images of this one already, if every one of them is known; else they
    are known from now on."""
    if not path.is_dir():
        return None
    ids = [file_id(path / name) for name in base.files_in(path, images.EXTENSIONS)]
    if ids and all(real in pictures for real in ids):
        return pictures[ids[0]]
    for real in ids:
        pictures.setdefault(real, shown)
    return None


def duplicate_reason(shown: str, owner: str) -> str:
    return (
        "named more than once; mined once"
        if shown == owner
        else f"the same as {owner}, which is mined"
    )


def file_id(path: Path) -> FileId:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise BadInput("a link to nothing" if path.is_symlink() else "it is gone") from None
    return status.st_dev, status.st_ino


@contextmanager
def skipping(skipped: dict[str, str], shown: str) -> Iterator[None]:
    """What cannot be looked at is named, and the rest goes on."""
    try:
        yield
    except OSError as error:
        skipped[shown] = error.strerror or str(error)
    except BadInput as error:
        skipped[shown] = str(error).removeprefix(f"{shown}: ")
