"""What folders of work note of jobs that SLURM was given there: job.json of a training, array.json
of an array. The job outlives whoever submitted it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra.cluster import slurm

JOB = "job.json"
ARRAY = "array.json"


def alive(folders: Iterable[Path]) -> list[tuple[str, Path]]:
    """Jobs that are not over, each with the folder of its note.

    Raises:
        BadInput: there are notes, and SLURM does not answer.
    """
    noted = [(id, folder) for folder in folders for id in _ids(folder)]
    if not noted:
        return []
    queue = slurm.queue()
    if queue is None:
        raise BadInput(
            f"SLURM does not answer, and job {noted[0][0]} of {noted[0][1]} may be alive; try "
            "again later"
        )
    return [(id, folder) for id, folder in noted if id in queue]


def _ids(folder: Path) -> Iterator[str]:
    """Of one that is torn, nothing: it is written whole, or by another."""
    for name in (JOB, ARRAY):
        path = folder / name
        try:
            note = json.loads(path.read_text())
            rows = note["elements"] if name == ARRAY else [note]
            yield from (str(row["job"]["id"]) for row in rows if row["job"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
