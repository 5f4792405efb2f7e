"""Taskonomy's dense targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.inspection import DataFound, Needs
from mimic.tasks.taskonomy.config import TaskonomyTask

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs("images", "valid pixels", "target", "look at mask_valid, erode_px and size_px")


def _finetune(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.taskonomy import finetune

    return finetune.run(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.taskonomy import check

    return check.look(section, root, needs)


SPECS = (
    TaskSpec(
        "taskonomy",
        TaskonomyTask,
        _finetune,
        NEEDS,
        _look,
    ),
)
