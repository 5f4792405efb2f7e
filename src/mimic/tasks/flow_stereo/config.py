"""Two views through a whole cross-view model: optical flow, stereo."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from mimic.config.base import Positive, Section, Share
from mimic.tasks.sections import TrainedTask

FlowLayout = Literal["sintel", "flying_chairs", "flying_things", "tartanair", "kitti", "middlebury"]
StereoLayout = Literal[
    "middlebury",
    "middlebury_2003",
    "middlebury_2005",
    "middlebury_2006",
    "middlebury_2014",
    "middlebury_2021",
    "eth3d",
    "booster",
    "kitti",
    "sceneflow",
    "driving",
    "monkaa",
    "crestereo",
]


class MotionPart(Section):
    """A set, or some of it. Pairs are chosen by their labels: scene, split, pass, direction
    (tasks/flow_stereo/sets)."""

    layout: FlowLayout | StereoLayout
    folder: Path  # below `data`
    only: tuple[str, ...] | None  # pairs with one of these labels; null = all
    without: tuple[str, ...]  # of these, pairs with none of these labels
    repeat: Positive  # how often an epoch sees each pair


class FlowPart(MotionPart):
    layout: FlowLayout


class StereoPart(MotionPart):
    layout: StereoLayout


class MotionTask(TrainedTask):
    """Dense motion from view a to view b, DPT head on encoder and decoder (CroCo v2). size_px is
    the crop's height."""

    width_px: Positive  # of the crop
    # leave out, in training and in the error, what a set's own masks exclude (Sintel's invalid,
    # Middlebury's occluded)
    masks: bool
    overlap: Share  # of neighbouring tiles at test time

    @model_validator(mode="after")
    def _only_what_is_done(self) -> MotionTask:
        if self.drop_path:
            raise ValueError("drop_path: the cross-view model is trained without; set 0")
        return self


class FlowTask(MotionTask):
    task: Literal["flow"]
    train: tuple[FlowPart, ...]
    test: tuple[FlowPart, ...]


class StereoTask(MotionTask):
    task: Literal["stereo"]
    train: tuple[StereoPart, ...]
    test: tuple[StereoPart, ...]
