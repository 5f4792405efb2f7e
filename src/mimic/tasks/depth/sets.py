"""The labelled set that a depth task is measured on: NYU Depth v2 as distributed, or a folder of
one's own, recognised by what lies in `data`."""

from __future__ import annotations

from pathlib import Path

from mimic.infra.storage import Workspace
from mimic.tasks.depth import record3d
from mimic.tasks.depth.config import DepthFields
from mimic.tasks.depth.nyu import MAT, Nyu
from mimic.tasks.depth.own import OwnDepth, is_own

DepthSet = Nyu | OwnDepth


def open_depth(task: DepthFields, root: Path) -> DepthSet:
    """
    Raises:
        BadInput: it is not whole, or no set of images with depth.
    """
    workspace = Workspace(root)
    folder = workspace.resolve(task.data)
    masks = None if task.masks is None else workspace.resolve(task.masks)
    if task.layout is None and folder.is_dir() and not (folder / MAT).exists():
        refuse_packed_alone(folder)
    if task.layout == "nyu" or (task.layout is None and not _is_own(folder)):
        return Nyu(folder, masks)
    return OwnDepth(folder, masks, task)


def _is_own(folder: Path) -> bool:
    return not (folder / MAT).exists() and is_own(folder)


def refuse_packed_alone(folder: Path) -> None:
    """Where nothing else is there that could be measured on."""
    if not is_own(folder):
        record3d.refuse_packed(folder)
