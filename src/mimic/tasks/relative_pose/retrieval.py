"""Neighbours of the frames of a room among its train frames: from a list, or those most like it to
the encoder as pretrained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.models.encoder import VisionTransformer
from mimic.tasks.api import EvalPaths
from mimic.tasks.engine.batches import in_batches
from mimic.tasks.engine.feature_cache import ImageSet, features, pooled
from mimic.tasks.engine.image_io import extent, read_photo
from mimic.tasks.relative_pose.config import RelativePoseTask
from mimic.tasks.relative_pose.seven_scenes import (
    PosedImage,
    SevenScenesScene,
    require_neighbours,
    too_near,
)

ROWS = 256  # frames compared with all train frames at once
Lists = dict[str, list[str]]


@dataclass(frozen=True)
class Neighbours:
    """Numbers of train frames, int64[frames, neighbours], the best first."""

    train: np.ndarray
    test: np.ndarray


def neighbours(
    task: RelativePoseTask, scene: SevenScenesScene, encoder: VisionTransformer, folders: EvalPaths
) -> Neighbours:
    """Of every frame of a scene; train frames have none in their own sequence nearer than `gap`.

    Raises:
        BadInput: a frame has fewer than the task asks for.
    """
    if task.retrieval is not None:
        lists = read_lists(Workspace(folders.root).resolve(task.retrieval))
        return listed(task, lists, scene)
    require_neighbours(task, scene)
    train, test = (
        _descriptors(task, part, scene.name, split, encoder, folders)
        for split, part in (("train", scene.train), ("test", scene.test))
    )
    middle = train.mean(dim=0)  # what all frames of the room have in common tells none apart
    train, test = (F.normalize(part - middle, dim=1) for part in (train, test))
    barred = too_near(scene.train, task.gap)
    return Neighbours(
        _most_alike(task, train, train, barred),
        _most_alike(task, test, train, np.zeros((len(test), 2), np.int64)),
    )


def read_image(task: RelativePoseTask, view: PosedImage) -> np.ndarray:
    """uint8[size_px, width_px, 3]: the whole frame at the input's size."""
    return cv2.resize(
        read_photo(view.image), (task.width_px, task.size_px), interpolation=cv2.INTER_AREA
    )


def read_lists(path: Path) -> Lists:
    """Names of neighbours by name of frame, both such as chess/seq-01/frame-000000.color.png.

    A line is "frame neighbour", more columns (scores) are ignored, commas are blanks, and lines
    that begin with # are skipped: the lists of hloc and of kapture.

    Raises:
        BadInput: it cannot be read, or a line has one word.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise BadInput(
            f"{path}: no such list of neighbours; write one, or set retrieval: null"
        ) from None
    lists: Lists = {}
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2:
            raise BadInput(f"{path}: line {number} is not `frame neighbour`")
        lists.setdefault(words[0], []).append(words[1])
    return lists


def listed(task: RelativePoseTask, lists: Lists, scene: SevenScenesScene) -> Neighbours:
    """Of every frame of a scene, those that a list names; of a train frame none in its own sequence
    nearer than `gap`, which such lists put first.

    Raises:
        BadInput: it names fewer of a frame than the task asks for.
    """
    barred = too_near(scene.train, task.gap)
    free = np.zeros((len(scene.test), 2), np.int64)
    return Neighbours(
        _listed(task, lists, scene.train, scene.train, barred),
        _listed(task, lists, scene.test, scene.train, free),
    )


def _listed(
    task: RelativePoseTask,
    lists: Lists,
    views: list[PosedImage],
    database: list[PosedImage],
    barred: np.ndarray,
) -> np.ndarray:
    indices = {view.name: index for index, view in enumerate(database)}
    rows = []
    for view, (first, last) in zip(views, barred.tolist(), strict=True):
        named = [name for name in lists.get(view.name, []) if name in indices and name != view.name]
        candidates = (indices[name] for name in named)
        nearest = [index for index in candidates if not first <= index < last][: task.neighbours]
        if len(nearest) < task.neighbours:
            raise BadInput(
                f"{task.retrieval}: {len(nearest)} neighbours of {view.name} among the train "
                f"frames in use, {task.neighbours} are asked for "
                f"(train frames need them too, none within {task.gap} frames of themselves); "
                "complete the list, or lower `neighbours` or `gap`"
            )
        rows.append(nearest)
    return np.array(rows, np.int64)


def _descriptors(
    task: RelativePoseTask,
    views: list[PosedImage],
    scene: str,
    split: str,
    encoder: VisionTransformer,
    folders: EvalPaths,
) -> Tensor:
    """Mean patch of each frame, [frames, width]; kept on disk."""
    of = {
        "set": "7-scenes",
        "scene": scene,
        "split": split,
        "every": task.every,
        "width_px": task.width_px,
        "size_px": task.size_px,
    }
    digest = str(extent([view.image for view in views], views[0].image.parents[2])["digest"])
    images = ImageSet(digest, of, len(views), lambda index: read_image(task, views[index]))
    vectors = features(
        folders.features,
        images,
        encoder,
        pooled(encoder, "mean"),
        {"vector": "mean", "norm": True},
        task.eval_batch,
        "float32",
    )
    return torch.from_numpy(vectors[np.arange(len(views))])


def _most_alike(
    task: RelativePoseTask, of: Tensor, among: Tensor, barred: np.ndarray
) -> np.ndarray:
    rows = []
    for part in in_batches(len(of), ROWS):
        likeness = of[part] @ among.T
        for row, (first, last) in enumerate(barred[part]):
            likeness[row, first:last] = -torch.inf
        best = likeness.topk(min(task.neighbours, len(among)), dim=1)
        rows.append(best.indices.numpy())
    return np.concatenate(rows)
