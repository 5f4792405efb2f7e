"""Goes through the data of depth tasks as the task will see them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput
from mimic.tasks.depth import frames
from mimic.tasks.depth.config import DepthFields, FewShotDepthTask
from mimic.tasks.depth.sets import open_depth
from mimic.tasks.engine.few_shot import require_labels
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each


def look(task: DepthFields, root: Path, needs: Needs) -> DataFound:
    """Every image read, every mask there, depth in metres."""
    train = Split("train", TRAIN, needs)
    test = Split("test", TEST, needs)
    with open_depth(task, root) as opened:
        shapes: Counter[tuple[int, int]] = Counter()

        def trained_on(index: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
            frame = opened.read(index)
            return *frames.trained_on(task, frame), frames.shape(task, frame)

        def scored(index: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
            frame = opened.read(index)
            return *frames.scored(task, frame), frames.shape(task, frame)

        for _, (valid, depth_m, shape) in each(train, trained_on, opened.train.tolist()):
            train.add_masked(valid, depth_m)
            shapes[shape] += 1
        for _, (valid, depth_m, shape) in each(test, scored, opened.test.tolist()):
            test.add_masked(valid, depth_m)
            shapes[shape] += 1
        _require_one(shapes, opened.path)
        facts: dict[str, Any] = {"images": opened.length, **opened.extent()}
        if opened.notes:
            facts["said"] = list(opened.notes)
    if isinstance(task, FewShotDepthTask):
        require_labels(train, opened.path, task.shots, range(task.seed, task.seed + task.seeds))
    return DataFound(opened.path, [train, test], facts)


def _require_one(shapes: Counter[tuple[int, int]], where: Path) -> None:
    """Images are trained on in batches.

    Raises:
        BadInput: they have several shapes once they are resized.
    """
    if len(shapes) > 1:
        listed = ", ".join(
            f"{count} of {width} x {height}" for (height, width), count in shapes.most_common(3)
        )
        raise BadInput(
            f"{where}: images of {len(shapes)} shapes once the smaller side is resized ({listed}); "
            "a depth task needs one: crop them alike, or give each shape a folder and a task"
        )
