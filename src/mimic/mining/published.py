"""Shards that are published, and kept until DVC has recorded them.

DVC removes what a stage makes before it runs the stage, and records it when it has read all of it.
Of a run that is killed in between, the next one removes the pairs and asks for them again: they
come from here, and nothing is mined twice. A shard in which something failed that may be mended
(a program that died, a picture on a disk that was away) is mined again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra import storage
from mimic.infra.owner import owned
from mimic.infra.storage import Workspace
from mimic.mining import shard_job, worker_deaths
from mimic.mining.stats import MiningStats

MARK = "published.json"  # beside the log: which metrics were published with the shards


def keep(done: Sequence[shard_job.Job], folder: Path, root: Path, metrics: Path) -> None:
    """Called when the pairs of finished jobs, and then `metrics`, have been published. What was
    published of other numbers of the source goes; without DVC these shards go, too.

    Args:
        folder: where the jobs were done.
        root: the workspace.
    """
    if (root / ".dvc").is_dir():
        for job in done:
            if _may_be_mended(shard_job.read_stats(job)):
                shard_job.result_path(job).unlink()
        storage.write_json(folder / MARK, {"md5": _md5(metrics)})
    else:
        _clear(folder)
    for mark in folder.parent.glob(f"*/{MARK}"):
        if mark.parent != folder:
            _clear(mark.parent)


def _may_be_mended(stats: MiningStats) -> bool:
    return bool(
        stats.failed or stats.unreadable_views or worker_deaths.KILLER in stats.damaged.values()
    )


def is_here(folder: Path) -> bool:
    """Whether what lies in a folder of jobs was published before."""
    return (folder / MARK).exists()


def recorded(root: Path) -> Iterator[Path]:
    """Folders of jobs whose metrics DVC has recorded, and so their pairs: it records what a stage
    makes all at once.

    Args:
        root: the workspace.
    """
    folders = Workspace(root).work("mine", "*").parent.glob(f"*/*/{MARK}")
    yield from (mark.parent for mark in sorted(folders) if _is_recorded(mark, root))


def _is_recorded(mark: Path, root: Path) -> bool:
    lock = root / "dvc.lock"
    md5 = (storage.read_json(mark) or {}).get("md5", MARK)
    return lock.exists() and md5 in lock.read_text(encoding="utf-8")


def clear_recorded(root: Path) -> None:
    """Remove the shards that DVC has recorded as pairs. A source that a process mines now is left
    alone, as is one whose folder is not ours to change."""
    for folder in recorded(root):
        with contextlib.suppress(BadInput, OSError):
            clear(folder, root)


def shards(folder: Path) -> list[Path]:
    """What `clear` removes: the log stays. What says "done" comes first, and the mark last."""
    names = ("shard-*.json", "shard-*.parquet", "shard-*.tar", MARK)
    return [path for pattern in names for path in sorted(folder.glob(pattern))]


def clear(folder: Path, root: Path) -> None:
    """Remove the shards of a folder of jobs that DVC has recorded.

    Raises:
        BadInput: a process mines the source now.
    """
    work = folder.parent
    with owned(work, f"clear {work.name}", patience_s=0):
        if _is_recorded(folder / MARK, root):  # it may have been mined again since it was listed
            _clear(folder)


def _clear(folder: Path) -> None:
    for path in shards(folder):
        path.unlink()


def _md5(path: Path) -> str:
    """As DVC computes it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
