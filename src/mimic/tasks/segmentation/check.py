"""Goes through the data of segmentation tasks as the task will see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimic.tasks.engine.dense_transforms import Item
from mimic.tasks.engine.few_shot import require_labels
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each
from mimic.tasks.segmentation import frames
from mimic.tasks.segmentation.ade20k import IGNORED
from mimic.tasks.segmentation.config import FewShotSegmentationTask, SegmentationFields
from mimic.tasks.segmentation.sets import open_masks


def look(task: SegmentationFields, root: Path, needs: Needs) -> DataFound:
    """Every image and annotation read; labels in range."""
    ade = open_masks(task, root)
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
    facts: dict[str, Any] = {
        "classes": int(present.any(axis=0).sum()),
        "classes_never_trained": int((present[1] & ~present[0]).sum()),  # but scored
        "unlabelled": round(float(pixels[:, IGNORED].sum() / pixels.sum()), 6),
    }
    if ade.notes:
        facts["said"] = [*ade.notes, *_rare(ade.names, present)]
    if isinstance(task, FewShotSegmentationTask):
        require_labels(train, ade.folder, task.shots, range(task.seed, task.seed + task.seeds))
    return DataFound(ade.folder, [train, test], {**facts, **ade.extent()})


def _rare(names: Sequence[str], present: np.ndarray) -> Iterator[str]:
    """Classes that decide nothing, or nothing can be learned of; `present` bool[2, classes]."""
    for mask, what in (
        (~present.any(axis=0), "in no mask"),
        (present[1] & ~present[0], "scored, never trained on"),
        (present[0] & ~present[1], "trained on, never scored"),
    ):
        listed = [names[number] for number in np.flatnonzero(mask)[:8].tolist()]
        if listed:
            yield f"{int(mask.sum())} classes {what}: {', '.join(listed)}"
