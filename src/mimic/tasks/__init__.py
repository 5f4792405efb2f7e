"""Downstream tasks, one file each. A new task is a file, a section in config.tasks, and a case in `check` and in `measure`.

Tasks are imported when they are run: each needs other libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimic.config import (
    CorrespondenceTask,
    CrossAttentionTask,
    DepthTask,
    FewShotDepthTask,
    FewShotSegmentationTask,
    FlowTask,
    KnnTask,
    LinearDepthTask,
    LinearProbeTask,
    LinearSegmentationTask,
    PoseTask,
    ReconstructionTask,
    RelativePoseTask,
    SegmentationTask,
    StereoTask,
    Task,
    TaskonomyTask,
)
from mimic.tasks.base import Folders, Result, Subject


def check(task: Task, root: Path) -> dict[str, Any]:  # noqa: C901 - one case a task family, nothing nested
    """Look through a task's data before anything is trained on them: counts, units, masks, labels.

    Args:
        root: the workspace.

    Returns:
        What was found, JSON-able, without machine paths: "splits" with a count each, "bytes", "digest", and whatever the task adds.

    Raises:
        BadInput: files are missing, damaged, in another unit, or not what their names say.
    """
    match task:
        case DepthTask():
            from mimic.tasks import depth

            return depth.check(task, root)
        case LinearDepthTask() | FewShotDepthTask():
            from mimic.tasks import frozen_depth

            return frozen_depth.check(task, root)
        case TaskonomyTask():
            from mimic.tasks import regression

            return regression.check(task, root)
        case SegmentationTask():
            from mimic.tasks import segmentation

            return segmentation.check(task, root)
        case LinearSegmentationTask() | FewShotSegmentationTask():
            from mimic.tasks import frozen_segmentation

            return frozen_segmentation.check(task, root)
        case CorrespondenceTask() | CrossAttentionTask():
            from mimic.tasks import correspondence

            return correspondence.check(task, root)
        case ReconstructionTask():
            from mimic.tasks import reconstruction

            return reconstruction.check(task, root)
        case PoseTask():
            from mimic.tasks import pose

            return pose.check(task, root)
        case LinearProbeTask():
            from mimic.tasks import linear_probe

            return linear_probe.check(task, root)
        case KnnTask():
            from mimic.tasks import knn

            return knn.check(task, root)
        case FlowTask() | StereoTask():
            from mimic.tasks import motion

            return motion.check(task, root)
        case RelativePoseTask():
            from mimic.tasks import relative_pose

            return relative_pose.check(task, root)


def measure(task: Task, subject: Subject, folders: Folders) -> Result:  # noqa: C901 - one case a task family, nothing nested
    """Run one task on one encoder."""
    match task:
        case DepthTask():
            from mimic.tasks import depth

            return depth.run(task, subject, folders)
        case LinearDepthTask():
            from mimic.tasks import frozen_depth

            return frozen_depth.run_linear(task, subject, folders)
        case FewShotDepthTask():
            from mimic.tasks import frozen_depth

            return frozen_depth.run_few(task, subject, folders)
        case TaskonomyTask():
            from mimic.tasks import regression

            return regression.run(task, subject, folders)
        case SegmentationTask():
            from mimic.tasks import segmentation

            return segmentation.run(task, subject, folders)
        case LinearSegmentationTask():
            from mimic.tasks import frozen_segmentation

            return frozen_segmentation.run_linear(task, subject, folders)
        case FewShotSegmentationTask():
            from mimic.tasks import frozen_segmentation

            return frozen_segmentation.run_few(task, subject, folders)
        case CorrespondenceTask():
            from mimic.tasks import correspondence

            return correspondence.run(task, subject, folders)
        case CrossAttentionTask():
            from mimic.tasks import cross_attention

            return cross_attention.run(task, subject, folders)
        case ReconstructionTask():
            from mimic.tasks import reconstruction

            return reconstruction.run(task, subject, folders)
        case PoseTask():
            from mimic.tasks import pose

            return pose.run(task, subject, folders)
        case LinearProbeTask():
            from mimic.tasks import linear_probe

            return linear_probe.run(task, subject, folders)
        case KnnTask():
            from mimic.tasks import knn

            return knn.run(task, subject, folders)
        case FlowTask() | StereoTask():
            from mimic.tasks import motion

            return motion.run(task, subject, folders)
        case RelativePoseTask():
            from mimic.tasks import relative_pose

            return relative_pose.run(task, subject, folders)
