"""Taskonomy's dense targets."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.inspection import Needs
from mimic.tasks.taskonomy.config import TaskonomyTask

NEEDS = Needs("images", "valid pixels", "target", "look at mask_valid, erode_px and size_px")

SPECS = (
    TaskSpec(
        "taskonomy",
        TaskonomyTask,
        Later("taskonomy.finetune.run"),
        NEEDS,
        Later("taskonomy.check.look"),
    ),
)
