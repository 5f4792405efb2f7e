"""Patches of one view found in the other; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.tasks.api import EvalModel, EvalPaths, TaskSpec
from mimic.tasks.correspondence.config import CorrespondenceTask, CrossAttentionTask
from mimic.tasks.inspection import DataFound, Needs

if TYPE_CHECKING:
    from mimic.tasks.api import Result

NEEDS = Needs(
    "pairs",
    "patches with a true match",
    "overlap",
    "is the homography that of the stored images?",
)


def _patch_matching(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.correspondence import patch_matching

    return patch_matching.run(section, model, paths)


def _cross_attention(section: Any, model: EvalModel, paths: EvalPaths) -> Result:
    from mimic.tasks.correspondence import cross_attention

    return cross_attention.run(section, model, paths)


def _look(section: Any, root: Path, needs: Needs) -> DataFound:
    from mimic.tasks.correspondence import patch_matching

    return patch_matching.look(section, root, needs)


SPECS = (
    TaskSpec("correspondence", CorrespondenceTask, _patch_matching, NEEDS, _look),
    TaskSpec("cross-attention", CrossAttentionTask, _cross_attention, NEEDS, _look),
)
