"""The workspace on disk: where everything lies, and how a file gets its final name.

A final name means a whole file: write to a scratch name beside it, fsync, `os.replace`.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.errors import BadInput
from mimic.infra import experiment

# Folders of metrics/ that hold counts of a stage; all others are runs.
STAGE_METRICS = frozenset({"mine", "assemble"})
ITEMS = "items.npz"  # beside the pictures of a result
SEED = "seed-"  # models/<run>/seed-<k>: the encoder of one of several seeds
SCRATCH_STEM = 100  # bytes of a name that a scratch name repeats: both have to fit a file system
NO_ROOM = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk full (the quota on it)",
    errno.EFBIG: "file larger than its file system or `ulimit -f` allows,",
}
THERE = "is there already; name a new file, or move it away"
SCRATCH = re.compile(r"\.(.*)\.\d+(-\d+)?\.part", re.DOTALL)


@dataclass(frozen=True)
class Workspace:
    """The folder that holds params.yaml; every path of the pipeline is made here and nowhere
    else."""

    root: Path

    @property
    def runs(self) -> Path:
        """What DVC never sees: work that goes on after a kill, and what may be made again. That of
        an experiment in a copy of the workspace lies in the workspace."""
        return experiment.home(self.root) / "runs"

    def resolve(self, path: Path) -> Path:
        """A path of params.yaml: relative ones are relative to the workspace."""
        return self.root / path

    def inventory(self, source: str) -> Path:
        return self.root / "data/inventory" / f"{source}.parquet"

    def pairs(self, source: str) -> Path:
        return self.root / "data/pairs" / source

    def manifest(self, dataset: str) -> Path:
        return self.root / "data/manifests" / f"{dataset}.parquet"

    def recipe(self, run: str) -> Path:
        """How a run is pretrained."""
        return self.root / "data/recipes" / f"{run}.json"

    def model(self, run: str) -> Path:
        return self.root / "models" / run

    def encoders(self, run: str) -> dict[str, Path]:
        """The folders of the encoders that are there of a run, by name and in the order of their
        seeds: models/<run>, or models/<run>/seed-<k> of each seed.

        `run` may be the name of one of them. Nothing there is an empty answer.
        """
        folder = self.root / "models" / run
        if (folder / "card.json").exists():
            return {run: folder}
        seeds = {
            int(path.parent.name.removeprefix(SEED)): path.parent
            for path in folder.glob(f"{SEED}*/card.json")
            if path.parent.name.removeprefix(SEED).isdecimal()
        }
        return {f"{run}/{seeds[seed].name}": seeds[seed] for seed in sorted(seeds)}

    def checked(self, task: str) -> Path:
        """What the prepare stage found in a task's data."""
        return self.root / "data/tasks" / f"{task}.json"

    def remembered(self, task: str) -> Path:
        """The same, kept while nothing of it changes; DVC never sees it, removing it costs only
        time."""
        return self.runs / "prepare" / f"{task}.json"

    def features(self, checkpoint: str) -> Path:
        """Features of an encoder (sha256 of its file), shared by the tasks; DVC never sees them,
        removing them costs only time."""
        return self.runs / "features" / checkpoint[:16]

    def decoded(self) -> Path:
        """Pixels of images at small sizes (pairs.decoded); remade where they are missing."""
        return self.runs / "decoded"

    def metrics(self, group: str, name: str) -> Path:
        """metrics/<run>/<task>.json, and metrics/mine/<source>.json."""
        return self.root / "metrics" / group / f"{name}.json"

    def samples(self, run: str, task: str) -> Path:
        return self.root / "samples" / run / task

    def items(self, run: str, task: str) -> Path:
        """What each test item contributes to a result, an array an encoder."""
        return self.samples(run, task) / ITEMS

    @property
    def report(self) -> Path:
        return self.root / "report"

    def work(self, stage: str, name: str) -> Path:
        """Where a stage keeps unfinished work of a name, and its lock (infra.owner). DVC never sees
        it.

        Experiments that run at the same time have other numbers of the same names: each has a
        folder of its own, by its name.
        """
        own = experiment.name(self.root)
        above = self.runs if own is None else self.runs / "experiments" / own
        return above / stage / name

    def places(self) -> list[Path]:
        """The folders that are there in which published folders lie."""
        fixed = ("data/raw", "data/pairs", "models", "samples", ".")
        below = [self.root / name for name in fixed] + sorted(self.root.glob("samples/*"))
        return [folder for folder in below if folder.is_dir()]

    def progress(self, stage: str, name: str, fingerprint: str) -> Path:
        """Unfinished work of a stage, kept across kills; published into its outs at the end."""
        return made_folder(self.work(stage, name) / fingerprint)


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
def replacing(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Yield a scratch path; when the block ends well, the file there gets its final name.

    Its mode is what the umask gives, whatever the writer made of it. A link in its place is
    replaced, not what it leads to. Files of the workspace's layout are ours; a path that somebody
    has chosen is `new`, or is looked at by the caller.

    Args:
        new: nothing may lie there, not even a link that leads nowhere, until the moment the file
            gets its name.

    Raises:
        BadInput: a folder has this name, or none can be made for it; before the block is entered.
            With `new`: something lies there.
    """
    made_folder(path.parent)
    if new and os.path.lexists(path):
        raise BadInput(f"{path}: {THERE}")
    if path.is_dir():
        raise BadInput(f"{path}: is a folder, and a file is to be written; name another place")
    scratch, mode = _scratch_file(path)
    try:
        yield scratch
        if stat.S_IMODE(scratch.stat().st_mode) != mode:
            scratch.chmod(mode)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        if new:
            _take_free_name(scratch, path)
        else:
            os.replace(scratch, path)
    except OSError as error:
        if is_full(error) and error.filename in (None, str(scratch)):
            error.filename = str(path)  # the name that people know
        raise
    finally:
        scratch.unlink(missing_ok=True)


def _take_free_name(scratch: Path, path: Path) -> None:
    """Give a file a name that nothing has: a hard link never replaces."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise BadInput(f"{path}: {THERE}") from None
    except OSError:  # a file system without hard links: all that can be done is to look once more
        if os.path.lexists(path):
            raise BadInput(f"{path}: {THERE}") from None
        os.replace(scratch, path)


def _scratch_file(path: Path) -> tuple[Path, int]:
    """A free name beside a file, and the mode that the umask gives a new file there."""
    stem = path.name.encode()[:SCRATCH_STEM].decode(errors="ignore")
    for number in itertools.count():
        scratch = path.with_name(f".{stem}.{os.getpid()}-{number}.part")
        try:
            with scratch.open("xb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        except FileExistsError:
            continue
        except OSError as error:
            if is_full(error):
                raise
            raise BadInput(
                f"{path}: cannot be written ({error.strerror}); name another place, or ask for the "
                "right to"
            ) from None
        scratch.unlink()
        return scratch, mode
    raise AssertionError("unreachable")


def scratch_of(name: str) -> str | None:
    """The name of the file that a scratch file would have become (of a long one the beginning);
    None for any other name."""
    match = SCRATCH.fullmatch(name)
    return match[1] if match else None


def sweep(folder: Path) -> None:
    """Remove scratch files that killed runs have left in a folder that no other process works
    in."""
    for left in folder.glob(".*.part"):
        if SCRATCH.fullmatch(left.name) and not left.is_dir():
            left.unlink(missing_ok=True)


def followed(path: Path) -> Path:
    """The real place of a path, links followed.

    Raises:
        BadInput: a link on the way leads nowhere, a file is where a folder has to be, or the path
            cannot be looked at.
    """
    absolute = Path.cwd() / path
    try:
        for part in [*reversed(absolute.parents), absolute]:
            if part.is_symlink() and not part.exists():
                raise BadInput(
                    f"{path}: {part} is a link to {os.readlink(part)}, which is not there; mend "
                    "the link, or remove it"
                )
            if part != absolute and part.exists() and not part.is_dir():
                raise BadInput(
                    f"{path}: {part} is a file where a folder has to be; name another place, or "
                    "move it away"
                )
        return absolute.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"{short(str(path))}: no path that can be used "
            f"({getattr(error, 'strerror', None) or error})"
        ) from None


def makeable(path: Path) -> Path:
    """`followed`, of a file or folder that is to be made; nothing is made yet.

    Raises:
        BadInput: as `followed`, or the nearest folder above may not be written to.
    """
    real = followed(path)
    above = next(parent for parent in real.parents if parent.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise BadInput(
            f"{path}: {above} may not be written to; name another place, or ask for the right to"
        )
    return real


def made_folder(path: Path) -> Path:
    """A folder that is there, or was made; links are followed.

    Raises:
        BadInput: as `followed`, or it may not be made.
    """
    real = followed(path)
    try:
        real.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_full(error):
            raise
        raise BadInput(
            f"{path}: this folder cannot be made ({error.strerror}); name another place"
        ) from None
    return path


def short(name: str) -> str:
    """A name in one short line, whatever is in it."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room: a disk, or a quota on it, is full, or a file may
    not become so large. (Some libraries say otherwise: infra.writing)"""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as scratch:
        scratch.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Sorted keys and a final newline, so that equal values are equal files."""
    write_bytes(
        path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where the file is missing.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadInput(
            f"{path}: not valid JSON ({error}); remove it and run the stage that makes it again"
        ) from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that cannot be: across file systems, or where there are no
    links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
