"""Textured shapes in the layout of ImageNet-1K: the class decides shape and colours, chance decides
size, place, light and background.

Training images lie in folders of their class; validation images are flat, with the list of their
classes, as in the archives.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mimic.config import ShapesSet
from mimic.pairs.write import encode_image

WNIDS = (
    "n01440764",
    "n01775062",
    "n02123045",
    "n02690373",
    "n02814860",
    "n03000684",
    "n04146614",
    "n07753592",
)
JPEG_QUALITY = 92
SIZES = (
    (1.0, 1.0),
    (1.0, 0.75),
    (0.8, 1.0),
)  # heights and widths of the images in turn: the real ones differ too


def write(section: ShapesSet, folder: Path) -> None:
    """train/<wnid>/<wnid>_<n>.JPEG, val/ILSVRC2012_val_<n>.JPEG and LOC_val_solution.csv."""
    rng = np.random.default_rng(section.first_seed)
    for number, wnid in enumerate(WNIDS):
        (folder / "train" / wnid).mkdir(parents=True)
        for index in range(section.train_per_class):
            image = draw(number, SIZES[index % len(SIZES)], section.size_px, rng)
            (folder / f"train/{wnid}/{wnid}_{index + 1}.JPEG").write_bytes(
                encode_image(image, JPEG_QUALITY)
            )
    (folder / "val").mkdir()
    rows = ["ImageId,PredictionString"]
    for index, number in enumerate(
        rng.permutation(np.repeat(np.arange(len(WNIDS)), section.test_per_class))
    ):
        stem = f"ILSVRC2012_val_{index + 1:08d}"
        image = draw(int(number), SIZES[index % len(SIZES)], section.size_px, rng)
        (folder / f"val/{stem}.JPEG").write_bytes(encode_image(image, JPEG_QUALITY))
        rows.append(f"{stem},{WNIDS[number]} 0 0 {image.shape[1] - 1} {image.shape[0] - 1} ")
    (folder / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")


def draw(
    number: int, shares: tuple[float, float], size_px: int, rng: np.random.Generator
) -> np.ndarray:
    """One image uint8[h, w, 3] of a class: a regular polygon of number // 2 + 3 corners, in warm or
    cold colours, on cluttered ground."""
    height, width = (round(share * size_px) for share in shares)
    image = cv2.resize(
        rng.integers(60, 190, (4, 4, 3), dtype=np.uint8),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    corners = number // 2 + 3
    cold = number % 2
    radius = rng.uniform(0.25, 0.4) * min(height, width)
    centre = rng.uniform(radius, [width - radius, height - radius])
    turns = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    outline = (
        (centre + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1))
        .round()
        .astype(np.int32)
    )
    strong = rng.uniform(170, 240)
    weak = rng.uniform(20, 90)
    colour = (weak, 110.0, strong) if cold else (strong, 110.0, weak)
    cv2.fillPoly(image, [outline], colour)
    cv2.polylines(
        image, [outline], isClosed=True, color=(20, 20, 20), thickness=max(1, size_px // 48)
    )
    noisy = image + rng.normal(0, 6, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)
