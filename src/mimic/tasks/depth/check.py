"""Goes through the data of depth tasks as the task will see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mimic.infra.storage import file_digest
from mimic.tasks.depth import frames
from mimic.tasks.depth.config import DepthFields, FewShotDepthTask
from mimic.tasks.depth.nyu import open_nyu
from mimic.tasks.engine.few_shot import require_labels
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each


def look(task: DepthFields, root: Path, needs: Needs) -> DataFound:
    """Every image read, every mask there, depth in metres."""
    train = Split("train", TRAIN, needs)
    test = Split("test", TEST, needs)
    with open_nyu(task, root) as opened:

        def trained_on(index: int) -> tuple[np.ndarray, np.ndarray]:
            return frames.trained_on(task, opened.read(index))

        def scored(index: int) -> tuple[np.ndarray, np.ndarray]:
            return frames.scored(task, opened.read(index))

        for _, (valid, depth_m) in each(train, trained_on, opened.train.tolist()):
            train.add_masked(valid, depth_m)
        for _, (valid, depth_m) in each(test, scored, opened.test.tolist()):
            test.add_masked(valid, depth_m)
        size = opened.path.stat().st_size
        digest = file_digest(opened.path)
    facts = {"images": opened.length, "bytes": size, "digest": digest}
    if isinstance(task, FewShotDepthTask):
        require_labels(train, opened.path, task.shots, range(task.seed, task.seed + task.seeds))
    return DataFound(opened.path, [train, test], facts)
