"""Classes of images, read off a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mimic.config.base import AboveZero, AreaRange, Count, NotNegative, Positive, Share
from mimic.tasks.sections import TaskSection


class ImageNetTask(TaskSection):
    """A task on classes of images with one feature vector per image."""

    LATER: ClassVar[dict[str, Any]] = {"layout": None}

    preset: Literal["published", "standard"]
    data: Path
    # imagenet: synsets; folders: named classes of your own; null = what lies there
    layout: Literal["imagenet", "folders"] | None
    images: (
        tuple[Positive, Positive, Positive] | None
    )  # classes, training and validation images there must be; null = what is there
    resize_px: Positive  # the smaller side becomes this, bicubic, before the centre square is cut
    size_px: Positive  # of the square
    pool: (
        Literal["class", "mean"] | None
        # class token or mean of the patch tokens, after the final norm; null = class token if there
        # is one
    )
    eval_batch: Positive  # images encoded at once

    @model_validator(mode="after")
    def _cut(self) -> ImageNetTask:
        if self.size_px > self.resize_px:
            raise ValueError(
                f"size_px {self.size_px} cannot be cut from images resized to {self.resize_px} px"
            )
        return self


class LinearProbeTask(ImageNetTask):
    """Batch normalisation and one linear layer, LARS (MAE, appendix A.1)."""

    task: Literal["linear-probe"]
    # random crops an image has features of, taken in turn by epochs; as many as epochs = a fresh
    # one each; 0 = the centre
    views: Count
    crop_area: AreaRange  # of the image
    epochs: Positive
    warmup_epochs: Count
    batch: Annotated[
        int, Field(ge=2)
    ]  # the deviation of one image is none: batch normalisation needs two
    base_lr: AboveZero  # for 256 images
    momentum: Share
    trust: AboveZero
    weight_decay: NotNegative
    selection: Literal[
        "last", "best"
        # epoch whose accuracy is the value; best, by validation accuracy, is what the peers
        # published
    ]


class KnnTask(ImageNetTask):
    """Weighted nearest neighbours by cosine (DINO)."""

    task: Literal["knn"]
    preset: Literal["standard"]  # neither paper has it
    k: tuple[Positive, ...]  # all are reported
    value_k: Positive  # the one that is the value
    temperature: Annotated[float, Field(gt=0)]  # a neighbour votes with exp(cosine / temperature)

    @model_validator(mode="after")
    def _asked(self) -> KnnTask:
        if self.value_k not in self.k:
            raise ValueError(f"value_k {self.value_k} is not one of k {list(self.k)}")
        return self
