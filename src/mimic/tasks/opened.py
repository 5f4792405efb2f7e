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
from mimic.tasks.motion_files import MotionPair, list_pairs
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


def listed_pairs(task: FlowTask | StereoTask, parts: tuple[MotionPart, ...], data: Path) -> list[MotionPair]:
    pairs: list[MotionPair] = []
    for part in parts:
        found = list_pairs(task.task, part.layout, data / part.folder)  # type: ignore[attr-defined]
        chosen = [pair for pair in found if (part.only is None or pair.scene in part.only) and pair.scene not in part.without]
        if not chosen:
            raise BadInput(f"{data / part.folder}: no scene is left by only and without; there are {sorted({p.scene for p in found})[:8]}")
        pairs += chosen * part.repeat
    if not pairs:
        raise BadInput(f"{task.task}: train and test each need a set")
    return pairs
