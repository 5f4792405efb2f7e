"""Dense motion between two views through a whole cross-view model: optical flow, stereo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.inspection import DataFound, Needs

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs("pairs", "pixels of known motion", "motion_px", "look at the masks and true motion")


def _finetune(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.flow_stereo import finetune

    return finetune.run(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.flow_stereo import check

    return check.look(section, root, needs)


SPECS = (
    TaskSpec(
        "flow",
        FlowTask,
        _finetune,
        NEEDS,
        _look,
    ),
    TaskSpec(
        "stereo",
        StereoTask,
        _finetune,
        NEEDS,
        _look,
    ),
)
