"""Joints of people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.inspection import DataFound, Needs
from mimic.tasks.keypoints.config import PoseTask

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs("people", "labelled joints", "height_px", "look at the annotations")


def _finetune(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.keypoints import finetune

    return finetune.run(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.keypoints import check

    return check.look(section, root, needs)


SPECS = (
    TaskSpec(
        "pose",
        PoseTask,
        _finetune,
        NEEDS,
        _look,
    ),
)
