"""Whether a task can be trained and scored on its data, asked before anything is trained.

Every split is looked through as the task will see it, with its crop, range, masks and labels. What
each kind of task asks for is in `KINDS`; what follows from the answers is in `check`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.config import (
    CorrespondenceTask,
    CrossAttentionTask,
    FewShotDepthTask,
    FewShotSegmentationTask,
    KnnTask,
    PoseTask,
    ReconstructionTask,
    RelativePoseTask,
    Task,
    TaskonomyTask,
)
from mimic.config.tasks.depth import DepthFields
from mimic.config.tasks.imagenet import ImageNetTask
from mimic.config.tasks.motion import FlowTask, StereoTask
from mimic.config.tasks.segmentation import SegmentationFields
from mimic.errors import BadInput
from mimic.infra.storage import fingerprint
from mimic.tasks import looks
from mimic.tasks.census import Asked, Split
from mimic.tasks.looks import Found
from mimic.tasks.shots import subset

IDLE = {  # fields that change nothing of what is asked of the data
    *("samples", "tracked_by", "save_every", "precision", "head_width", "steps", "epochs"),
    *("lr", "base_lr", "weight_decay", "betas", "momentum", "trust", "clip_grad", "temperature"),
    *("layer_decay", "drop_path", "warmup", "warmup_epochs", "warmup_from", "drop_at"),
}


def _correspondence(task: Any, root: Path, asked: Asked) -> Found:
    from mimic.tasks import correspondence  # needs torch, which takes seconds to import

    return correspondence.look(task, root, asked)


def _reconstruction(task: Any, root: Path, asked: Asked) -> Found:
    from mimic.tasks import reconstruction

    return reconstruction.look(task, root, asked)


@dataclass(frozen=True)
class Kind:
    """A kind of task: its sections, what it asks for, and who looks."""

    sections: tuple[type, ...]
    asked: Asked
    look: Callable[[Any, Path, Asked], Found]


KINDS = (
    Kind(
        (DepthFields,),
        Asked(
            "images",
            "pixels of known depth",
            "depth_m",
            "look at masks, depth_min_m, depth_max_m, frame and score_region",
        ),
        looks.nyu,
    ),
    Kind(
        (SegmentationFields,),
        Asked("images", "labelled pixels", "class", "look at the annotations, frame and size_px"),
        looks.ade20k,
    ),
    Kind(
        (TaskonomyTask,),
        Asked("images", "valid pixels", "target", "look at mask_valid, erode_px and size_px"),
        looks.taskonomy,
    ),
    Kind(
        (PoseTask,),
        Asked("people", "labelled joints", "height_px", "look at the annotations"),
        looks.coco,
    ),
    Kind(
        (ImageNetTask,),
        Asked("images", "", "smaller side_px", "look at the class folders"),
        looks.imagenet,
    ),
    Kind(
        (FlowTask, StereoTask),
        Asked("pairs", "pixels of known motion", "motion_px", "look at the masks and true motion"),
        looks.motion,
    ),
    Kind(
        (RelativePoseTask,),
        Asked("frames", "", "camera_m", "look at the lists of sequences"),
        looks.seven_scenes,
    ),
    Kind(
        (CorrespondenceTask, CrossAttentionTask),
        Asked(
            "pairs",
            "patches with a true match",
            "overlap",
            "is the homography that of the stored images?",
        ),
        _correspondence,
    ),
    Kind(
        (ReconstructionTask,),
        Asked("pairs", "", "overlap", "mine more pairs"),
        _reconstruction,
    ),
)


def check(task: Task, root: Path) -> dict[str, Any]:
    """Look through a task's data before anything is trained on them: counts, units, masks, labels.

    Args:
        root: the workspace.

    Returns:
        What was found, JSON-able, without machine paths: "splits" with a count each, "found" with
        what each holds (`Split.facts`), "bytes", "digest", "asked", and what the task adds.

    Raises:
        BadInput: files are missing, damaged, in another unit, or not what their names say; or a
            split has nothing to train on or to score.
    """
    kind = next(kind for kind in KINDS if isinstance(task, kind.sections))
    found = kind.look(task, root, kind.asked)
    for split in found.splits:
        split.require(found.where)
    _enough(task, found)
    return {
        "splits": {split.name: len(split.used) for split in found.splits},
        "found": {split.name: split.facts() for split in found.splits},
        "asked": asked_by(task),
        **found.facts,
    }


def asked_by(task: Task) -> str:
    """Changes with every field that could change what `check` says."""
    return fingerprint(task.model_dump(mode="json", exclude=IDLE))


def _enough(task: Task, found: Found) -> None:
    """Whether the train split suffices for what the task draws from it."""
    train = found.splits[0]
    length = len(train.used)
    if isinstance(task, KnnTask) and max(task.k) > length:
        raise BadInput(f"k {max(task.k)}: there are {length} training images; lower k")
    if isinstance(task, FewShotDepthTask | FewShotSegmentationTask):
        if max(task.shots) > length:
            raise BadInput(f"shots {max(task.shots)}: there are {length} training images; lower shots")
        _every_draw(task, train)


def _every_draw(task: FewShotDepthTask | FewShotSegmentationTask, train: Split) -> None:
    """A draw of images without a label would train on nothing."""
    for seed in range(task.seed, task.seed + task.seeds):
        drawn = subset(seed, min(task.shots), len(train.used))
        if not any(train.used[place] for place in drawn):
            raise BadInput(
                f"seed {seed} draws {len(drawn)} training images, none of which has "
                f"{train.asked.part}; raise shots, or {train.asked.remedy}"
            )
