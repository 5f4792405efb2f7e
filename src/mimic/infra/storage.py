"""The workspace on disk: where everything lies, and how a file gets its final name.

A final name means a whole file: write to a scratch name beside it, fsync, `os.replace`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.errors import BadInput


@dataclass(frozen=True)
class Workspace:
    """The folder that holds params.yaml; every path of the pipeline is made here and nowhere else."""

    root: Path

    def resolve(self, path: Path) -> Path:
        """A path of params.yaml: relative ones are relative to the workspace."""
        return self.root / path

    def inventory(self, source: str) -> Path:
        return self.root / "data/inventory" / f"{source}.parquet"

    def pairs(self, source: str) -> Path:
        return self.root / "data/pairs" / source

    def manifest(self, dataset: str) -> Path:
        return self.root / "data/manifests" / f"{dataset}.parquet"

    def model(self, run: str) -> Path:
        return self.root / "models" / run

    def checked(self, task: str) -> Path:
        """What the prepare stage found in a task's data."""
        return self.root / "data/tasks" / f"{task}.json"

    def features(self, checkpoint: str) -> Path:
        """Features of an encoder (sha256 of its file), shared by the tasks; DVC never sees them, removing them costs only time."""
        return self.root / "runs/features" / checkpoint[:16]

    def metrics(self, group: str, name: str) -> Path:
        """metrics/<run>/<task>.json, and metrics/mine/<source>.json."""
        return self.root / "metrics" / group / f"{name}.json"

    def samples(self, run: str, task: str) -> Path:
        return self.root / "samples" / run / task

    @property
    def report(self) -> Path:
        return self.root / "report"

    def progress(self, stage: str, name: str, fingerprint: str) -> Path:
        """Unfinished work of a stage, kept across kills; published into its outs at the end. DVC never sees it."""
        folder = self.root / "runs" / stage / name / fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def fingerprint(*parts: Any) -> str:
    """16 hex digits that change when any JSON-able part changes."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run the stage that makes it (dvc repro)") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch path; when the block ends well, the file there gets its final name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove scratch files that killed runs have left in a folder that no other process works in."""
    for left in folder.glob(".*.part"):
        left.unlink(missing_ok=True)


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or a quota on it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as scratch:
        scratch.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Sorted keys and a final newline, so that equal values are equal files."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def publish(files: Callable[[Path], None] | list[Path], out: Path) -> None:
    """Make folder `out` hold exactly these files, all at once.

    Args:
        files: finished files to hard-link (or copy, across file systems) into `out`, or a function that fills the folder it is given.
        out: the stage's output folder; an older one is replaced.
    """
    scratch = out.with_name(f".{out.name}.{os.getpid()}.part")
    for left in out.parent.glob(f".{out.name}.*.part"):  # by a run that was killed; one run of a stage at a time
        shutil.rmtree(left)
    scratch.mkdir(parents=True)
    try:
        if callable(files):
            files(scratch)
        else:
            for file in files:
                link(file, scratch / file.name)
        if out.exists():
            shutil.rmtree(out)
        os.replace(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that cannot be: across file systems, or where there are no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
