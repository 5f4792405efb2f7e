"""Depth of single images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from mimic.config.base import Positive
from mimic.config.tasks.base import TrainedTask


class DepthTask(TrainedTask):
    """NYUv2-layout depth, DPT head (spec downstream 3.1)."""

    task: Literal["depth"]
    masks: Path | None  # folder of masks, 255 = valid; null = valid where the sensor measured
    frame: Literal[
        "crop", "whole"
    ]  # crop: the smaller side becomes size_px, then a square of it; whole: all of it, sides rounded to patches
    antialias: bool  # when images are made smaller
    units_per_m: float  # the target is (depth in metres * units_per_m - target_mean) / target_std
    target_mean: float
    target_std: float
    score_at: Literal["input", "native"]  # resolution at which prediction meets truth
    score_region: Literal["all", "eigen"]  # eigen: rows 45:471, columns 41:601 of 480 x 640; native only
    depth_min_m: float | None  # truth beyond these is not scored, predictions are clamped to them
    depth_max_m: float | None
    flip_test: bool  # average the predictions of the image and of its mirror image
    averaging: Literal["batch", "image", "global"]  # which average is the value; all three are reported
    eval_batch: Positive
    eval_ranks: Positive  # averaging by batch: the peers' batches come from this many processes

    @model_validator(mode="after")
    def _scored(self) -> DepthTask:
        if self.score_region == "eigen" and (self.score_at, self.frame) != ("native", "whole"):
            raise ValueError("score_region eigen is defined on native whole frames: set score_at: native and frame: whole")
        if self.score_at == "native" and self.frame != "whole":
            raise ValueError("score_at native needs the whole frame: set frame: whole")
        return self
