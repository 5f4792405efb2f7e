"""People with their joints in COCO's layout, as downloaded.

    <folder>/annotations/person_keypoints_{train,val}2017.json    images, annotations, categories
    <folder>/{train,val}2017/000000000785.jpg
    <boxes>.json
            a list of {image_id, category_id, bbox, score}: a detector's people

Boxes are x, y, width, height in pixels; 17 joints as x, y, v: v = 0 not labelled, 1 labelled but
hidden, 2 visible. The official set has 118,287 and 5,000 images, about 149.8 thousand people to
train on, and 104,125 detected boxes in the validation images.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput
from mimic.infra import confined
from mimic.infra.storage import Workspace, file_digest
from mimic.tasks.engine.image_io import REMEDY, extent, opened, with_labels
from mimic.tasks.keypoints.config import PoseTask

JOINTS = 17
PERSON = 1  # the category
KIND = "is it COCO's person_keypoints file?"
FLIPPED = np.array(
    [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
)  # the joint that each becomes in a mirror image
BONES = (
    (15, 13),
    (13, 11),
    (16, 14),
    (14, 12),
    (11, 12),
    (5, 11),
    (6, 12),
    (5, 6),
    (5, 7),
    (6, 8),
    (7, 9),
    (8, 10),
    (1, 2),
    (0, 1),
    (0, 2),
)


@dataclass(frozen=True)
class Person:
    """A box in an image: x, y, width, height; joints float64[17, 2] and visible bool[17] where
    known; score of the box."""

    image: int
    box: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    score: float


class Coco:
    """One split.

    Raises:
        BadInput: the annotations are missing, damaged or not of people's joints.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        self.split = split
        self.path = folder / f"annotations/person_keypoints_{split}2017.json"
        self.annotations = _parsed(self.path)
        if (
            not isinstance(self.annotations, dict)
            or not {"images", "annotations", "categories"} <= self.annotations.keys()
        ):
            raise BadInput(
                f"{self.path}: holds no images, annotations and categories; is it COCO's "
                "person_keypoints file?"
            )
        try:
            for image in self.annotations["images"]:
                image["id"] = int(image["id"])  # some write text, which pycocotools never matches
            self.images = {image["id"]: image for image in self.annotations["images"]}
            self.sizes = {
                number: (int(image["height"]), int(image["width"]))
                for number, image in self.images.items()
            }
        except (KeyError, TypeError, ValueError):
            raise BadInput(
                f"{self.path}: an image without id, height and width; {REMEDY}"
            ) from None
        if len(self.images) < len(self.annotations["images"]):
            count = len(self.annotations["images"]) - len(self.images)
            raise BadInput(f"{self.path}: {count} images have the id of another; {REMEDY}")
        self.people = [
            person
            for entry in self.annotations["annotations"]
            if (person := self._person(entry)) is not None
        ]

    def path_of(self, image: int) -> Path:
        name = str(self.images[image]["file_name"])
        return confined.below(self.folder / f"{self.split}2017", name, self.path)

    def detected(self, path: Path) -> list[Person]:
        """A detector's people in the images of this split; other categories are left out, all
        scores kept.

        Raises:
            BadInput: not a list of boxes, or a box is of an image that the split has not.
        """
        entries = _parsed(path)
        if not isinstance(entries, list):
            raise BadInput(f"{path}: not a list of detections")
        people = []
        unknown = (np.zeros((JOINTS, 2)), np.zeros(JOINTS, bool))
        for number, entry in enumerate(entries):
            try:
                image = int(entry["image_id"])
                category = int(entry["category_id"])
                box = entry["bbox"]
                score = float(entry["score"])
                box = np.array(box, np.float64).reshape(4)
            except (KeyError, TypeError, ValueError):
                raise BadInput(
                    f"{path}: detection {number} lacks image_id, category_id, bbox or score; is it "
                    "a detection file?"
                ) from None
            if not np.isfinite([*box, score]).all():
                raise BadInput(
                    f"{path}: detection {number} has a box or score that is no number (NaN or "
                    "infinite); detect again"
                )
            if image not in self.images:
                raise BadInput(
                    f"{path}: detection {number} is of image {image}, which {self.path.name} has "
                    "not; wrong split?"
                )
            if category == PERSON and box[2] > 0 and box[3] > 0:
                people.append(Person(image, box, *unknown, score))
        if not people:
            raise BadInput(f"{path}: no person among {len(entries)} detections")
        return people

    def require_areas(self) -> None:
        """What scoring needs beside joints.

        Raises:
            BadInput: a person has no area, without which no similarity of joints is defined.
        """
        for entry in self.annotations["annotations"]:
            if entry["category_id"] == PERSON and not _is_area(entry.get("area")):
                area = f"the area {entry['area']!r}" if "area" in entry else "no area"
                raise BadInput(
                    f"{self.path}: annotation {entry.get('id', 'without a number')} has {area}; "
                    "scoring needs each person's area (of the outline in square pixels; without "
                    "one, write the box's width x height)"
                )

    def check(self) -> dict[str, Any]:
        """Every image there, and of the size that the annotations say.

        Raises:
            BadInput: an image is missing, is none, or has another size.
        """
        for number in self.images:
            path = self.path_of(number)
            with opened(path) as file:
                size = (file.height, file.width)
            if size != self.sizes[number]:
                raise BadInput(
                    f"{path}: {size[1]} x {size[0]}, the annotations say {self.sizes[number][1]} x "
                    f"{self.sizes[number][0]}"
                )
        images = extent([self.path_of(number) for number in self.images], self.folder)
        return {
            "images": len(self.images),
            "people": len(self.people),
            **with_labels(images, file_digest(self.path)),
        }

    def _person(self, entry: dict[str, Any]) -> Person | None:
        """A person to train or score on: no crowd, a joint labelled, a box inside the image."""
        where = f"{self.path}: annotation {entry.get('id') if isinstance(entry, dict) else entry}"
        try:
            if entry["category_id"] != PERSON:
                return None
            image = entry["image_id"] = int(entry["image_id"])
            if entry["iscrowd"] or not entry["num_keypoints"]:
                return None
            box = np.array(entry["bbox"], np.float64).reshape(4)
            joints = np.array(entry["keypoints"], np.float64).reshape(JOINTS, 3)
        except KeyError as absent:
            raise BadInput(f"{where}: no {absent.args[0]}; {KIND}") from None
        except (TypeError, ValueError):
            raise BadInput(f"{where}: no box and {JOINTS} joints; {KIND}") from None
        if not (np.isfinite(box).all() and np.isfinite(joints).all()):
            raise BadInput(f"{where}: its box or a joint is no number (NaN or infinite); {REMEDY}")
        if image not in self.images:
            raise BadInput(f"{where}: is of image {image}, which is not in the file")
        if not np.isin(joints[:, 2], (0, 1, 2)).all():
            raise BadInput(
                f"{where}: a joint's visibility is not 0, 1 or 2; joints are x, y, visibility in "
                "pixels"
            )
        rows, columns = self.sizes[image]
        labelled = joints[joints[:, 2] > 0, :2]
        if (labelled < -1).any() or (labelled > [columns + 1, rows + 1]).any():
            raise BadInput(
                f"{where}: a joint lies outside the image of {columns} x {rows}; joints are in "
                "pixels"
            )
        x, y, width, height = box.tolist()
        left = max(0.0, x)
        top = max(0.0, y)
        right = min(columns - 1.0, left + max(0.0, width - 1))
        bottom = min(rows - 1.0, top + max(0.0, height - 1))
        if right <= left or bottom <= top:
            return None
        return Person(
            image,
            np.array([left, top, right - left, bottom - top]),
            joints[:, :2],
            joints[:, 2] > 0,
            1.0,
        )


def _is_area(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {REMEDY}") from None
    except ValueError:
        raise BadInput(f"{path}: not whole JSON; {REMEDY}") from None


def boxes_of(task: PoseTask, coco: Coco, root: Path) -> list[Person]:
    """Whom to look for on the test split: labelled people, or the detections of `task.boxes`.

    Raises:
        BadInput: there is nobody.
    """
    boxes = (
        coco.people if task.boxes is None else coco.detected(Workspace(root).resolve(task.boxes))
    )
    if not boxes:
        raise BadInput(f"{coco.path}: nobody has a labelled joint")
    return boxes
