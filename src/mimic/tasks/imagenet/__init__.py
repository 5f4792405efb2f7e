"""Classes of images, read off a frozen encoder."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.imagenet.config import KnnTask, LinearProbeTask
from mimic.tasks.inspection import Needs

NEEDS = Needs("images", "", "smaller side_px", "look at the class folders")

SPECS = (
    TaskSpec(
        "linear-probe",
        LinearProbeTask,
        Later("imagenet.linear_probe.run"),
        NEEDS,
        Later("imagenet.check.look"),
    ),
    TaskSpec("knn", KnnTask, Later("imagenet.knn.run"), NEEDS, Later("imagenet.check.look")),
)
