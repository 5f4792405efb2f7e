"""Classes of images, read off a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.imagenet.config import KnnTask, LinearProbeTask
from mimic.tasks.inspection import DataFound, Needs

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs("images", "", "smaller side_px", "look at the class folders")


def _linear_probe(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.imagenet import linear_probe

    return linear_probe.run(section, model, paths)


def _knn(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.imagenet import knn

    return knn.run(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.imagenet import check

    return check.look(section, root, needs)


SPECS = (
    TaskSpec(
        "linear-probe",
        LinearProbeTask,
        _linear_probe,
        NEEDS,
        _look,
    ),
    TaskSpec("knn", KnnTask, _knn, NEEDS, _look),
)
