"""Depth of single images: fine-tuned, by a linear layer, from few images."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask, LinearDepthTask
from mimic.tasks.inspection import Needs

NEEDS = Needs(
    "images",
    "pixels of known depth",
    "depth_m",
    "look at masks, depth_min_m, depth_max_m, frame and score_region",
)

SPECS = (
    TaskSpec("depth", DepthTask, Later("depth.finetune.run"), NEEDS, Later("depth.check.look")),
    TaskSpec(
        "linear-depth",
        LinearDepthTask,
        Later("depth.frozen.run_linear"),
        NEEDS,
        Later("depth.check.look"),
    ),
    TaskSpec(
        "few-shot-depth",
        FewShotDepthTask,
        Later("depth.frozen.run_few"),
        NEEDS,
        Later("depth.check.look"),
    ),
)
