"""Small labelled sets in the layouts of the official downloads, one file each: generated, so that
every task runs with no download."""

from __future__ import annotations

from pathlib import Path

from mimic.config import (
    Ade20kSet,
    MotionSet,
    PeopleSet,
    Section,
    SevenScenesSet,
    ShapesSet,
    TaskonomySet,
)


def write(section: Section, folder: Path) -> None:
    """Write the set that `section` (of synthesize.tasks) describes into an empty folder; equal
    sections give equal files."""
    match section:
        case Ade20kSet():
            from mimic.synthetic.toy_datasets import ade20k

            ade20k.write(section, folder)
        case PeopleSet():
            from mimic.synthetic.toy_datasets import coco

            coco.write(section, folder)
        case ShapesSet():
            from mimic.synthetic.toy_datasets import imagenet

            imagenet.write(section, folder)
        case MotionSet():
            from mimic.synthetic.toy_datasets import motion

            (motion.write_stereo if folder.name == "stereo" else motion.write_flow)(section, folder)
        case SevenScenesSet():
            from mimic.synthetic.toy_datasets import seven_scenes

            seven_scenes.write(section, folder)
        case TaskonomySet():
            from mimic.synthetic.toy_datasets import taskonomy

            taskonomy.write(section, folder)
        case _:
            raise AssertionError(f"no generator for {type(section).__name__} ({folder.name})")
