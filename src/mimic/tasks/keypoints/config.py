"""Joints of people."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mimic.config.base import Count, Fraction, Positive
from mimic.tasks.sections import TrainedTask


class PoseTask(TrainedTask):
    """COCO keypoints, top-down, two deconvolutions on the last block (ViTPose). size_px is the
    crop's height."""

    task: Literal["pose"]
    width_px: Positive  # of the crop
    boxes: Path | None  # a detector's boxes in the validation images; null = the annotated ones
    patch_padding: Count  # pixels around the crop before it is cut into patches
    warmup_from: Fraction  # share of lr that the warm-up begins with
    drop_at: tuple[Fraction, ...]  # shares of the steps after which lr is divided by ten
    flip_test: bool  # average the maps of the crop and of its mirror image
    eval_batch: Positive
