"""The mark of a result: which command made this folder, under which name, and of which files it is.

    .mimic.json: {"made_by": "mimic", "kind": "pretrain", "name": "croco-3m", "files": ["card.json",
    ...]}

`files` is null while the folder is still being written. What a mark does not name is not ours.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra.storage import write_json

MARK = ".mimic.json"
MAKER = "mimic"
LARGEST_BYTES = 1 << 28  # of a mark; a million names of files are some 50 MB


@dataclass(frozen=True)
class Work:
    """What a folder is: made by which command, under which name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


def mark(folder: Path, work: Work, entries: Iterable[str] | None = None) -> None:
    """Make these entries of a folder, or all that it holds, the result of this work."""
    names = entries_of(folder) if entries is None else entries
    _write(folder, work, [name for name in names if name != MARK])


def mark_unfinished(folder: Path, work: Work) -> None:
    """Say of a folder that a result of this work is being made in it."""
    _write(folder, work, None)


def marked(folder: Path) -> tuple[Work, list[str] | None] | None:
    """What a folder's mark says, and of which files (None: it is being written).

    None where there is no mark of ours: none at all, damaged, of another maker, or no plain file.
    """
    path = folder / MARK
    try:
        looked = path.lstat()
        # a link may lead to somebody's file; opening a pipe would wait for ever
        if not stat.S_ISREG(looked.st_mode) or looked.st_size > LARGEST_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["made_by"] != MAKER:
            return None
        kind = content["kind"]
        name = content["name"]
        files = content["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(kind, str) or not isinstance(name, str):
        return None
    if files is not None and not _are_names(files):
        return None
    return Work(kind, name), files


def entries_of(folder: Path) -> list[str]:
    """Every file and link below a folder, and every empty folder (`name/`), as posix paths.

    Links are not followed.

    Raises:
        BadInput: a folder below it cannot be read.
    """
    entries = []
    for path, folders, files in os.walk(folder, onerror=_unreadable):
        parent = Path(path)
        links = [name for name in folders if (parent / name).is_symlink()]
        entries += [(parent / name).relative_to(folder).as_posix() for name in (*files, *links)]
        if not folders and not files and parent != folder:
            entries.append(f"{parent.relative_to(folder).as_posix()}/")
    return sorted(entries)


def foreign_of(entries: Iterable[str], files: Sequence[str]) -> list[str]:
    """What lies there and is not named by the mark; a folder that has lost its files is not
    foreign."""
    ours = {MARK, *files}
    folders = {f"{parent.as_posix()}/" for file in files for parent in Path(file).parents}
    return [entry for entry in entries if entry not in ours and entry not in folders]


def remove(folder: Path, entries: Collection[str]) -> None:
    """Remove these entries of a folder, and the folders that are empty then; whatever else is there
    stays.

    The mark goes last: killed on the way, it still says whose the rest is.
    """
    parents: set[Path] = set()
    for entry in set(entries) - {MARK}:
        path = folder / entry
        if entry.endswith("/"):
            parents.add(path)
        else:
            path.unlink(missing_ok=True)
        parents.update(parent for parent in path.parents if parent.is_relative_to(folder))
    for parent in sorted(parents - {folder}, key=lambda path: len(path.parts), reverse=True):
        _remove_empty(parent)
    if MARK in entries:
        (folder / MARK).unlink(missing_ok=True)
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _write(folder: Path, work: Work, files: list[str] | None) -> None:
    content = {"made_by": MAKER, "kind": work.kind, "name": work.name, "files": files}
    write_json(folder / MARK, content)


def _are_names(files: object) -> bool:
    return isinstance(files, list) and all(isinstance(file, str) for file in files)


def _unreadable(error: OSError) -> None:
    raise BadInput(
        f"{error.filename}: cannot be read ({error.strerror}); nothing was touched"
    ) from None
