"""Looks through the data of each kind of task, as the task will see them; see `checks`.

Torch is not needed here but for lists of neighbours: importing it takes longer than looking
through a small set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mimic.config import DepthFields, PoseTask, RelativePoseTask, SegmentationFields, TaskonomyTask
from mimic.config.tasks.imagenet import ImageNetTask
from mimic.config.tasks.motion import FlowTask, StereoTask
from mimic.errors import BadInput
from mimic.infra.progress import counted
from mimic.infra.storage import Workspace, file_digest
from mimic.tasks import depth_frames, segmentation_frames
from mimic.tasks.ade20k import IGNORED
from mimic.tasks.census import Asked, Split
from mimic.tasks.coco import JOINTS, Coco, Person
from mimic.tasks.files import extent, read_photo
from mimic.tasks.frames import Item
from mimic.tasks.motion_files import read
from mimic.tasks.opened import (
    boxes_of,
    listed_parts,
    mixed,
    opened_ade20k,
    opened_imagenet,
    opened_nyu,
    opened_taskonomy,
)
from mimic.tasks.presets.motion import mixture
from mimic.tasks.seven_scenes import Scene, View, read_scene, require_neighbours
from mimic.tasks.taskonomy import labels_seen

READERS = 4  # threads: decoders release the interpreter
AHEAD = 1024  # files that are asked for at once
TRAIN, CHOOSE, TEST = "train on", "choose a step by", "score"
Thing = TypeVar("Thing")
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Found:
    """Of a task's data: where they lie, its splits (the one trained on first), more facts."""

    where: Path
    splits: list[Split]
    facts: dict[str, Any]


def each(split: Split, look: Callable[[Thing], Seen], things: Sequence[Thing]) -> Iterator[tuple[Thing, Seen]]:
    """Things with what was seen of them, in order, several at a time; an exception ends it."""
    title = f"look through the {split.name} split"
    yield from counted(_ahead(look, things), title, len(things), split.asked.items)


def _ahead(look: Callable[[Thing], Seen], things: Sequence[Thing]) -> Iterator[tuple[Thing, Seen]]:
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(things), AHEAD):
            part = things[start : start + AHEAD]
            yield from zip(part, pool.map(look, part), strict=True)


def nyu(task: DepthFields, root: Path, asked: Asked) -> Found:
    """Every image read, every mask there, depth in metres."""
    train, test = Split("train", TRAIN, asked), Split("test", TEST, asked)
    with opened_nyu(task, root) as opened:

        def trained_on(index: int) -> tuple[np.ndarray, np.ndarray]:
            return depth_frames.trained_on(task, opened.read(index))

        def scored(index: int) -> tuple[np.ndarray, np.ndarray]:
            return depth_frames.scored(task, opened.read(index))

        for _, (valid, depth_m) in each(train, trained_on, opened.train.tolist()):
            train.add_masked(valid, depth_m)
        for _, (valid, depth_m) in each(test, scored, opened.test.tolist()):
            test.add_masked(valid, depth_m)
        size, digest = opened.path.stat().st_size, file_digest(opened.path)
    facts = {"images": opened.length, "bytes": size, "digest": digest}
    return Found(opened.path, [train, test], facts)


def ade20k(task: SegmentationFields, root: Path, asked: Asked) -> Found:
    """Every image and annotation read; labels in range."""
    ade = opened_ade20k(task, root)
    train, test = Split("train", TRAIN, asked), Split("test", TEST, asked)
    pixels = np.zeros((2, IGNORED + 1), np.int64)  # of each split and label, as stored

    def look(index: int) -> tuple[np.ndarray, Item]:
        item = segmentation_frames.read(ade, index)
        trained = index < len(ade.train)
        shown = segmentation_frames.trained_on if trained else segmentation_frames.scored
        return np.bincount(item.target.ravel(), minlength=IGNORED + 1), shown(task, item)

    for number, (split, places) in enumerate(((train, ade.train), (test, ade.test))):
        for _, (counts, shown) in each(split, look, places.tolist()):
            pixels[number] += counts
            split.add_masked(shown.valid, shown.target)
    present = pixels[:, : ade.n_classes] > 0
    facts = {
        "classes": int(present.any(axis=0).sum()),
        "classes_never_trained": int((present[1] & ~present[0]).sum()),  # but scored
        "unlabelled": round(float(pixels[:, IGNORED].sum() / pixels.sum()), 6),
    }
    return Found(ade.folder, [train, test], {**facts, **ade.extent()})


def taskonomy(task: TaskonomyTask, root: Path, asked: Asked) -> Found:
    """Every image, target and mask of the three lists read; bits, channels and masks right."""
    opened = opened_taskonomy(task, root)
    train = Split("train", TRAIN, asked)
    validation, test = Split("validation", CHOOSE, asked), Split("test", TEST, asked)

    def look(index: int) -> tuple[np.ndarray, np.ndarray, float]:
        frame = opened.read(index)
        target, valid = labels_seen(frame.target, frame.valid, opened.kind, task.size_px, task.erode_px)
        return valid, target, float(frame.valid.mean())

    stored = []
    lists = (opened.train, opened.validation, opened.test)
    for split, numbers in zip((train, validation, test), lists, strict=True):
        for _, (valid, target, share) in each(split, look, numbers.tolist()):
            split.add_masked(valid, target)
            stored.append(share)
    valid_share = round(float(np.mean(stored)), 6) if stored else None
    facts = {"target": task.target, "valid": valid_share, **opened.extent()}
    splits = [train, validation, test] if task.validate_every else [train, test]
    return Found(opened.folder, splits, facts)


