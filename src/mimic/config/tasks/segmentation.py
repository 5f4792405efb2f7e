"""Classes of pixels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimic.config.base import Positive
from mimic.config.tasks.base import TrainedTask

Factor = Annotated[float, Field(gt=0)]


class SegmentationTask(TrainedTask):
    """ADE20K-layout semantic segmentation, ConvNeXt head on the last block (spec downstream 3.2)."""

    task: Literal["segmentation"]
    images: tuple[Positive, Positive] | None  # how many training and validation images the set must have; null = what is there
    cell_px: Positive  # side of the cells that the head splits patches into
    head_blocks: Positive
    frame: Literal[
        "padded", "whole"
    ]  # padded: the larger side becomes size_px, the rest of the square is grey; whole: the smaller side becomes size_px
    antialias: bool  # when images are made smaller
    scale: tuple[Factor, Factor]  # augment peer: the frame is resized by a random factor in this range, then a square is cut
    inference: Literal["whole", "slide"]  # slide: mean of the logits of overlapping squares
    stride_px: Positive | None  # between those squares
    score_at: Literal["input", "native"]  # resolution at which prediction meets truth
    averaging: Literal["global", "image"]  # global: one count of pixels over all images; both are reported
    eval_batch: Positive

    @model_validator(mode="after")
    def _scored(self) -> SegmentationTask:
        if (self.frame == "padded") != (self.score_at == "input"):
            raise ValueError("frame padded is scored at input resolution, frame whole at native")
        if self.inference == "slide" and (self.frame != "whole" or self.stride_px is None):
            raise ValueError("inference slide needs frame: whole and a stride_px")
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale: the first factor is the smaller one")
        return self
