"""Dense quantities of Taskonomy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from mimic.config.base import Positive
from mimic.tasks.sections import TrainedTask


class TaskonomyTask(TrainedTask):
    """One of Taskonomy's targets by masked L1, DPT head (MultiMAE's protocol)."""

    task: Literal["taskonomy"]
    target: Literal[
        "normal",
        "principal_curvature",
        "reshading",
        "depth_zbuffer",
        "edge_texture",
        "edge_occlusion",
        "keypoints2d",
        "keypoints3d",
    ]
    splits: Path  # folder of the lists <variant>_{train,val,test}.csv
    variant: str
    images: tuple[
        Positive | None, Positive | None, Positive | None
    ]  # first so many of the train, val and test lists; null = all
    # the last block the head reads passes the final norm (CroCo's own); false: all are raw
    # (MultiMAE, MIMIC)
    last_norm: bool
    antialias: bool  # when images are made smaller; targets and masks are never interpolated
    erode_px: (
        Positive  # pixels count in cells of this side that are valid as a whole; 1 = as stored
    )
    validate_every: (
        Positive | None
        # steps between looks at the validation images, the best of which is tested; null = the last
        # step
    )
    averaging: Literal[
        "batch", "image", "global"
    ]  # which average is the value; all three are reported
    eval_batch: Positive

    @model_validator(mode="after")
    def _no_augmentation(self) -> TaskonomyTask:
        if self.augment != "none":
            raise ValueError(
                "augment: a mirrored image has other normals, and the published runs augment "
                "nothing; set none"
            )
        return self
