"""Drawn people in the layout of COCO's keypoints: images, annotations of both splits, and a
detector's boxes for the second.

Left limbs are warm, right ones cold, so that a small model can tell them apart. Some joints are
hidden by a bar (v = 1), those outside the image are not labelled (v = 0), and every fourth image
has a crowd box that nobody may be trained or scored on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimic.config import PeopleSet
from mimic.infra.storage import write_json
from mimic.pairs.write import encode_image

JPEG_QUALITY = 92
NAMES = [
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
]
SKELETON = [
    *([16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9]),
    *([8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]),
]
LEFT = (235, 130, 40)
RIGHT = (50, 120, 235)
TRUNK = (120, 200, 110)
# Standing, facing us: x and y in heights, the head's top at 0, the ankles at 0.95; the left side is
# on the image's right.
HEAD = np.array([[0, 0.09], [0.025, 0.07], [-0.025, 0.07], [0.05, 0.08], [-0.05, 0.08]])
SHOULDER = (0.11, 0.2)
HIP = (0.07, 0.52)
ARM = 0.16
LEG = 0.215
DETECTIONS = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"


def write(section: PeopleSet, folder: Path) -> None:
    for number, (split, count) in enumerate((("train", section.train), ("val", section.test))):
        (folder / f"{split}2017").mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            rng = np.random.default_rng([section.first_seed, number, index])
            identity = 1000 * (number + 1) + 7 * index
            photo, people = _scene(section, rng)
            name = f"{identity:012d}.jpg"
            (folder / f"{split}2017" / name).write_bytes(encode_image(photo, JPEG_QUALITY))
            images.append(
                {
                    "id": identity,
                    "file_name": name,
                    "height": section.height_px,
                    "width": section.width_px,
                    "license": 1,
                }
            )
            for joints in people:
                annotations.append(
                    _annotation(joints, identity, 1 + len(annotations) + 100000 * number)
                )
            if index % 4 == 3:
                annotations.append(
                    _crowd(section, identity, 1 + len(annotations) + 100000 * number)
                )
        category = {
            "supercategory": "person",
            "id": 1,
            "name": "person",
            "keypoints": NAMES,
            "skeleton": SKELETON,
        }
        info = {"description": "drawn", "year": 2017}
        path = folder / f"annotations/person_keypoints_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        write_json(
            path,
            {
                "info": info,
                "licenses": [],
                "images": images,
                "annotations": annotations,
                "categories": [category],
            },
        )
        if split == "val":
            rng = np.random.default_rng([section.first_seed, 2])
            (folder / DETECTIONS).parent.mkdir()
            write_json(
                folder / DETECTIONS,
                [detection for entry in annotations for detection in _detections(entry, rng)],
            )


def _scene(section: PeopleSet, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """An image and the joints [17, 3] of its people."""
    size = (section.width_px, section.height_px)
    photo = cv2.resize(
        rng.integers(60, 130, (4, 5, 3)).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC
    )
    people = []
    count = int(rng.integers(1, section.people + 1))
    for slot in range(count):
        height = section.height_px * rng.uniform(0.55, 0.9)
        left = section.width_px * (slot + rng.uniform(0.3, 0.7)) / count
        joints = _posed(rng) * height + [left, rng.uniform(0, section.height_px - height)]
        _draw(photo, joints, height)
        inside: np.ndarray = np.all((joints >= 0) & (joints <= [size[0] - 1, size[1] - 1]), axis=1)
        visible = np.where(inside, 2, 0)
        if rng.random() < 0.3:
            hidden = int(rng.integers(5, 17))
            x, y = np.round(joints[hidden]).astype(int)
            reach = max(2, round(0.04 * height))
            cv2.rectangle(photo, (x - reach, y - reach), (x + reach, y + reach), (90, 90, 90), -1)
            visible[hidden] = min(visible[hidden], 1)
        people.append(np.column_stack([np.round(joints) * inside[:, None], visible]))
    return photo, people


def _posed(rng: np.random.Generator) -> np.ndarray:
    """17 joints of a person one high; arms swing widely, legs a little."""
    joints = np.zeros((17, 2))
    joints[:5] = HEAD
    for side, sign in ((0, 1), (1, -1)):
        for start, origin, length, swing in ((5, SHOULDER, ARM, 75), (11, HIP, LEG, 22)):
            joint = np.array([sign * origin[0], origin[1]])
            joints[start + side] = joint
            angle = rng.uniform(-0.2, 1.0) * swing
            for bone in (1, 2):
                joint = joint + length * np.array(
                    [sign * np.sin(np.radians(angle)), np.cos(np.radians(angle))]
                )
                joints[start + side + 2 * bone] = joint
                angle += rng.uniform(-0.4, 0.4) * swing
    return joints


def _draw(photo: np.ndarray, joints: np.ndarray, height: float) -> None:
    points = np.round(joints).astype(int).tolist()
    thick = max(2, round(0.035 * height))
    trunk = np.array([points[index] for index in (5, 6, 12, 11)])
    cv2.fillPoly(photo, [trunk], TRUNK, cv2.LINE_AA)
    for start in (5, 6, 7, 8, 11, 12, 13, 14):
        cv2.line(
            photo,
            points[start],
            points[start + 2],
            LEFT if start % 2 else RIGHT,
            thick,
            cv2.LINE_AA,
        )
    centre = points[0]
    radius = max(3, round(0.075 * height))
    cv2.circle(photo, centre, radius, (225, 190, 165), -1, cv2.LINE_AA)
    for index in (1, 2, 3, 4):
        cv2.circle(
            photo,
            points[index],
            max(1, round(0.012 * height)),
            LEFT if index % 2 else RIGHT,
            -1,
            cv2.LINE_AA,
        )
    cv2.circle(photo, centre, max(1, round(0.012 * height)), (160, 40, 60), -1)


def _annotation(joints: np.ndarray, image: int, identity: int) -> dict[str, Any]:
    labelled = joints[joints[:, 2] > 0, :2]
    low = labelled.min(axis=0)
    high = labelled.max(axis=0)
    margin = 0.06 * (high[1] - low[1])
    box = [*np.maximum(low - margin, 0), *(np.minimum(margin, low) + high - low + margin)]
    return {
        "id": identity,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(float(side), 2) for side in box],
        "area": round(float(box[2] * box[3] * 0.5), 2),
        "num_keypoints": int((joints[:, 2] > 0).sum()),
        "keypoints": joints.astype(int).ravel().tolist(),
        "segmentation": [],
    }


def _crowd(section: PeopleSet, image: int, identity: int) -> dict[str, Any]:
    side = section.height_px // 6
    return {
        "id": identity,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 1,
        "bbox": [0, 0, side, side],
        "area": side * side,
        "num_keypoints": 0,
        "keypoints": [0] * 51,
        "segmentation": {"size": [section.height_px, section.width_px], "counts": [0, side]},
    }


def _detections(entry: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """A box near each person, a second of lower score now and then."""
    boxes = []
    for score in (rng.uniform(0.7, 1), rng.uniform(0.05, 0.4))[: 1 + int(rng.random() < 0.4)]:
        x, y, width, height = np.array(entry["bbox"]) + rng.normal(0, 0.02, 4) * entry["bbox"][3]
        box = [max(0.0, x), max(0.0, y), max(4.0, width), max(4.0, height)]
        boxes.append(
            {
                "image_id": entry["image_id"],
                "category_id": 1,
                "bbox": [float(side) for side in box],
                "score": float(score),
            }
        )
    return boxes
