"""Downstream tasks, one folder a family. A new task is a folder, a line of `TASKS` and its entry in
params.yaml.

Torch and the readers of data are imported when a task is run: listing tasks needs none of them.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mimic.tasks import (
    correspondence,
    depth,
    flow_stereo,
    imagenet,
    keypoints,
    reconstruction,
    relative_pose,
    segmentation,
    taskonomy,
    two_view_pose,
)
from mimic.tasks.api import EvalModel, EvalPaths, Result, TaskSpec
from mimic.tasks.sections import TaskSection

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for family in (
        depth,
        segmentation,
        taskonomy,
        keypoints,
        imagenet,
        flow_stereo,
        relative_pose,
        correspondence,
        two_view_pose,
        reconstruction,
    )
    for spec in family.SPECS
}

# Raise one when the task measures the same encoder as another number, or asks something else of its
# data. DVC reads them: the task's data are looked through again, and its evaluations run again.
TASK_VERSIONS = {
    "depth": 6,
    "linear-depth": 6,
    "few-shot-depth": 6,
    "segmentation": 5,
    "linear-segmentation": 6,
    "few-shot-segmentation": 6,
    "taskonomy": 3,
    "pose": 2,
    "linear-probe": 3,
    "knn": 3,
    "flow": 3,
    "stereo": 2,
    "relative-pose": 2,
    "correspondence": 2,
    "cross-attention": 2,
    "two-view-pose": 1,
    "reconstruction": 1,
}

if TYPE_CHECKING:
    Task = TaskSection
else:  # an entry of `evaluate`, told apart by its `task`
    Task = Annotated[
        reduce(or_, (spec.section for spec in TASKS.values())), Field(discriminator="task")
    ]


def spec_of(section: TaskSection) -> TaskSpec:
    """The task that a section of params.yaml describes."""
    return TASKS[section.task]


def run_task(section: TaskSection, model: EvalModel, paths: EvalPaths) -> Result:
    """Run one task on one encoder."""
    return spec_of(section).run(section, model, paths)
