"""Goes through Taskonomy's data as the task will see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mimic.tasks.inspection import CHOOSE, TEST, TRAIN, DataFound, Needs, Split, each
from mimic.tasks.taskonomy.config import TaskonomyTask
from mimic.tasks.taskonomy.dataset import labels_seen, open_taskonomy


def look(task: TaskonomyTask, root: Path, needs: Needs) -> DataFound:
    """Every image, target and mask of the three lists read; bits, channels and masks right."""
    opened = open_taskonomy(task, root)
    train = Split("train", TRAIN, needs)
    validation = Split("validation", CHOOSE, needs)
    test = Split("test", TEST, needs)

    def look(index: int) -> tuple[np.ndarray, np.ndarray, float]:
        frame = opened.read(index)
        target, valid = labels_seen(
            frame.target, frame.valid, opened.kind, task.size_px, task.erode_px
        )
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
    return DataFound(opened.folder, splits, facts)
