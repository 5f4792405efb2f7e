"""The labelled set that a segmentation task is measured on: ADE20K as distributed, or a folder of
one's own, recognised by what lies in `data`."""

from __future__ import annotations

from pathlib import Path

from mimic.infra.storage import Workspace
from mimic.tasks.segmentation.ade20k import INFO, Ade20k
from mimic.tasks.segmentation.config import SegmentationFields
from mimic.tasks.segmentation.own import OwnMasks, is_own

MaskSet = Ade20k | OwnMasks


def open_masks(task: SegmentationFields, root: Path) -> MaskSet:
    """The set, listed.

    Raises:
        BadInput: it is not whole, or no set of images with masks.
    """
    folder = Workspace(root).resolve(task.data)
    if task.layout == "ade20k" or (task.layout is None and not _is_own(folder)):
        return Ade20k(folder, task.images)
    return OwnMasks(folder, task.ignore)


def _is_own(folder: Path) -> bool:
    official = any((folder / name).exists() for name in INFO)
    return not official and not (folder / "images/training").is_dir() and is_own(folder)
