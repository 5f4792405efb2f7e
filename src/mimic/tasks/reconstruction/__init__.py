"""Completion of held-out pairs; nothing is trained."""

from __future__ import annotations

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.inspection import Needs
from mimic.tasks.reconstruction.config import ReconstructionTask

NEEDS = Needs("pairs", "", "overlap", "mine more pairs")

SPECS = (
    TaskSpec(
        "reconstruction",
        ReconstructionTask,
        Later("reconstruction.measure.run"),
        NEEDS,
        Later("reconstruction.measure.look"),
    ),
)
