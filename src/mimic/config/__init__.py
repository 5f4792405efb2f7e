"""The typed mirror of params.yaml: every number of every stage, and no default anywhere in Python.

A stage is handed its own section; pure code is handed the numbers. Fractions, not percent;
suffixes `_px`, `_deg`, `_m`, `_s`; `null` in YAML means "no limit" or "off" and is written out.
"""

from __future__ import annotations

from mimic.config.base import Count, Fraction, Positive, Section
from mimic.config.evaluation import Report, Table
from mimic.config.machines import Cluster, HabitatRuntime, Resources, Shards, Tracking
from mimic.config.mining import Dataset, Mine, Privacy, TestPairs
from mimic.config.sources import (
    Covisible,
    Crops,
    Demon,
    Images,
    Mannequin,
    NumberedFrames,
    PhoneVideos,
    Released,
    ScanNet,
    Scans,
    SceneBase,
    Scenes,
    SceneWalk,
    SourceBase,
    StreetView,
    Videos,
)
from mimic.config.synthesize import (
    Ade20kSet,
    Flat,
    Frames,
    LabelledDepth,
    LabelledViews,
    MotionSet,
    NothingToSynthesize,
    PeopleSet,
    Phone,
    Rooms,
    SevenScenesSet,
    ShapesSet,
    Synthesize,
    TaskonomySet,
    TaskSets,
)
from mimic.config.training import Adaptation, Augment, Model, Recipe, Run
