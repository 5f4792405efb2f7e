"""Completion of held-out pairs; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.inspection import DataFound, Needs
from mimic.tasks.reconstruction.config import ReconstructionTask

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs("pairs", "", "overlap", "mine more pairs")


def _measure(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.reconstruction import measure

    return measure.run(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.reconstruction import measure

    return measure.look(section, root, needs)


SPECS = (
    TaskSpec(
        "reconstruction",
        ReconstructionTask,
        _measure,
        NEEDS,
        _look,
    ),
)
