"""Depth of single images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mimic.config.base import AboveZero, NotNegative, Positive
from mimic.tasks.sections import TrainedTask


class DepthFields(TrainedTask):
    """What all depth tasks share."""

    LATER: ClassVar[dict[str, Any]] = {"standardise": False, "layout": None, "depth_unit": None}

    # nyu: the official .mat; folders: images and depth of your own; null = what lies there
    layout: Literal["nyu", "folders"] | None
    # of your own depth: a number = units a metre; null = as info.json says, or as the numbers tell
    depth_unit: Literal["m", "cm", "mm"] | AboveZero | None
    masks: Path | None  # folder of masks, 255 = valid; null = valid where the sensor measured
    frame: Literal[
        "crop", "whole"
        # crop: the smaller side becomes size_px, then a square of it; whole: all of it, sides
        # rounded to patches
    ]
    # the last block the head reads passes the final norm (CroCo's own); false: all are raw
    # (MultiMAE, MIMIC)
    last_norm: bool
    # the head reads every block with each channel standardised over the batch while it trains, and
    # over what was trained on when it is measured (DINOv2's and DINOv3's batch norm before a head).
    # Not stated: false
    standardise: bool
    antialias: bool  # when images are made smaller
    units_per_m: (
        AboveZero  # the target is (depth in metres * units_per_m - target_mean) / target_std
    )
    target_mean: float
    target_std: AboveZero
    score_at: Literal["input", "native"]  # resolution at which prediction meets truth
    score_region: Literal[
        "all", "eigen"
    ]  # eigen: rows 45:471, columns 41:601 of 480 x 640; native only
    depth_min_m: (
        NotNegative | None
    )  # truth beyond these is not scored, predictions are clamped to them
    depth_max_m: AboveZero | None
    flip_test: bool  # average the predictions of the image and of its mirror image
    averaging: Literal[
        "batch", "image", "global"
    ]  # which average is the value; all three are reported
    eval_batch: Positive
    eval_ranks: Positive  # averaging by batch: the peers' batches come from this many processes

    @model_validator(mode="after")
    def _scored(self) -> DepthFields:
        if self.depth_max_m is not None and self.depth_max_m <= (self.depth_min_m or 0):
            raise ValueError(
                f"depth_max_m {self.depth_max_m:g} is not above depth_min_m "
                f"{self.depth_min_m or 0:g}"
            )
        if self.score_region == "eigen" and (self.score_at, self.frame) != ("native", "whole"):
            raise ValueError(
                "score_region eigen is defined on native whole frames: set score_at: native and "
                "frame: whole"
            )
        if self.score_at == "native" and self.frame != "whole":
            raise ValueError("score_at native needs the whole frame: set frame: whole")
        return self


class DepthTask(DepthFields):
    """DPT head, any freezing (MultiMAE's protocol)."""

    task: Literal["depth"]


class FrozenDepth(DepthFields):
    """Depth from features that are computed once: the encoder is frozen, and images are seen whole
    or mirrored, nothing else."""

    freeze: Literal["encoder"]
    augment: Literal["none", "flip"]


class LinearDepthTask(FrozenDepth):
    """A linear layer on the last block, depth as the mean of bins (as DINOv2 does)."""

    task: Literal["linear-depth"]
    preset: Literal["standard"]  # neither paper has it
    # of equal width from depth_min_m to depth_max_m; a pixel's depth is their weighted mean
    bins: Positive

    @model_validator(mode="after")
    def _binned(self) -> LinearDepthTask:
        if self.standardise:
            raise ValueError("standardise: the linear head has a batch norm of its own; set false")
        if not self.last_norm:
            raise ValueError(
                "last_norm: a linear layer reads its block after the final norm; set true"
            )
        if self.depth_min_m is None or self.depth_max_m is None:
            raise ValueError("bins need depth_min_m and depth_max_m")
        if (self.units_per_m, self.target_mean, self.target_std) != (1, 0, 1):
            raise ValueError("bins are metres: set units_per_m: 1, target_mean: 0, target_std: 1")
        return self


class FewShotDepthTask(FrozenDepth):
    """The DPT head trained on few images, several times (MIMIC, figure 3b)."""

    task: Literal["few-shot-depth"]
    shots: tuple[Positive, ...]  # training images; the value is that of the largest number
    seeds: Annotated[
        int, Field(ge=2)
    ]  # draws of each, seed, seed + 1, ...; a draw's subsets are nested
