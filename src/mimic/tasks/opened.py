"""A task's data, opened as its section of params.yaml says; torch is not needed here."""

from __future__ import annotations

from pathlib import Path

from mimic.config import PoseTask, TaskonomyTask
from mimic.config.tasks.depth import DepthFields
from mimic.config.tasks.imagenet import ImageNetTask
from mimic.config.tasks.motion import FlowTask, MotionPart, StereoTask
from mimic.config.tasks.segmentation import SegmentationFields
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.tasks.ade20k import Ade20k
from mimic.tasks.coco import Coco, Person
from mimic.tasks.imagenet import ImageNet
from mimic.tasks.motion_files import MotionPair
from mimic.tasks.motion_sets import chosen_pairs
from mimic.tasks.nyu import Nyu
from mimic.tasks.taskonomy import Taskonomy


def opened_nyu(task: DepthFields, root: Path) -> Nyu:
    workspace = Workspace(root)
    return Nyu(workspace.resolve(task.data), None if task.masks is None else workspace.resolve(task.masks))


def opened_taskonomy(task: TaskonomyTask, root: Path) -> Taskonomy:
    workspace = Workspace(root)
    return Taskonomy(workspace.resolve(task.data), workspace.resolve(task.splits), task.variant, task.target, task.images)


def opened_ade20k(task: SegmentationFields, root: Path) -> Ade20k:
    """The set, listed.

    Raises:
        BadInput: it is not whole.
    """
    return Ade20k(Workspace(root).resolve(task.data), task.images)


def opened_imagenet(task: ImageNetTask, root: Path) -> ImageNet:
    return ImageNet(Workspace(root).resolve(task.data), task.images)


def boxes_of(task: PoseTask, coco: Coco, root: Path) -> list[Person]:
    boxes = coco.people if task.boxes is None else coco.detected(Workspace(root).resolve(task.boxes))
    if not boxes:
        raise BadInput(f"{coco.path}: nobody has a labelled joint")
    return boxes


def listed_parts(task: FlowTask | StereoTask, parts: tuple[MotionPart, ...], data: Path) -> list[list[MotionPair]]:
    """The pairs of each part, each once.

    Raises:
        BadInput: parts whose data are not there or not whole; all of them are named at once.
    """
    if not parts:
        raise BadInput(f"{task.task}: train and test each need a set")
    found: list[list[MotionPair]] = []
    missing: list[str] = []
    for part in parts:
        try:
            found.append(chosen_pairs(task.task, part, data))
        except BadInput as absent:
            missing.append(str(absent))
    if missing:
        count = f"{len(missing)} of {len(parts)} sets of {task.task} are not there: "
        raise BadInput(f"{count if len(missing) > 1 else ''}{'; '.join(missing)}")
    return found


def mixed(parts: tuple[MotionPart, ...], pairs: list[list[MotionPair]]) -> list[MotionPair]:
    """An epoch: the pairs of each part as often as it says."""
    return [pair for part, found in zip(parts, pairs, strict=True) for pair in found * part.repeat]


def listed_pairs(task: FlowTask | StereoTask, parts: tuple[MotionPart, ...], data: Path) -> list[MotionPair]:
    """The pairs of all parts, each as often as its part says; raises as `listed_parts` does."""
    return mixed(parts, listed_parts(task, parts, data))
