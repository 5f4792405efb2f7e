"""Dense motion between two views through a whole cross-view model: optical flow, stereo."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.inspection import Needs

NEEDS = Needs("pairs", "pixels of known motion", "motion_px", "look at the masks and true motion")

SPECS = (
    TaskSpec(
        "flow", FlowTask, Later("flow_stereo.finetune.run"), NEEDS, Later("flow_stereo.check.look")
    ),
    TaskSpec(
        "stereo",
        StereoTask,
        Later("flow_stereo.finetune.run"),
        NEEDS,
        Later("flow_stereo.check.look"),
    ),
)
