"""Shards that are published, and kept until DVC has recorded them.

DVC removes what a stage makes before it runs the stage, and records it when it has read all of it.
Of a run that is killed in between, the next one removes the pairs and asks for them again: they
come from here, and nothing is mined twice. On one file system the shards are links to the published
files, or to those in DVC's cache, and take no room of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra import storage
from mimic.infra.owner import owned

MARK = "published.json"  # beside the log: which metrics were published with the shards


def keep(folder: Path, root: Path, metrics: Path) -> None:
    """Called when the pairs of the shards in a folder, and then `metrics`, have been published.
    What was published of other numbers of the source goes; without DVC these shards go, too.

    Args:
        folder: where the shards were mined.
        root: the workspace.
    """
    if (root / ".dvc").is_dir():
        storage.write_json(folder / MARK, {"md5": _md5(metrics)})
    else:
        _clear(folder)
    for mark in folder.parent.glob(f"*/{MARK}"):
        if mark.parent != folder:
            _clear(mark.parent)


def clear_recorded(work: Path, root: Path) -> None:
    """Remove the shards of a source whose metrics DVC has recorded, and so its pairs: it records
    what a stage makes all at once.

    Args:
        work: where the source's shards are mined; left alone while a process mines there.
        root: the workspace.
    """
    lock = root / "dvc.lock"
    marks = list(work.glob(f"*/{MARK}"))
    if not marks or not lock.exists():
        return
    recorded = lock.read_text(encoding="utf-8")
    with contextlib.suppress(BadInput), owned(work, f"clear {work.name}", patience_s=0):
        for mark in marks:
            if (storage.read_json(mark) or {}).get("md5", MARK) in recorded:
                _clear(mark.parent)


def _clear(folder: Path) -> None:
    """The log stays. What says "done" goes first, and the mark last."""
    for names in ("shard-*.json", "shard-*.parquet", "shard-*.tar", MARK):
        for path in folder.glob(names):
            path.unlink()


def _md5(path: Path) -> str:
    """As DVC computes it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
