"""The sample data that benchmarks measure on, opened in one place.

The folder is MIMIC_TEST_DATA, by default shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path

import cv2
import numpy as np

from mimic.geometry import overlap
from mimic.params import load_params

Image = np.ndarray  # uint8 [height, width, 3], RGB
REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("MIMIC_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


def wants_json(description: str | None) -> bool:
    """Read the command line of a benchmark that takes no option but --json.

    Ends the program where there is no sample data.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    as_json = bool(parser.parse_args().json)
    if not DATA.is_dir():
        parser.error(f"no sample data at {DATA}; set MIMIC_TEST_DATA")
    return as_json


def rule_of_params() -> overlap.Rule:
    """The default rule, with the numbers of params.yaml."""
    mine = load_params(REPOSITORY / "params.yaml").mine
    return overlap.Rule(**{name: getattr(mine, name) for name in overlap.Rule.__dataclass_fields__})


def read_image(path: Path) -> Image:
    """An image file in RGB.

    Raises:
        SystemExit: it is no image.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path}: not an image; is MIMIC_TEST_DATA right?")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_square(path: Path, size_px: int) -> Image:
    return cv2.resize(read_image(path), (size_px, size_px))


def kitchen_frames(size_px: int) -> list[Image]:
    """60 frames of ten seconds of handheld video."""
    return [
        read_square(path, size_px)
        for path in sorted((DATA / "seven_scenes_kitchen/frames").glob("*.color.jpg"))
    ]


def single_images(size_px: int) -> list[Image]:
    """Images that have nothing to do with one another."""
    paths = [
        *sorted((DATA / "imagenet").glob("*/*")),
        *sorted((DATA / "coco").glob("*.jpg")),
        *sorted((DATA / "ade20k/images").glob("*")),
    ]
    return [read_square(path, size_px) for path in paths]


def stage_pairs(size_px: int) -> list[tuple[Image, Image]]:
    """Viewpoint changes (Oxford), handheld video at 0.5 to 1.3 s, a walk outdoors, an object: about
    50 pairs."""
    kitchen = kitchen_frames(size_px)
    pairs = [(kitchen[i], kitchen[i + step]) for step in (3, 6, 8) for i in range(0, 60 - step, 7)]
    for folder, pattern in (
        ("oxford_affine/graf", "img*"),
        ("oxford_affine/boat", "img*"),
        ("opensfm_lund", "*.jpg"),
        ("fox/images", "*"),
    ):
        images = [read_square(path, size_px) for path in sorted((DATA / folder).glob(pattern))]
        pairs += list(itertools.pairwise(images))
    return pairs