def coco(task: PoseTask, root: Path, asked: Asked) -> Found:
    """Both splits' annotations; every image that is trained on or scored, read; the boxes."""
    folder = Workspace(root).resolve(task.data)
    splits = [Split("train", TRAIN, asked), Split("val", TEST, asked)]
    sets = {split.name: Coco(folder, split.name) for split in splits}
    boxes: list[Person] = []
    for split in splits:
        of = sets[split.name]
        for person in of.people:
            split.add(int(person.visible.sum()), JOINTS, person.box[3:])
        split.require(of.path)
    sets["val"].require_areas()
    boxes = boxes_of(task, sets["val"], root)
    facts = {split.name: sets[split.name].check() for split in splits}
    shown = {"train": sets["train"].people, "val": [*sets["val"].people, *boxes]}
    for split in splits:
        paths = sorted({sets[split.name].path_of(person.image) for person in shown[split.name]})
        images = Split(split.name, split.use, replace(asked, items="images"))
        for _ in each(images, lambda path: read_photo(path).shape, paths):
            pass
    return Found(
        folder,
        splits,
        {
            "images": {name: fact["images"] for name, fact in facts.items()},
            "boxes": len(boxes),
            "bytes": sum(fact["bytes"] for fact in facts.values()),
            "digest": facts["train"]["digest"][:32] + facts["val"]["digest"][:32],
        },
    )


def imagenet(task: ImageNetTask, root: Path, asked: Asked) -> Found:
    """Every image decoded."""
    opened = opened_imagenet(task, root)
    train, test = Split("train", TRAIN, asked), Split("test", TEST, asked)
    for split, (paths, _) in ((train, opened.train), (test, opened.val)):
        for _, shape in each(split, lambda path: opened.read(path).shape, paths):
            split.add(1, 1, [min(shape[:2])])
    return Found(opened.folder, [train, test], {"classes": len(opened.wnids), **opened.extent})


def motion(task: FlowTask | StereoTask, root: Path, asked: Asked) -> Found:
    """Every pair read: sizes, units, masks."""
    data = Workspace(root).resolve(task.data)
    splits = [Split("train", TRAIN, asked), Split("test", TEST, asked)]
    listed = [listed_parts(task, parts, data) for parts in (task.train, task.test)]
    files: set[Path] = set()
    sets: dict[str, list[str]] = {}
    look = partial(read, masks=task.masks)
    for split, parts, found in zip(splits, (task.train, task.test), listed, strict=True):
        sets[split.name] = mixture(parts, [len(pairs) for pairs in found])
        pairs = list(dict.fromkeys(mixed(parts, found)))
        for pair, seen in each(split, look, pairs):
            split.add_masked(seen.valid, np.linalg.norm(seen.motion, axis=-1))
            files |= {pair.a, pair.b, pair.truth} | ({pair.mask} if pair.mask else set())
    return Found(data, splits, {"sets": sets, **extent(files, data)})


def seven_scenes(task: RelativePoseTask, root: Path, asked: Asked) -> Found:
    """Lists, poses, images and neighbours of every scene; an official scene has all its frames."""
    folder = Workspace(root).resolve(task.data)
    scenes = [read_scene(folder, name, every=1) for name in task.scenes]
    train, test = Split("train", TRAIN, asked), Split("test", TEST, asked)
    shapes: set[tuple[int, ...]] = set()
    for split in (train, test):
        views: list[View] = [view for scene in scenes for view in getattr(scene, split.name)]
        for view, shape in each(split, lambda view: read_photo(view.image).shape, views):
            shapes.add(shape)
            if len(shapes) > 1:
                raise BadInput(f"{view.image}: {shape[1]} x {shape[0]}, others are of another size; frames come from one camera")
            split.add(1, 1, [float(np.linalg.norm(view.pose[:3, 3]))])
    everything = [path for of in scenes for view in (*of.train, *of.test) for path in view.files]
    facts: dict[str, Any] = {"scenes": {of.name: {"train": len(of.train), "test": len(of.test)} for of in scenes}}
    if task.every != 1:
        scenes = [read_scene(folder, name, task.every) for name in task.scenes]
    facts |= _neighbours(task, scenes, root)
    return Found(folder, [train, test], {**facts, **extent(everything, folder)})


def _neighbours(task: RelativePoseTask, scenes: list[Scene], root: Path) -> dict[str, Any]:
    """Whether each frame in use has as many as the task asks for."""
    if task.retrieval is None:
        for scene in scenes:
            require_neighbours(task, scene)
        return {}
    from mimic.tasks.retrieval import listed, read_lists

    path = Workspace(root).resolve(task.retrieval)
    lists = read_lists(path)
    for scene in scenes:
        listed(task, lists, scene)
    return {"retrieval": {"frames": len(lists), "digest": file_digest(path)}}
