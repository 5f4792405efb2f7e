"""Where one camera stands relative to another."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.inspection import Needs
from mimic.tasks.relative_pose.config import RelativePoseTask

NEEDS = Needs("frames", "", "camera_m", "look at the lists of sequences")

SPECS = (
    TaskSpec(
        "relative-pose",
        RelativePoseTask,
        Later("relative_pose.finetune.run"),
        NEEDS,
        Later("relative_pose.check.look"),
    ),
)
