"""Whether a task can be trained and scored on its data, asked before anything is trained.

Every split is looked through as the task will see it, with its crop, range, masks and labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimic.infra.storage import fingerprint
from mimic.tasks import TASK_VERSIONS, spec_of
from mimic.tasks.sections import TaskSection

IDLE = {  # fields that change nothing of what is asked of the data
    *("samples", "tracked_by", "save_every", "precision", "head_width", "steps", "epochs"),
    *("lr", "base_lr", "weight_decay", "betas", "momentum", "trust", "clip_grad", "temperature"),
    *("layer_decay", "drop_path", "warmup", "warmup_epochs", "warmup_from", "drop_at"),
}


def check(task: TaskSection, root: Path) -> dict[str, Any]:
    """Look through a task's data before anything is trained on them: counts, units, masks, labels.

    Args:
        root: the workspace.

    Returns:
        What was found, JSON-able, without machine paths: "splits" with a count each, "found" with
        what each holds (`Split.facts`), "bytes", "digest", "asked", "parts" (the task's version,
        for which DVC evaluates again), and what the task adds.

    Raises:
        BadInput: files are missing, damaged, in another unit, or not what their names say; or a
            split has nothing to train on or to score.
    """
    spec = spec_of(task)
    data = spec.look(task, root, spec.needs)
    for split in data.splits:
        split.require(data.where)
    return {
        "splits": {split.name: len(split.used) for split in data.splits},
        "found": {split.name: split.facts() for split in data.splits},
        "asked": asked_by(task),
        "parts": parts(task),
        **data.facts,
    }


def parts(task: TaskSection) -> dict[str, int]:
    """The version of the code that measures a task."""
    return {"task": TASK_VERSIONS[task.task]}


def asked_by(task: TaskSection) -> str:
    """Changes with every field that could change what `check` says."""
    return fingerprint(task.model_dump(mode="json", exclude=IDLE))
