"""Downstream tasks, one file each. A new task is a file, a section in config.tasks, and a case in `checks.check` and in `measure`.

Tasks are imported when they are run: each needs other libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # it needs torch, and `checks` does not
    from mimic.tasks.base import Folders, Result, Subject


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
