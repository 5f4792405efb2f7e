"""Classes of pixels."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mimic.config.base import Count, Positive
from mimic.tasks.sections import TrainedTask

Factor = Annotated[float, Field(gt=0)]


class SegmentationFields(TrainedTask):
    """What all segmentation tasks share."""

    LATER: ClassVar[dict[str, Any]] = {"layout": None, "ignore": 255}

    # ade20k: the official folders; folders: images and masks of your own; null = what lies there
    layout: Literal["ade20k", "folders"] | None
    ignore: Count  # in masks of your own: the value that is no class; ADE20K's is 0
    images: (
        tuple[Positive, Positive] | None
    )  # how many training and validation images the set must have; null = what is there
    frame: Literal[
        "padded", "whole"
        # padded: the larger side becomes size_px, the rest of the square is grey; whole: the
        # smaller side becomes size_px
    ]
    antialias: bool  # when images are made smaller
    scale: tuple[
        Factor, Factor
    ]  # augment peer: the frame is resized by a random factor in this range, then a square is cut
    inference: Literal["whole", "slide"]  # slide: mean of the logits of overlapping squares
    stride_px: Positive | None  # between those squares
    score_at: Literal["input", "native"]  # resolution at which prediction meets truth
    averaging: Literal[
        "global", "image"
    ]  # global: one count of pixels over all images; both are reported
    eval_batch: Positive

    @model_validator(mode="after")
    def _scored(self) -> SegmentationFields:
        if (self.frame == "padded") != (self.score_at == "input"):
            raise ValueError("frame padded is scored at input resolution, frame whole at native")
        if self.inference == "slide" and (self.frame != "whole" or self.stride_px is None):
            raise ValueError("inference slide needs frame: whole and a stride_px")
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale: the first factor is the smaller one")
        return self


class ConvNextFields(SegmentationFields):
    """ConvNeXt head on the last block."""

    cell_px: Positive  # side of the cells that the head splits patches into
    head_blocks: Positive


class SegmentationTask(ConvNextFields):
    """ConvNeXt head, any freezing (MultiMAE's protocol)."""

    task: Literal["segmentation"]


class LinearSegmentationTask(SegmentationFields):
    """A linear layer on the last block, from features of the training images that are computed once
    (as DINOv2 does)."""

    task: Literal["linear-segmentation"]
    preset: Literal["standard"]  # neither paper has it
    freeze: Literal["encoder"]
    augment: Literal["none", "flip"]


class FewShotSegmentationTask(ConvNextFields):
    """The ConvNeXt head trained on few images, several times, from features that are computed once
    (MIMIC, figure 3b)."""

    task: Literal["few-shot-segmentation"]
    preset: Literal["published"]
    freeze: Literal["encoder"]
    augment: Literal["none", "flip"]
    frame: Literal["padded"]  # test images of one size too
    shots: tuple[Positive, ...]  # training images; the value is that of the largest number
    seeds: Annotated[
        int, Field(ge=2)
    ]  # draws of each, seed, seed + 1, ...; a draw's subsets are nested
