"""`mimic clean`: what lies in runs/ and no longer belongs to anything in params.yaml, and how large
it is. It removes only when asked to, and nothing but that: what is published, and what shortens the
next run of anything that params.yaml names, stays.

    runs/pretrain/<run>[/seed-<k>]            a run, or a seed of one, that is no longer listed
    runs/evaluate/<run>[/seed-<k>]@<task>     the same, or a task that is not
    runs/prepare/<task>, runs/prepare/<task>.json
    runs/mine/<source>                        and mined shards that DVC has recorded as pairs
    runs/experiments/<name>                   of an experiment that has finished; others are shown
    .<name>.<pid>-<n>.part                    a file that a killed process did not finish
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimic.commands.operation import outlived
from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra.cluster import notes
from mimic.infra.owner import FILE, owned
from mimic.infra.storage import SEED, Workspace
from mimic.mining import published
from mimic.params import Params


@dataclass(frozen=True)
class Leftover:
    """Something that nothing in params.yaml names.

    owner: the folder that a stage holds while it works there.
    """

    path: Path
    owner: Path
    why: str

    def size(self) -> int:
        return _size(self.path)

    def remove(self) -> None:
        """
        Raises:
            BadInput: a process works there.
        """
        _refuse_living(self.path)
        with owned(self.owner, f"clean {self.path.name}", patience_s=0):
            if not self.path.is_dir():
                self.path.unlink()
            elif self.path != self.owner:
                shutil.rmtree(self.path)
            else:
                _empty(self.path)
        with contextlib.suppress(OSError):  # not empty: another process works there already
            self.owner.rmdir()  # its lock is gone by now


@dataclass(frozen=True)
class Outlived:
    """Something that nothing goes on from; see outlived.py."""

    path: Path
    why: str

    def size(self) -> int:
        return _size(self.path)

    def remove(self) -> None:
        """
        Raises:
            BadInput: a process works there.
        """
        if not self.path.is_dir():
            self.path.unlink(missing_ok=True)
            return
        stages = [path for path in sorted(self.path.iterdir()) if not path.is_symlink()]
        works = [path for stage in stages for path in _all(stage) if not path.is_symlink()]
        for work in filter(Path.is_dir, works):
            with owned(work, f"clean {self.path.name}", patience_s=0):
                _empty(work)
        shutil.rmtree(self.path)


@dataclass(frozen=True)
class RecordedShards:
    """Mined shards of a source that are pairs by now; see mining/published.py."""

    path: Path
    root: Path
    why: str = "DVC has recorded these shards as pairs"

    def size(self) -> int:
        return sum(path.stat().st_size for path in published.shards(self.path))

    def remove(self) -> None:
        """
        Raises:
            BadInput: a process mines the source now.
        """
        published.clear(self.path, self.root)


def _refuse_living(path: Path) -> None:
    """
    Raises:
        BadInput: a job of SLURM works below, whose lock lies elsewhere; or SLURM does not answer.
    """
    if not path.is_dir() or shutil.which("squeue") is None:
        return
    for id, folder in notes.alive(Path(at) for at, _, _ in os.walk(path)):
        raise BadInput(f"clean: job {id} works in {folder}; wait for it, or `scancel {id}`")


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    files = (Path(at) / name for at, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files)


def _empty(folder: Path) -> None:
    """Take all away but the lock, which its holder takes away."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != FILE:
            entry.unlink()


