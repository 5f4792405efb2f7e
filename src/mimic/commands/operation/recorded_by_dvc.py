"""What DVC has recorded of the files in a workspace, and where its cache has each of them.

Its own files are read, as its documentation describes them; DVC itself compares sizes and times
first, and calls a file unchanged whose bytes are not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dvc_data.hashfile.hash import fobj_md5

from mimic.commands.operation.verify_data import Damage, Looked, named
from mimic.errors import BadInput
from mimic.infra import confined

FOLDER = ".dir"  # how the hash of a folder ends; the cache holds a list of its files by that name
BEFORE_DVC_3 = "md5-dos2unix"
SKIPPED = {".git", ".venv", "node_modules", "runs"}


@dataclass(frozen=True)
class Out:
    """A file or folder that DVC holds.

    path: below the workspace.
    hash: what `md5` is of; before DVC 3 of the bytes of texts without carriage returns.
    made_by: the stage, or None for what was added (`dvc add`).
    """

    root: Path
    path: str
    md5: str
    hash: str
    made_by: str | None
    cache: Path
    cached: bool


@dataclass
class Records:
    outs: list[Out] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def remedy(self, path: Path, root: Path) -> str | None:
        """How DVC brings a file back; None where it does not hold it."""
        for out in self.outs:
            target = root / out.path
            if path == target or path.is_relative_to(target):
                return _remedy(out, path)
        return None


def read(root: Path) -> Records:
    """The records of a workspace; none where it is not under DVC."""
    if not (root / ".dvc").is_dir():
        return Records(unchecked=["the files that DVC would hold: this is no DVC workspace"])
    cache = _cache(root)
    records = Records()
    lock = root / "dvc.lock"
    if lock.exists():
        for stage, content in (_parsed(lock).get("stages") or {}).items():
            records.outs += _outs(root, lock, content.get("outs", []), str(stage), cache)
    for path in _added(root):
        records.outs += _outs(root, path, _parsed(path).get("outs", []), None, cache)
    return records


def _added(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in SKIPPED)
        for name in sorted(files):
            if name.endswith(".dvc") and (path := Path(folder, name)).is_file():
                yield path


def _outs(
    root: Path, said_by: Path, entries: Any, made_by: str | None, cache: Path
) -> Iterator[Out]:
    for entry in entries:
        name = (said_by.parent / str(entry["path"])).relative_to(root).as_posix()
        if "md5" in entry:
            confined.below(root, name, said_by)
            kind = entry.get("hash", BEFORE_DVC_3)
            yield Out(root, name, entry["md5"], kind, made_by, cache, entry.get("cache", True))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text()) or {})
    except (yaml.YAMLError, ValueError, TypeError) as error:
        line = " ".join(str(error).split())[:120]
        raise BadInput(f"{path}: not a record of DVC ({line}); git checkout {path.name}") from None


def _cache(root: Path) -> Path:
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        return root / ".dvc/cache"
    return root / done.stdout.strip().splitlines()[-1]


def compare(out: Out) -> Looked:
    """Every file of an output, and its copy in the cache where that is a file of its own."""
    looked = Looked()
    entries = _entries(out)
    if entries is None:
        looked.unchecked.append(
            f"{out.path}: the cache does not say which files it holds; dvc fetch brings the list"
        )
        return looked
    looked.counts["files held by DVC"] = len(entries)
    bad_copies = []
    for path, md5 in entries:
        if not path.is_file():
            looked.damages.append(Damage(path, "is not there, and DVC holds it", ""))
        elif what := _wrong_with(path, out, md5):
            looked.damages.append(Damage(path, what, ""))
        copy = _object(out, md5)
        if copy.is_file() and not _is_same(copy, path) and _wrong_with(copy, out, md5):
            bad_copies.append(copy)
    for copy in bad_copies:
        what = f"this copy in DVC's cache, of {out.path}, is damaged"
        remedy = f"rm {copy}, then `dvc commit {out.path}` or `dvc fetch`"
        looked.damages.append(Damage(copy, what, remedy))
    if extra := _extra(out, {path for path, _ in entries}):
        looked.unchecked.append(
            f"{len(extra)} files in {out.path} that DVC does not know ({named(extra)})"
        )
    return looked


def _entries(out: Out) -> list[tuple[Path, str]] | None:
    """The files of an output and the md5 of each; None where the cache has no list of them."""
    target = out.root / out.path
    if not out.md5.endswith(FOLDER):
        return [(target, out.md5)]
    listing = _object(out, out.md5)
    try:
        entries = json.loads(listing.read_text())
        return [
            (confined.below(target, one["relpath"], listing), str(one["md5"])) for one in entries
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _object(out: Out, md5: str) -> Path:
    objects = out.cache if out.hash == BEFORE_DVC_3 else out.cache / "files/md5"
    return objects / md5[:2] / md5[2:]


def _extra(out: Out, known: set[Path]) -> list[str]:
    target = out.root / out.path
    if not out.md5.endswith(FOLDER):
        return []
    return sorted(
        path.relative_to(target).as_posix()
        for path in target.rglob("*")
        if path.is_file() and path not in known
    )


def _remedy(out: Out, path: Path) -> str:
    """Removed first: DVC leaves a file alone whose size and time are those it knows."""
    again = (
        f"dvc repro --force --single-item {out.made_by}"
        if out.made_by
        else "add it again (dvc add) from where it came"
    )
    if not out.cached:
        return f"git checkout {out.path}, or {again}"
    md5 = dict(_entries(out) or []).get(path)
    copy = _object(out, md5) if md5 else None
    if md5 and copy is not None and copy.is_file():
        if not _is_same(copy, path) and _wrong_with(copy, out, md5) is None:
            return f"rm -f {path}, then dvc checkout {out.path}"
        return f"rm -f {path} {copy}, then dvc pull {out.path}, or without a remote {again}"
    return f"rm -f {path}, then dvc pull {out.path}, or without a remote {again}"


def _is_same(copy: Path, path: Path) -> bool:
    """One file under two names: a link into the cache."""
    try:
        return os.path.samefile(copy, path)
    except OSError:
        return False


def _wrong_with(path: Path, out: Out, md5: str) -> str | None:
    """What a file is not that should have a digest; None where it is whole."""
    try:
        with path.open("rb") as file:
            same = fobj_md5(file, name=out.hash) == md5
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if same else "its md5 is not that which DVC recorded"
