"""Goes through the data of segmentation tasks as the task will see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mimic.tasks.engine.dense_transforms import Item
from mimic.tasks.engine.few_shot import require_labels
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each
from mimic.tasks.segmentation import frames
from mimic.tasks.segmentation.ade20k import IGNORED, open_ade20k
from mimic.tasks.segmentation.config import FewShotSegmentationTask, SegmentationFields


def look(task: SegmentationFields, root: Path, needs: Needs) -> DataFound:
    """Every image and annotation read; labels in range."""
    ade = open_ade20k(task, root)
    train = Split("train", TRAIN, needs)
    test = Split("test", TEST, needs)
    pixels = np.zeros((2, IGNORED + 1), np.int64)  # of each split and label, as stored

    def look(index: int) -> tuple[np.ndarray, Item]:
        item = frames.read(ade, index)
        trained = index < len(ade.train)
        shown = frames.trained_on if trained else frames.scored
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
    if isinstance(task, FewShotSegmentationTask):
        require_labels(train, ade.folder, task.shots, range(task.seed, task.seed + task.seeds))
    return DataFound(ade.folder, [train, test], {**facts, **ade.extent()})
