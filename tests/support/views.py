"""Images and rules that the geometry tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from mimic.geometry import resize
from mimic.geometry.overlap import Rule

SIZE_PX, PATCH_PX = 224, 16
SIDE = SIZE_PX // PATCH_PX

SYMMETRIC = Rule(
    mode="symmetric",
    size_px=SIZE_PX,
    patch_px=PATCH_PX,
    ratio=0.7,
    matches_min=11,
    ransac_px=5.0,
    votes_per_patch=100,
    overlap_min=0.5,
    overlap_max=0.75,
    inliers_min=11,
    inlier_share_min=0.5,
    area_ratio_max=16.0,
    still_px=0.5,
    still_spread_min=0.7,
)


def texture(seed: int, size_px: int) -> np.ndarray:
    """A square RGB picture of overlapping coloured rectangles and discs: many distinct corners, no
    repetition."""
    rng = np.random.default_rng(seed)
    picture = np.full((size_px, size_px, 3), 128, np.uint8)
    for _ in range(size_px * 2):
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        x, y = (int(value) for value in rng.integers(-20, size_px, 2))
        extent = [int(value) for value in rng.integers(4, max(6, size_px // 10), 2)]
        if rng.random() < 0.5:
            cv2.rectangle(picture, (x, y), (x + extent[0], y + extent[1]), colour, -1)
        else:
            cv2.circle(picture, (x, y), extent[0] // 2, colour, -1, cv2.LINE_AA)
    return picture


def read(path: Path, mode: Literal["symmetric", "reference"] = "symmetric") -> np.ndarray:
    """An image file as the miner sees it: RGB, squashed to SIZE_PX as the mode of the rule does."""
    image = cv2.imread(str(path))
    assert image is not None, path
    return resize.to_square(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), SIZE_PX, mode)
