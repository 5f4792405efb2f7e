"""Reads lists, poses, images and neighbours of the scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput
from mimic.infra.storage import Workspace, file_digest
from mimic.tasks.engine.image_io import extent, read_photo
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each
from mimic.tasks.relative_pose.config import RelativePoseTask
from mimic.tasks.relative_pose.seven_scenes import (
    PosedImage,
    SevenScenesScene,
    read_scene,
    require_neighbours,
)


def look(task: RelativePoseTask, root: Path, needs: Needs) -> DataFound:
    """Lists, poses, images and neighbours of every scene; an official scene has all its frames.

    Raises:
        BadInput: an image cannot be read or is of another size than the rest, or a list names
            too few neighbours.
    """
    folder = Workspace(root).resolve(task.data)
    scenes = [read_scene(folder, name, every=1) for name in task.scenes]
    train = Split("train", TRAIN, needs)
    test = Split("test", TEST, needs)
    shapes: set[tuple[int, ...]] = set()
    for split in (train, test):
        views: list[PosedImage] = [view for scene in scenes for view in getattr(scene, split.name)]
        for view, shape in each(split, lambda view: read_photo(view.image).shape, views):
            shapes.add(shape)
            if len(shapes) > 1:
                raise BadInput(
                    f"{view.image}: {shape[1]} x {shape[0]}, others are of another size; frames "
                    "come from one camera"
                )
            split.add(1, 1, [float(np.linalg.norm(view.pose[:3, 3]))])
    everything = [path for of in scenes for view in (*of.train, *of.test) for path in view.files]
    facts: dict[str, Any] = {
        "scenes": {of.name: {"train": len(of.train), "test": len(of.test)} for of in scenes}
    }
    if task.every != 1:
        scenes = [read_scene(folder, name, task.every) for name in task.scenes]
    facts |= _neighbours(task, scenes, root)
    return DataFound(folder, [train, test], {**facts, **extent(everything, folder)})


def _neighbours(
    task: RelativePoseTask, scenes: list[SevenScenesScene], root: Path
) -> dict[str, Any]:
    """Whether each frame in use has as many as the task asks for."""
    if task.retrieval is None:
        for scene in scenes:
            require_neighbours(task, scene)
        return {}
    from mimic.tasks.relative_pose.retrieval import listed, read_lists

    path = Workspace(root).resolve(task.retrieval)
    lists = read_lists(path)
    for scene in scenes:
        listed(task, lists, scene)
    return {"retrieval": {"frames": len(lists), "digest": file_digest(path)}}
