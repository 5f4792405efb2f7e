"""Classes of pixels: fine-tuned, by a linear layer, from few images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.inspection import DataFound, Needs
from mimic.tasks.segmentation.config import (
    FewShotSegmentationTask,
    LinearSegmentationTask,
    SegmentationTask,
)

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs("images", "labelled pixels", "class", "look at the annotations, frame and size_px")


def _finetune(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.segmentation import finetune

    return finetune.run(section, model, paths)


def _linear(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.segmentation import frozen

    return frozen.run_linear(section, model, paths)


def _few_shot(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.segmentation import frozen

    return frozen.run_few(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.segmentation import check

    return check.look(section, root, needs)


SPECS = (
    TaskSpec(
        "segmentation",
        SegmentationTask,
        _finetune,
        NEEDS,
        _look,
    ),
    TaskSpec(
        "linear-segmentation",
        LinearSegmentationTask,
        _linear,
        NEEDS,
        _look,
    ),
    TaskSpec(
        "few-shot-segmentation",
        FewShotSegmentationTask,
        _few_shot,
        NEEDS,
        _look,
    ),
)
