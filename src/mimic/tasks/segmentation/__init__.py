"""Classes of pixels: fine-tuned, by a linear layer, from few images."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.inspection import Needs
from mimic.tasks.segmentation.config import (
    FewShotSegmentationTask,
    LinearSegmentationTask,
    SegmentationTask,
)

NEEDS = Needs("images", "labelled pixels", "class", "look at the annotations, frame and size_px")

SPECS = (
    TaskSpec(
        "segmentation",
        SegmentationTask,
        Later("segmentation.finetune.run"),
        NEEDS,
        Later("segmentation.check.look"),
    ),
    TaskSpec(
        "linear-segmentation",
        LinearSegmentationTask,
        Later("segmentation.frozen.run_linear"),
        NEEDS,
        Later("segmentation.check.look"),
    ),
    TaskSpec(
        "few-shot-segmentation",
        FewShotSegmentationTask,
        Later("segmentation.frozen.run_few"),
        NEEDS,
        Later("segmentation.check.look"),
    ),
)
