"""A task's data, opened, and looked through before anything is trained on them.

Torch is not needed here but for pairs of a dataset: importing it takes longer than looking through a small set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mimic.config import CorrespondenceTask, CrossAttentionTask, PoseTask, ReconstructionTask, RelativePoseTask, Task, TaskonomyTask
from mimic.config.tasks.depth import DepthFields
from mimic.config.tasks.imagenet import ImageNetTask
from mimic.config.tasks.motion import FlowTask, StereoTask
from mimic.config.tasks.segmentation import SegmentationFields
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, file_digest
from mimic.tasks.ade20k import IGNORED
from mimic.tasks.coco import Coco
from mimic.tasks.files import extent, read_photo
from mimic.tasks.motion_files import read
from mimic.tasks.opened import boxes_of, listed_pairs, opened_ade20k, opened_imagenet, opened_nyu, opened_taskonomy
from mimic.tasks.seven_scenes import read_scene

READERS = 4  # threads: decoders release the interpreter
AHEAD = 1024  # files that are asked for at once
Seen = TypeVar("Seen")


def check(task: Task, root: Path) -> dict[str, Any]:
    """Look through a task's data before anything is trained on them: counts, units, masks, labels.

    Args:
        root: the workspace.

    Returns:
        What was found, JSON-able, without machine paths: "splits" with a count each, "bytes", "digest", and whatever the task adds.

    Raises:
        BadInput: files are missing, damaged, in another unit, or not what their names say.
    """
    match task:
        case DepthFields():
            return _nyu(task, root)
        case SegmentationFields():
            return _ade20k(task, root)
        case TaskonomyTask():
            return _taskonomy(task, root)
        case PoseTask():
            return _coco(task, root)
        case ImageNetTask():
            return _imagenet(task, root)
        case FlowTask() | StereoTask():
            return _motion(task, root)
        case RelativePoseTask():
            return _seven_scenes(task, root)
        case CorrespondenceTask() | CrossAttentionTask():
            from mimic.tasks import correspondence

            return correspondence.check(task, root)
        case ReconstructionTask():
            from mimic.tasks import reconstruction

            return reconstruction.check(task, root)


def _nyu(task: DepthFields, root: Path) -> dict[str, Any]:
    """Every image read, every mask there, depth in metres."""
    with opened_nyu(task, root) as nyu:
        for index in np.concatenate([nyu.train, nyu.test]):
            nyu.read(int(index))
        splits = {"train": len(nyu.train), "test": len(nyu.test)}
        return {"splits": splits, "images": nyu.length, "bytes": nyu.path.stat().st_size, "digest": file_digest(nyu.path)}


def _taskonomy(task: TaskonomyTask, root: Path) -> dict[str, Any]:
    """Every image, target and mask of the three lists read; bits, channels and masks right."""
    taskonomy = opened_taskonomy(task, root)
    valid = [float(taskonomy.read(index).valid.mean()) for index in range(len(taskonomy))]
    splits = {"train": len(taskonomy.train), "validation": len(taskonomy.validation), "test": len(taskonomy.test)}
    return {"splits": splits, "target": task.target, "valid": round(float(np.mean(valid)), 6), **taskonomy.extent()}


def _ade20k(task: SegmentationFields, root: Path) -> dict[str, Any]:
    """Every image and annotation read; labels in range."""
    ade = opened_ade20k(task, root)
    present, unlabelled, pixels = np.zeros(ade.n_classes, bool), 0, 0
    for index in range(len(ade)):
        labels = ade.read(index).labels
        counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)
        present |= counts[: ade.n_classes] > 0
        unlabelled, pixels = unlabelled + int(counts[IGNORED]), pixels + labels.size
    splits = {"train": len(ade.train), "test": len(ade.test)}
    return {"splits": splits, "classes": int(present.sum()), "unlabelled": round(unlabelled / pixels, 6), **ade.extent()}


def _coco(task: PoseTask, root: Path) -> dict[str, Any]:
    """Both splits' annotations and images, and the detected boxes."""
    folder = Workspace(root).resolve(task.data)
    found = {split: Coco(folder, split) for split in ("train", "val")}
    facts = {split: coco.check() for split, coco in found.items()}
    return {
        "splits": {split: facts[split]["people"] for split in facts},
        "images": {split: facts[split]["images"] for split in facts},
        "boxes": len(boxes_of(task, found["val"], root)),
        "bytes": sum(facts[split]["bytes"] for split in facts),
        "digest": facts["train"]["digest"][:32] + facts["val"]["digest"][:32],
    }


def _motion(task: FlowTask | StereoTask, root: Path) -> dict[str, Any]:
    """Every pair read: sizes, units, masks."""
    data = Workspace(root).resolve(task.data)
    splits = {"train": listed_pairs(task, task.train, data), "test": listed_pairs(task, task.test, data)}
    files: set[Path] = set()
    for pairs in splits.values():
        for pair in set(pairs):
            read(pair)
            files |= {pair.a, pair.b, pair.truth} | ({pair.mask} if pair.mask else set())
    return {"splits": {name: len(set(pairs)) for name, pairs in splits.items()}, **extent(files, data)}


def _seven_scenes(task: RelativePoseTask, root: Path) -> dict[str, Any]:
    """Lists, poses and images of every scene; an official scene has all its frames."""
    folder = Workspace(root).resolve(task.data)
    scenes = [read_scene(folder, name, every=1) for name in task.scenes]
    views = [view for scene in scenes for view in (*scene.train, *scene.test)]
    sizes: set[tuple[int, ...]] = set()
    for view, shape in zip(views, _in_threads(lambda view: read_photo(view.image).shape, views), strict=True):
        sizes.add(shape)
        if len(sizes) > 1:
            raise BadInput(f"{view.image}: {shape[1]} x {shape[0]}, others are of another size; frames come from one camera")
    counts = {scene.name: {"train": len(scene.train), "test": len(scene.test)} for scene in scenes}
    total = {split: sum(found[split] for found in counts.values()) for split in ("train", "test")}
    facts: dict[str, Any] = {"splits": total, "scenes": counts}
    if task.retrieval is not None:
        from mimic.tasks.retrieval import read_lists

        path = Workspace(root).resolve(task.retrieval)
        facts["retrieval"] = {"frames": len(read_lists(path)), "digest": file_digest(path)}
    return {**facts, **extent((path for view in views for path in view.files), folder)}


def _imagenet(task: ImageNetTask, root: Path) -> dict[str, Any]:
    """Every image decoded."""
    found = opened_imagenet(task, root)
    paths = [*found.train[0], *found.val[0]]
    for _ in _in_threads(lambda path: found.read(path).shape, paths):
        pass
    splits = {"train": len(found.train[0]), "test": len(found.val[0])}
    return {"splits": splits, "classes": len(found.wnids), **found.extent}


def _in_threads(look: Callable[[Any], Seen], at: Sequence[Any]) -> Iterator[Seen]:
    """Results in order; an exception ends it."""
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(at), AHEAD):
            yield from pool.map(look, at[start : start + AHEAD])
