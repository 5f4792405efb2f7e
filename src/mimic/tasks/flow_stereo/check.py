"""Reads every pair of the sets of flow and stereo."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mimic.infra.storage import Workspace
from mimic.tasks.engine.image_io import extent
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.flow_stereo.files import read
from mimic.tasks.flow_stereo.mixture import mixture
from mimic.tasks.flow_stereo.sets import listed_parts, mixed
from mimic.tasks.inspection import TEST, TRAIN, DataFound, Needs, Split, each


def look(task: FlowTask | StereoTask, root: Path, needs: Needs) -> DataFound:
    """Every pair read: sizes, units, masks."""
    data = Workspace(root).resolve(task.data)
    splits = [Split("train", TRAIN, needs), Split("test", TEST, needs)]
    listed = [listed_parts(task, parts, data) for parts in (task.train, task.test)]
    files: set[Path] = set()
    sets: dict[str, list[str]] = {}
    look = partial(read, masks=task.masks)
    for split, parts, pairs_of_parts in zip(splits, (task.train, task.test), listed, strict=True):
        sets[split.name] = mixture(parts, [len(pairs) for pairs in pairs_of_parts])
        pairs = list(dict.fromkeys(mixed(parts, pairs_of_parts)))
        for pair, seen in each(split, look, pairs):
            split.add_masked(seen.valid, np.linalg.norm(seen.motion, axis=-1))
            files |= {pair.a, pair.b, pair.truth} | ({pair.mask} if pair.mask else set())
    return DataFound(data, splits, {"sets": sets, **extent(files, data)})
