"""Patches of one view found in the other; nothing is trained."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.correspondence.config import CorrespondenceTask, CrossAttentionTask
from mimic.tasks.inspection import Needs

NEEDS = Needs(
    "pairs",
    "patches with a true match",
    "overlap",
    "is the homography that of the stored images?",
)

SPECS = (
    TaskSpec(
        "correspondence",
        CorrespondenceTask,
        Later("correspondence.patch_matching.run"),
        NEEDS,
        Later("correspondence.patch_matching.look"),
    ),
    TaskSpec(
        "cross-attention",
        CrossAttentionTask,
        Later("correspondence.cross_attention.run"),
        NEEDS,
        Later("correspondence.patch_matching.look"),
    ),
)
