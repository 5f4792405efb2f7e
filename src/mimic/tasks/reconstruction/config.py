"""Reconstruction of held-out pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimic.config.base import Positive
from mimic.tasks.sections import PairTask


class ReconstructionTask(PairTask):
    """Loss on hidden patches, and how unlike the true views the completed ones are as a set;
    nothing is trained (MIMIC, table 3)."""

    task: Literal["reconstruction"]
    preset: Literal["published", "standard"]
    split: Literal["validation", "test"]
    pairs: Annotated[
        int, Field(ge=2)
    ]  # all of them must be there: distances between sets depend on how many there are
    batch: Positive
    mask_ratio: Annotated[
        float, Field(gt=0, lt=1)
    ]  # of view a; the same patches of a pair are hidden from every model of equal grid
    visible_rounding: Literal["down", "up"]
    # distances: visible patches show the true pixels (true), or what the model makes of them
    # (false)
    paste_visible: bool
    inception: (
        Path | None
    )  # pt_inception-2015-12-05-6726825d.pth, for FID and KID; null = these are not run
    # models/<name> whose encoder gives the distances that are not called FID, the same for every
    # run
    features_of: str
