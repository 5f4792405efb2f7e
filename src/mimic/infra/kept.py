"""Results that stay where they were made, whole, so that what is published of them can be made
again without the work.

DVC removes what a stage publishes before it runs the stage, and records it when the stage has
ended. It never looks here.

    <work>/published/             the result
    <work>/published/.kept.json   the sha256 of each of its files, and what decided which they are
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mimic.errors import BadInput
from mimic.infra.marks import MARK, Work, entries_of, marked
from mimic.infra.publishing import publish
from mimic.infra.storage import file_digest, link, made_folder, read_json, write_json

KEPT = "published"
RECORD = ".kept.json"
EARLIER = "shown.json"  # in the work, of results that were kept before there were records


class Damaged(Exception):
    """A result is there, and is not what was written."""


def keep(
    fill: Callable[[Path], object], folder: Path, work: Work, asked: Mapping[str, Any]
) -> None:
    """Publish a result in the folder of its work.

    Args:
        asked: what decides which files it has, JSON.
    """

    def complete(out: Path) -> None:
        fill(out)
        digests = {name: file_digest(out / name) for name in _files(out)}
        write_json(out / RECORD, {"asked": asked, "files": digests})

    publish(complete, folder / KEPT, work)


def is_kept(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the result is there, whole, with the files that are asked for.

    Raises:
        Damaged: it is there, and a file is missing or has other bytes.
    """
    if not (folder / KEPT).exists():
        return False
    try:
        record = read_json(folder / KEPT / RECORD)
        if record is None:
            return _is_kept_by_earlier(folder, asked)
        return bool(record["asked"] == asked) and _are_whole(folder / KEPT, record["files"])
    except (BadInput, OSError, KeyError, AttributeError) as error:
        raise Damaged(f"{folder / KEPT} is damaged ({error})") from None


def _is_kept_by_earlier(folder: Path, asked: Mapping[str, Any]) -> bool:
    known = marked(folder / KEPT)
    files = (known and known[1]) or []
    if missing := [name for name in files or ["card.json"] if not (folder / KEPT / name).is_file()]:
        raise Damaged(f"{folder / KEPT / missing[0]} is gone")
    return (read_json(folder / EARLIER) or asked) == asked


def _are_whole(where: Path, digests: Mapping[str, str]) -> bool:
    for name, digest in digests.items():
        if file_digest(where / name) != digest:
            raise Damaged(f"{where / name} is damaged")
    return True


def is_published(below: Mapping[Path, str], target: Path) -> bool:
    """Whether a published folder holds these very results, and nothing else.

    Args:
        below: as of `link_all`.
    """
    digests: dict[str, str] = {}
    try:
        for folder, name in below.items():
            record = read_json(folder / KEPT / RECORD) or {"files": {RECORD: "none"}}
            digests |= {
                (Path(name) / file).as_posix(): one for file, one in record["files"].items()
            }
        return set(_files(target)) == digests.keys() and _are_whole(target, digests)
    except (BadInput, OSError, Damaged):
        return False


def link_all(below: Mapping[Path, str], out: Path) -> None:
    """The files of results that are kept, below one folder, without their marks: they are one
    result there.

    Args:
        below: of the work of each, its folder's name in `out`; empty where that is its own.
    """
    for folder, name in below.items():
        for entry in _files(folder / KEPT):
            made_folder((out / name / entry).parent)
            link(folder / KEPT / entry, out / name / entry)


def forget(folder: Path) -> None:
    """The result in the folder of a work; nobody else wrote there."""
    shutil.rmtree(folder / KEPT, ignore_errors=True)


def _files(folder: Path) -> list[str]:
    return [name for name in entries_of(folder) if name not in (MARK, RECORD) and name[-1] != "/"]
