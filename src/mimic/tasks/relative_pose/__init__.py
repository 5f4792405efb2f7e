"""Where one camera stands relative to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.inspection import DataFound, Needs
from mimic.tasks.relative_pose.config import RelativePoseTask

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs("frames", "", "camera_m", "look at the lists of sequences")


def _finetune(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.relative_pose import finetune

    return finetune.run(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.relative_pose import check

    return check.look(section, root, needs)


SPECS = (
    TaskSpec(
        "relative-pose",
        RelativePoseTask,
        _finetune,
        NEEDS,
        _look,
    ),
)
