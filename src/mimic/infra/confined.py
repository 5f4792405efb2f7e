"""Names that stand in files, as places below a folder.

A manifest, a list, an archive or a card may come from anybody: what it names must not lead anywhere
else, whatever system it was written on. All that joins such a name to a folder asks here.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mimic.errors import BadInput
from mimic.infra.storage import short

PART_BYTES = 255  # of a file's name, on nearly every file system
WHOLE_BYTES = 4000  # of a path, a little below Linux' limit with its folder


def wrong_with(name: str) -> str | None:
    """Why this is no place below a folder, in a few words; None where it is one.

    Only the name is looked at. Links on the way are those of whoever owns the folder.
    """
    if not name or name == ".":
        return "is empty"
    if "\0" in name:
        return "holds a zero byte"
    if "\\" in name:
        return "holds a backslash; on Linux and macOS folders end in /"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "does not begin in the folder"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the folder"
    return _too_long(name)


def _too_long(name: str) -> str | None:
    try:
        sizes = [len(part.encode(errors="surrogateescape")) for part in name.split("/")]
    except UnicodeEncodeError:
        return "is no name of a file"
    if max(sizes) > PART_BYTES or sum(sizes) + len(sizes) > WHOLE_BYTES:
        return "is too long for a file"
    return None


def is_below(name: str) -> bool:
    return wrong_with(name) is None


def below(folder: Path, name: str, said_by: Path | str) -> Path:
    """The file of that name below a folder, to be read.

    Args:
        said_by: the file that the name stands in, for the message.

    Raises:
        BadInput: the name leads elsewhere, or cannot be that of a file.
    """
    why = wrong_with(name)
    if why is not None:
        raise refused(said_by, name, why)
    return folder / name


def inside(folder: Path, name: str, said_by: Path | str) -> Path:
    """`below`, of a file that is to be written: no link on the way may lead out of the folder,
    either; the folder itself may be one."""
    path = below(folder, name, said_by)
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        stays = False
    if not stays:
        raise refused(said_by, name, f"leads out of {folder} by a link")
    return path


def refused(said_by: Path | str, name: str, why: str) -> BadInput:
    return BadInput(
        f"{said_by}: names {short(name)!r}, which {why}; refused: ask whoever made it for another"
    )