def main(params: Params, root: Path, remove: bool) -> None:
    """Print a line for each, and the sum; take them away if that is asked for.

    Raises:
        BadInput: a process works on one of them; those before it are gone.
    """
    finished, unfinished = outlived.experiments(root)
    unused: list[Leftover | Outlived | RecordedShards] = [*leftovers(params, root)]
    unused += [
        RecordedShards(path, root)
        for path in published.recorded(root)
        if path.parent.name.partition("@")[0] in params.sources
    ]
    unused += [Outlived(path, "the experiment has finished") for path in finished]
    unused += [
        Outlived(path, "a killed process did not finish it")
        for path in outlived.scratch_files(root)
    ]
    sizes = {one.path: one.size() for one in unused}
    for one in unused:
        print(f"{one.path.relative_to(root)}: {_megabytes(sizes[one.path])}: {one.why}")
        if remove:
            one.remove()
    for path in _not_ours(root):
        print(f"{path.relative_to(root)}: stays; mimic makes no link and no such file in runs/")
    for path in unfinished:
        print(
            f"{path.relative_to(root)}: {_megabytes(_size(path))}: stays; the experiment goes on "
            f"if it is queued again as {path.name} (rm -r forgets it)"
        )
    if not unused:
        print("runs/: everything there belongs to something in params.yaml")
        return
    total = _megabytes(sum(sizes.values()))
    print(f"{total} removed" if remove else f"{total}; `mimic clean --remove` takes them away")


def leftovers(params: Params, root: Path) -> Iterator[Leftover]:
    """What lies in runs/ and is not named any more, in the order of the names."""
    space = Workspace(root)
    yield from _of_runs(params, space)
    for path in _entries(root / "runs/evaluate"):
        if "@" in path.name:
            yield from _of_cell(params, space, path, path.name)
        else:
            for below in _entries(path):
                yield from _of_cell(params, space, below, f"{path.name}/{below.name}")
    for path in _entries(root / "runs/prepare"):
        task = path.name.removesuffix(".json")
        if task not in params.evaluate:
            owner = space.work("prepare", task)
            yield Leftover(path, owner, f"no task is called {task}")
    for path in _entries(root / "runs/mine"):
        if path.name.partition("@")[0] not in params.sources:
            yield Leftover(path, path, f"no source is called {path.name}")


def _of_runs(params: Params, space: Workspace) -> Iterator[Leftover]:
    for path in _entries(space.root / "runs/pretrain"):
        name = path.name.partition("@")[0]
        if why := _unnamed(params, name):
            yield Leftover(path, path, why)
            continue
        for below in _entries(path):
            if below.name.startswith(SEED) and (why := _unnamed(params, f"{name}/{below.name}")):
                yield Leftover(below, path, why)


def _of_cell(params: Params, space: Workspace, path: Path, name: str) -> Iterator[Leftover]:
    """What is kept of an evaluation: `<encoder>@<task>`."""
    encoder, _, task = name.partition("@")
    why = _unnamed(params, encoder)
    if why is None and task not in params.evaluate:
        why = f"no task is called {task}"
    if why is not None:
        yield Leftover(path, space.work("evaluate", f"{seed_of(encoder)[0]}@{task}"), why)


def _unnamed(params: Params, encoder: str) -> str | None:
    """Why nothing has this name; None where something has."""
    run, seed = seed_of(encoder)
    if run in params.imported:
        return None
    if run not in params.runs:
        return f"no run is called {run}"
    seeds = params.runs[run].seeds
    if seed is not None and (seeds is None or seed not in seeds):
        return f"{run} has no seed {seed} any more"
    return None


def _entries(folder: Path) -> list[Path]:
    """What stages make there, in the order of the names, without locks; none where there is no such
    folder. A link may lead out of the workspace, and what it leads to is not ours."""
    return [path for path in _all(folder) if _may_be_ours(path)]


def _not_ours(root: Path) -> Iterator[Path]:
    for stage in ("pretrain", "evaluate", "prepare", "mine", "experiments"):
        yield from (path for path in _all(root / "runs" / stage) if not _may_be_ours(path))
    for stage in ("pretrain", "evaluate"):
        for run in _entries(root / "runs" / stage):
            yield from (path for path in _all(run) if path.is_symlink())


def _may_be_ours(path: Path) -> bool:
    if path.is_symlink():
        return False
    return path.is_dir() or (path.parent.name == "prepare" and path.suffix == ".json")


def _all(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name != FILE)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
