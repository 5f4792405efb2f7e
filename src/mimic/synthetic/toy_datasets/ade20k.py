"""Views of generated flats in the layout of ADEChallengeData2016 (SceneParse150): true class
numbers, sizes that differ.

The file of class names is complete in its rows; only the classes that flats have carry their name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mimic.config import Ade20kSet
from mimic.infra.writing import write_picture
from mimic.pairs.write import encode_image
from mimic.scenes.mesh import CLASSES
from mimic.synthetic.toy_datasets import views

# Number in SceneParse150, counted from 1, of each class of mesh.CLASSES; what is not here is
# unlabelled (0).
NUMBERS = {
    "wall": 1,
    "floor": 4,
    "ceiling": 6,
    "bed": 8,
    "window": 9,
    "cabinet": 11,
    "door": 15,
    "table": 16,
    "plant": 18,
    "chair": 20,
    "picture": 23,
    "sofa": 24,
    "shelf": 25,
    "rug": 29,
    "lamp": 37,
    "object": 42,  # a box
}
CLASS_COUNT = 150
HFOV_DEG = 70.0
JPEG_QUALITY = 92
NARROWER = (1.0, 0.85, 0.7)  # widths of the images in turn: the real ones differ too


def write(section: Ade20kSet, folder: Path) -> None:
    """images/, annotations/ and objectInfo150.txt; the test split is of flats of its own."""
    numbers = np.array([NUMBERS.get(name, 0) for name in CLASSES], np.uint8)
    seen = np.zeros((2, CLASS_COUNT + 1), np.int64)
    pixels = np.zeros(CLASS_COUNT + 1, np.int64)
    for scene, (split, short, count) in enumerate(
        (("training", "train", section.train), ("validation", "val", section.test))
    ):
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True)
        for index, (_, rendering) in enumerate(views.render(section, scene, count, HFOV_DEG)):
            assert rendering.class_id is not None
            width = round(section.width_px * NARROWER[index % len(NARROWER)])
            labels = numbers[rendering.class_id[:, :width]]
            stem = f"ADE_{short}_{index + 1:08d}"
            (folder / f"images/{split}/{stem}.jpg").write_bytes(
                encode_image(rendering.rgb[:, :width], JPEG_QUALITY)
            )
            write_picture(folder / f"annotations/{split}/{stem}.png", labels)
            counts = np.bincount(labels.ravel(), minlength=CLASS_COUNT + 1)
            seen[scene] += counts > 0
            pixels += counts
    (folder / "objectInfo150.txt").write_text(_info(pixels, seen))


def _info(pixels: np.ndarray, seen: np.ndarray) -> str:
    names = {number: "box" if name == "object" else name for name, number in NUMBERS.items()}
    share = pixels / pixels[1:].sum()
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    for number in range(1, CLASS_COUNT + 1):
        stuff = int(names.get(number) in ("wall", "floor", "ceiling"))
        name = names.get(number, f"class {number}")
        rows.append(
            f"{number}\t{share[number]:.4f}\t{seen[0, number]}\t{seen[1, number]}\t{stuff}\t{name}"
        )
    return "\n".join(rows) + "\n"
