"""What lies in a folder: files by name, in numeric order; and what is passed over, each with the reason.

Symbolic links are followed, but each real folder is entered once and each real file is listed once: under its own name where
that lies below the root, else under the first link's. Hidden entries, and names that cannot be written down, are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path

DIGITS = frozenset("0123456789")
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and bytes that are not UTF-8

Wanted = Callable[[str], bool]


@dataclass
class Listing:
    """Paths below a root, posix."""

    files: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # file or folder -> why; names are escaped


@dataclass
class _Walk:
    """What is known while a tree is walked."""

    root: str
    wanted: Wanted
    kind: str | None
    listing: Listing = field(default_factory=Listing)
    folders: dict[str, str] = field(default_factory=dict)  # real path -> path below the root
    links: list[str] = field(default_factory=list)  # below the root, of files
    linked_folders: list[str] = field(default_factory=list)

    def skip(self, path: str, why: str) -> None:
        self.listing.skipped[shown(path)] = why


def tree(root: Path, wanted: Wanted, kind: str | None) -> Listing:
    """All files below a root whose names are wanted, and everything else, with the reason.

    Args:
        wanted: of a file's name.
        kind: what is wanted, for the reason why another file is not, such as "an image". None: other files belong to the layout,
            and are not named.
    """
    walk = _Walk(os.fspath(root), wanted, kind)
    _enter(walk, "", os.path.realpath(root))
    while walk.linked_folders:  # after all that lie there themselves: a folder goes by its own name before a link's
        _enter_link(walk, walk.linked_folders.pop(0))
    _add_links(walk)
    walk.listing.files.sort(key=numeric_order)
    return walk.listing


def files_below(root: Path, extensions: Set[str], skipped: dict[str, str] | None = None, kind: str | None = None) -> list[str]:
    """The files of a whole tree with one of the extensions (in any case): paths below root, posix, in numeric order.

    Args:
        skipped: is told what else lies there, and why it is passed over.
        kind: see `tree`.
    """
    found = tree(root, lambda name: has_extension(name, extensions), kind)
    if skipped is not None:
        skipped.update(found.skipped)
    return found.files


def files_in(folder: Path, extensions: Set[str]) -> list[str]:
    """Names of the files of a folder with one of the extensions, in numeric order; as `files_below` sees the folder alone.

    Raises:
        OSError: the folder cannot be opened.
    """
    walk = _Walk(os.fspath(folder), lambda name: has_extension(name, extensions), None)
    walk.folders[os.path.realpath(folder)] = ""
    with os.scandir(folder) as entries:
        for entry in entries:
            _sort_in(walk, "", entry)
    _add_links(walk)
    return sorted(walk.listing.files, key=numeric_order)


def has_extension(name: str, extensions: Set[str]) -> bool:
    return os.path.splitext(name)[1].lower() in extensions


def numeric_order(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which `9.jpg` comes before `10.jpg`."""
    return [(0, int(part)) if part[0] in DIGITS else (1, part) for part in re.split(r"([0-9]+)", name) if part]


def shown(name: str) -> str:
    """A name that can be written down in one line, whatever bytes it is made of: what cannot is escaped, as in Python."""
    return UNWRITABLE.sub(lambda letter: letter[0].encode("unicode_escape").decode(), name)


def _enter(walk: _Walk, top: str, real_top: str) -> None:
    """List a folder and those below it that are no links."""
    stack = [(top, real_top)]
    while stack:
        folder, real = stack.pop()
        if real in walk.folders:  # below the target of a link, and a target itself
            walk.skip(folder, f"the same folder as {walk.folders[real] or '.'}")
            continue
        walk.folders[real] = folder
        try:
            with os.scandir(os.path.join(walk.root, folder)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            walk.skip(folder or ".", error.strerror or type(error).__name__)
            continue
        below = [entry.name for entry in entries if _sort_in(walk, folder, entry)]
        stack += [(_join(folder, name), os.path.join(real, name)) for name in below]


def _sort_in(walk: _Walk, folder: str, entry: os.DirEntry[str]) -> bool:
    """Put an entry where it belongs: among the files, the links, or what is passed over; whether it is a folder to enter."""
    path = _join(folder, entry.name)
    if entry.name.startswith("."):
        walk.skip(path, "hidden")
        return False
    if UNWRITABLE.search(entry.name):
        walk.skip(path, "a name that cannot be written down: control characters, or bytes that are not UTF-8")
        return False
    match kind := _kind(entry):
        case "folder":
            return True
        case "link to a folder":
            walk.linked_folders.append(path)
        case "file" | "link to a file" if not walk.wanted(entry.name):
            if walk.kind is not None:
                walk.skip(path, f"not {walk.kind}")
        case "file":
            walk.listing.files.append(path)
        case "link to a file":
            walk.links.append(path)
        case _:
            walk.skip(path, kind)
    return False


def _kind(entry: os.DirEntry[str]) -> str:
    """What a directory's entry is; anything but files, folders and links to these is the reason why it is passed over."""
    link = "link to a " if entry.is_symlink() else ""
    try:
        if entry.is_dir():
            return f"{link}folder"
        if entry.is_file():
            return f"{link}file"
        entry.stat()
    except OSError as error:
        return f"a dead link ({error.strerror})" if link else str(error.strerror)
    return "neither a file nor a folder"


def _enter_link(walk: _Walk, path: str) -> None:
    real = os.path.realpath(os.path.join(walk.root, path))
    if real in walk.folders:
        walk.skip(path, f"a link to the folder {walk.folders[real] or '.'}, which is mined itself")
    elif os.path.commonpath([real, os.path.realpath(walk.root)]) == real:
        walk.skip(path, "a link to a folder that holds this one")
    else:
        _enter(walk, path, real)


def _add_links(walk: _Walk) -> None:
    """Links to files: each real file once."""
    taken: dict[str, str] = {}
    for path in sorted(walk.links, key=numeric_order):
        real = os.path.realpath(os.path.join(walk.root, path))
        if (itself := _listed(walk, real)) is not None:
            walk.skip(path, f"a link to {itself}, which is mined itself")
        elif real in taken:
            walk.skip(path, f"a link to the same file as {taken[real]}")
        else:
            taken[real] = path
            walk.listing.files.append(path)


def _listed(walk: _Walk, real: str) -> str | None:
    """The path under which a real file is listed, if it is."""
    folder, name = os.path.split(real)
    if folder not in walk.folders or name.startswith(".") or UNWRITABLE.search(name) or not walk.wanted(name):
        return None
    return _join(walk.folders[folder], name)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
