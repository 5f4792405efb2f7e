"""Sections `evaluate`, `table` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimic.config.base import Count, Fraction, Positive, Section


class TrainedTask(Section):
    """A task whose head is trained, and perhaps the encoder with it (spec downstream 2.2, 2.3, 2.6)."""

    preset: Literal["peer", "standard"]  # the protocol this follows; fields that differ from it are listed in the result
    data: Path
    freeze: Literal["none", "blocks", "encoder"]  # blocks: what the peers' flag does; encoder: everything, in eval mode, without gradient
    blocks: tuple[int, ...] | None  # encoder blocks the head reads, counted from 0; null = evenly spaced, ending with the last
    head_width: Positive
    size_px: Positive
    augment: Literal["none", "flip", "peer"]  # peer: mirroring and whatever else the peers do in this task
    steps: Positive
    batch: Positive
    lr: float
    weight_decay: float
    betas: tuple[float, float]
    layer_decay: float  # learning rate of a layer relative to the next
    drop_path: Fraction
    warmup: Fraction  # share of the steps
    clip_grad: float | None
    precision: Literal["fp32", "bf16"]
    save_every: Positive | None  # steps between checkpoints of a long fine-tuning; null = none, a killed one starts again
    seed: int
    samples: Count  # pictures written for the report


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


class CorrespondenceTask(Section):
    """Patch-match recall between the two views of held-out pairs; needs no training (spec downstream 8, rank 1)."""

    task: Literal["correspondence"]
    dataset: str  # its validation split is used
    pairs: Positive
    batch: Positive
    block: int | None  # the block whose recall is the value, fixed beforehand; null = the last; all blocks are reported
    overlap_bins: tuple[float, ...]  # edges
    samples: Count
    seed: int  # which pairs are drawn where the split has more


Task = Annotated[DepthTask | CorrespondenceTask, Field(discriminator="task")]


class Table(Section):
    """Rows and columns of the results table: what `dvc repro` evaluates."""

    runs: tuple[str, ...]
    tasks: tuple[str, ...]


class Report(Section):
    title: str
    pairs: Count  # pairs in the gallery of each source
    columns: Positive
