"""Section `synthesize`: the embedded raw data."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated

from pydantic import Field, model_validator

from mimic.config.base import AboveZero, Positive, Section, Seed

SPLITS = 3  # training, validation, test


class Flat(Section):
    """A procedural furnished flat of three rooms (unique textures, furniture, doorways)."""

    width_m: Annotated[float, Field(ge=6)]
    depth_m: Annotated[float, Field(ge=6)]
    height_m: Annotated[float, Field(ge=2.4)]
    texture_px: Annotated[int, Field(ge=128)]  # side of a texture, which spans 8 m


class Rooms(Section):
    """Flats written as .glb scenes."""

    scenes: Positive
    first_seed: Seed
    flat: Flat


class Phone(Section):
    """Phone-like videos: a hand-held camera carried through a room; portrait frames stored sideways
    with a display matrix."""

    videos: Positive
    first_seed: Seed
    flat: Flat
    seconds: AboveZero
    fps: Positive
    width_px: Positive
    height_px: Positive
    speed_m_s: AboveZero


class Frames(Section):
    """Numbered frame folders, as ScanNet or CO3D exports leave them."""

    folders: Positive
    first_seed: Seed
    flat: Flat
    frames: Positive
    width_px: Positive
    height_px: Positive
    step_m: AboveZero


class LabelledDepth(Section):
    """A labelled depth set in the NYUv2 .mat layout, from scenes no pair was mined in."""

    scenes: Annotated[int, Field(ge=2)]  # some for training, others for test
    first_seed: Seed
    flat: Flat
    train: Positive
    test: Positive
    width_px: Positive
    height_px: Positive


class LabelledViews(Section):
    """Views of procedural flats with labels; training and test flats differ."""

    first_seed: Seed
    flat: Flat
    train: Positive
    test: Positive
    width_px: Positive
    height_px: Positive

    @property
    def flats(self) -> int:
        """At most one a split."""
        return SPLITS


class Ade20kSet(LabelledViews):
    """Classes of pixels in the layout of SceneParse150."""


class TaskonomySet(LabelledViews):
    """Eight dense targets in Taskonomy's tree."""

    validation: Positive


class PeopleSet(Section):
    """Drawn people with their joints, in the layout of COCO's keypoints."""

    first_seed: Seed
    train: Positive  # images
    test: Positive
    people: Positive  # at most, an image
    width_px: Positive
    height_px: Positive


class ShapesSet(Section):
    """Drawn shapes of eight classes, in the layout of ImageNet-1K."""

    first_seed: Seed
    train_per_class: Positive
    test_per_class: Positive
    size_px: Annotated[int, Field(ge=16)]


class MotionSet(LabelledViews):
    """Pairs of views with exact motion, in the layouts of flow or stereo sets."""


class SevenScenesSet(LabelledViews):
    """Walks through flats with poses, in the layout of 7-Scenes; train and test are frames of each
    flat."""

    train: Annotated[int, Field(ge=2)]  # in two sequences
    scenes: Positive

    @property
    def flats(self) -> int:
        return self.scenes


class TaskSets(Section):
    """Small labelled sets in official layouts, data/raw/tasks/<set>; one section a set
    (synthetic/toy_datasets); null: not made."""

    ade20k: Ade20kSet | None
    coco: PeopleSet | None
    imagenet: ShapesSet | None
    flow: MotionSet | None
    stereo: MotionSet | None
    seven_scenes: SevenScenesSet | None
    taskonomy: TaskonomySet | None


class Synthesize(Section):
    rooms: Rooms
    phone: Phone
    frames: Frames
    nyu: LabelledDepth
    tasks: TaskSets

    @model_validator(mode="after")
    def _flats_that_are_mined_are_no_others(self) -> Synthesize:
        """A flat is its seed: one that is mined is not measured on."""
        mined = {
            "rooms": _seeds(self.rooms.first_seed, self.rooms.scenes),
            "phone": _seeds(self.phone.first_seed, self.phone.videos),
            "frames": _seeds(self.frames.first_seed, self.frames.folders),
        }
        labelled = {"nyu": _seeds(self.nyu.first_seed, self.nyu.scenes)}
        for name, section in self.tasks:
            if isinstance(section, LabelledViews):
                labelled[f"tasks.{name}"] = _seeds(section.first_seed, section.flats)
        for (one, seeds), (other, others) in combinations((mined | labelled).items(), 2):
            if one in mined and (same := {*seeds} & {*others}):
                raise ValueError(
                    f"flat {min(same)} would be one of {one} (seeds {seeds[0]} to {seeds[-1]}) and "
                    f"of {other} ({others[0]} to {others[-1]}): give one another first_seed"
                )
        return self


def _seeds(first: int, count: int) -> range:
    return range(first, first + count)


class NothingToSynthesize(Section):
    """`synthesize: {}`: all raw data is real."""
