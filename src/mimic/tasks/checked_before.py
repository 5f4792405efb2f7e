"""What was found in a task's data, kept for as long as the data, the questions and the task's
version stay.

Looking through ImageNet takes hours, and a new learning rate asks nothing new of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mimic import config
from mimic.infra.cluster import Stop, run_training
from mimic.infra.owner import owned
from mimic.infra.progress import say
from mimic.infra.storage import Workspace, fingerprint, read_json, write_json
from mimic.tasks import TASKS
from mimic.tasks.checks import asked_by, check, parts
from mimic.tasks.sections import TaskSection


def looked_through(
    task: TaskSection, name: str, root: Path, cluster: config.Cluster | None = None
) -> dict[str, Any]:
    """`check`, or what it said before; of several processes one looks, and the others wait for what
    it says.

    Args:
        name: of the task in params.yaml.
        root: the workspace.
        cluster: where it may be done; None = here. Hours of reading are not for a login node.
    """
    where = getattr(task, "data", None)
    if where is None:  # pairs of ours: a manifest is read at once
        return check(task, root)
    with owned(Workspace(root).work("prepare", name), f"prepare {name}"):
        key = fingerprint(asked_by(task), _state(task, root), parts(task))
        if (
            cluster is not None
            and cluster.executor == "slurm"
            and _remembered_key(name, root) != key
        ):
            _look_in_job(task, name, root, key, cluster)
        return _remembered(task, name, root, key)


def _look_in_job(
    task: TaskSection, name: str, root: Path, key: str, cluster: config.Cluster
) -> None:
    stated = {"section": task.model_dump(mode="json"), "name": name, "root": str(root.resolve())}
    folder = Workspace(root).progress("prepare", name, key)
    run_training(
        look_apart, stated | {"key": key}, folder, cluster.evaluate, cluster, f"prepare {name}"
    )
    shutil.rmtree(folder)


def look_apart(stated: Mapping[str, Any], folder: Path, stop: Stop) -> None:  # noqa: ARG001
    """Look through a task's data in a job, for a process that owns their folder and waits."""
    task = TASKS[stated["section"]["task"]].section.model_validate(stated["section"])
    _remembered(task, stated["name"], Path(stated["root"]), stated["key"])


def _remembered_key(name: str, root: Path) -> str | None:
    remembered = read_json(Workspace(root).remembered(name)) or {}
    return remembered.get("key")


def _remembered(task: TaskSection, name: str, root: Path, key: str) -> dict[str, Any]:
    path = Workspace(root).remembered(name)
    before = read_json(path) or {}
    if before.get("key") == key:
        say(f"{name}: neither the data nor the questions changed since they were looked through")
        return dict(before["found"])
    facts = check(task, root)
    write_json(path, {"key": key, "found": facts})
    return facts


def _state(task: TaskSection, root: Path) -> str:
    """Names, sizes and times of all files that the section names or that lie below its folders."""
    digest = hashlib.sha256()
    named = task.model_dump(exclude={"tracked_by"})
    for field, value in sorted(named.items()):
        if isinstance(value, Path):
            digest.update(f"{field} {value}\n".encode())
            for line in sorted(_files(Workspace(root).resolve(value), set())):
                digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(path: Path, seen: set[str]) -> Iterator[str]:
    """A line a file; linked folders are entered, each once."""
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        yield _line(path)
        return
    if real in seen:
        return
    seen.add(real)
    with os.scandir(path) as entries:
        for entry in entries:
            yield from (
                _files(path / entry.name, seen) if entry.is_dir() else [_line(path / entry.name)]
            )


def _line(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return f"{path} missing\n"
    return f"{path} {status.st_size} {status.st_mtime_ns}\n"
