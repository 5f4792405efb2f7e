"""Joints of people."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.inspection import Needs
from mimic.tasks.keypoints.config import PoseTask

NEEDS = Needs("people", "labelled joints", "height_px", "look at the annotations")

SPECS = (
    TaskSpec(
        "pose", PoseTask, Later("keypoints.finetune.run"), NEEDS, Later("keypoints.check.look")
    ),
)
