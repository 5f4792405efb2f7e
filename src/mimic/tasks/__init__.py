"""Downstream tasks, one file each. A new task is a file, a section in config and a case in `measure`."""

from __future__ import annotations

from pathlib import Path

from mimic.config import CorrespondenceTask, DepthTask, Task
from mimic.models.encoder import VisionTransformer
from mimic.tasks.base import Result


def measure(task: Task, encoder: VisionTransformer, root: Path, progress: Path) -> Result:
    """Run one task. Tasks are imported when they are run: each needs other libraries.

    Args:
        root: the workspace.
        progress: folder for the unfinished work of a long task.
    """
    match task:
        case DepthTask():
            from mimic.tasks import depth

            return depth.run(task, encoder, root, progress)
        case CorrespondenceTask():
            from mimic.tasks import correspondence

            return correspondence.run(task, encoder, root)
