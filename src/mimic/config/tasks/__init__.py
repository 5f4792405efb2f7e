"""Section `evaluate`: one class a task family, told apart by `task`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mimic.config.tasks.base import PairTask, TaskSection, TrainedTask
from mimic.config.tasks.correspondence import CorrespondenceTask, CrossAttentionTask
from mimic.config.tasks.depth import DepthFields, DepthTask, FewShotDepthTask, FrozenDepth, LinearDepthTask
from mimic.config.tasks.imagenet import ImageNetTask, KnnTask, LinearProbeTask
from mimic.config.tasks.motion import FlowPart, FlowTask, MotionPart, StereoPart, StereoTask
from mimic.config.tasks.pose import PoseTask
from mimic.config.tasks.reconstruction import ReconstructionTask
from mimic.config.tasks.relative_pose import RelativePoseTask
from mimic.config.tasks.segmentation import (
    ConvNextFields,
    FewShotSegmentationTask,
    LinearSegmentationTask,
    SegmentationFields,
    SegmentationTask,
)
from mimic.config.tasks.taskonomy import TaskonomyTask

Task = Annotated[
    DepthTask
    | LinearDepthTask
    | FewShotDepthTask
    | CorrespondenceTask
    | CrossAttentionTask
    | ReconstructionTask
    | FlowTask
    | StereoTask
    | RelativePoseTask
    | PoseTask
    | SegmentationTask
    | LinearSegmentationTask
    | FewShotSegmentationTask
    | TaskonomyTask
    | LinearProbeTask
    | KnnTask,
    Field(discriminator="task"),
]
