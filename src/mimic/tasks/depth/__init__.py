"""Depth of single images: fine-tuned, by a linear layer, from few images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask, LinearDepthTask
from mimic.tasks.inspection import DataFound, Needs

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs(
    "images",
    "pixels of known depth",
    "depth_m",
    "look at masks, depth_min_m, depth_max_m, frame and score_region",
)


def _finetune(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.depth import finetune

    return finetune.run(section, model, paths)


def _linear(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.depth import frozen

    return frozen.run_linear(section, model, paths)


def _few_shot(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.depth import frozen

    return frozen.run_few(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.depth import check

    return check.look(section, root, needs)


SPECS = (
    TaskSpec(
        "depth",
        DepthTask,
        _finetune,
        NEEDS,
        _look,
    ),
    TaskSpec(
        "linear-depth",
        LinearDepthTask,
        _linear,
        NEEDS,
        _look,
    ),
    TaskSpec(
        "few-shot-depth",
        FewShotDepthTask,
        _few_shot,
        NEEDS,
        _look,
    ),
)
