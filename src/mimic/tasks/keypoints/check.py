"""Goes through COCO's people as the task will see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mimic.infra.storage import Workspace, file_digest
from mimic.tasks.engine.image_io import read_photo
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each
from mimic.tasks.keypoints.coco import JOINTS, Coco, Person, boxes_of
from mimic.tasks.keypoints.config import PoseTask


def look(task: PoseTask, root: Path, needs: Needs) -> DataFound:
    """Both splits' annotations; every image that is trained on or scored, read; the boxes."""
    folder = Workspace(root).resolve(task.data)
    splits = [Split("train", TRAIN, needs), Split("val", TEST, needs)]
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
        images = Split(split.name, split.use, replace(needs, items="images"))
        for _ in each(images, lambda path: read_photo(path).shape, paths):
            pass
    return DataFound(
        folder,
        splits,
        {
            "images": {name: fact["images"] for name, fact in facts.items()},
            "boxes": len(boxes),
            "bytes": sum(fact["bytes"] for fact in facts.values()),
            "digest": facts["train"]["digest"][:32] + facts["val"]["digest"][:32],
            "detections": None
            if task.boxes is None
            else file_digest(Workspace(root).resolve(task.boxes)),
        },
    )
