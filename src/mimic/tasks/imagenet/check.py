"""Decodes every image of ImageNet's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimic.errors import BadInput
from mimic.tasks.imagenet.config import ImageNetTask, KnnTask
from mimic.tasks.imagenet.dataset import open_imagenet
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each


def look(task: ImageNetTask, root: Path, needs: Needs) -> DataFound:
    """Every image decoded.

    Raises:
        BadInput: an image cannot be read, or k is larger than the training split.
    """
    opened = open_imagenet(task, root)
    train = Split("train", TRAIN, needs)
    test = Split("test", TEST, needs)
    for split, (paths, _) in ((train, opened.train), (test, opened.val)):
        for _, shape in each(split, lambda path: opened.read(path).shape, paths):
            split.add(1, 1, [min(shape[:2])])
    if isinstance(task, KnnTask) and max(task.k) > len(train.used):
        raise BadInput(f"k {max(task.k)}: there are {len(train.used)} training images; lower k")
    facts: dict[str, Any] = {"classes": len(opened.wnids), **opened.extent}
    if opened.notes:
        facts["said"] = list(opened.notes)
    return DataFound(opened.folder, [train, test], facts)
