"""Section `synthesize`: the embedded raw data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mimic.config.base import AboveZero, Positive, Section, Seed


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


class NothingToSynthesize(Section):
    """`synthesize: {}`: all raw data is real."""
