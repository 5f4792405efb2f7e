"""A person cut out of an image: which box, and by what chance it is mirrored, shortened to half a
body, scaled and turned while training.

The recipe is ViTPose's: crops keep the aspect of the input, the box is a quarter larger than the
person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from mimic.models.heatmaps import apply, crop_from_image
from mimic.tasks.keypoints.coco import FLIPPED, Person

PADDING = 1.25
# of the people, once; of the box
SHIFT_SHARE = 0.3
SHIFT = 0.2
HALF_SHARE = 0.3
HALF_VISIBLE = 8
HALF_PADDING = 1.5
UPPER = np.arange(17) < 11
UPPER_BELOW = 0.5  # of a normal draw
SCALE = 0.5
SCALE_RANGE = (0.5, 1.5)
TURN_DEG = 40.0
TURN_RANGE_DEG = 80.0
TURN_SHARE = 0.6


@dataclass(frozen=True)
class PersonCrop:
    """What to cut: the image's pixels, the box around a centre, joints in the image."""

    image: np.ndarray
    centre: np.ndarray
    box: np.ndarray  # width, height
    joints: np.ndarray
    visible: np.ndarray


def view(person: Person, image: np.ndarray, aspect: float) -> PersonCrop:
    """The person's own box. `aspect` is the width of the input per height."""
    centre = person.box[:2] + person.box[2:] / 2
    return PersonCrop(image, centre, cut_sides(person, aspect), person.joints, person.visible)


def cut_sides(person: Person, aspect: float) -> np.ndarray:
    """Width and height in pixels of what is cut out: the box at the input's aspect, a quarter
    larger."""
    return PADDING * _widened(person.box[2:], aspect)


def shift_box(person: Person, rng: np.random.Generator) -> Person:
    """The box of three people in ten moved by up to a fifth of its sides: drawn once for a set, not
    at every step."""
    if rng.random() >= SHIFT_SHARE:
        return person
    move = rng.uniform(-SHIFT, SHIFT, 2) * person.box[2:]
    return replace(person, box=person.box + np.concatenate([move, np.zeros(2)]))


def hflip(seen: PersonCrop) -> PersonCrop:
    """Mirrored left to right, left joints become right ones; the box is the one before."""
    last = seen.image.shape[1] - 1
    return PersonCrop(
        np.ascontiguousarray(seen.image[:, ::-1]),
        np.array([last - seen.centre[0], seen.centre[1]]),
        seen.box,
        np.column_stack([last - seen.joints[:, 0], seen.joints[:, 1]])[FLIPPED],
        seen.visible[FLIPPED],
    )


def half_body(seen: PersonCrop, aspect: float, rng: np.random.Generator) -> PersonCrop:
    """The upper or the lower half of three in ten people with more than eight labelled joints.

    The crop lies around the mean of the chosen joints, not the middle of their box (ViTPose).
    """
    if seen.visible.sum() <= HALF_VISIBLE or rng.random() >= HALF_SHARE:
        return seen
    upper = seen.visible & UPPER
    lower = seen.visible & ~UPPER
    chosen = (
        upper if (rng.normal() < UPPER_BELOW and upper.sum() > 2) or lower.sum() <= 2 else lower
    )
    if chosen.sum() < 2:
        return seen
    joints = seen.joints[chosen]
    sides = np.maximum(np.ptp(joints, axis=0), 1)
    return replace(seen, centre=joints.mean(axis=0), box=HALF_PADDING * _widened(sides, aspect))


def crop_affine(
    seen: PersonCrop, size: tuple[int, int], rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """The crop uint8[h, w, 3], zero outside the image, and the affine map that made it; with `rng`
    scaled and turned by chance."""
    scale = 1.0
    turn_deg = 0.0
    if rng is not None:
        scale = float(np.clip(1 + SCALE * rng.normal(), *SCALE_RANGE))
        turn_deg = (
            float(np.clip(TURN_DEG * rng.normal(), -TURN_RANGE_DEG, TURN_RANGE_DEG))
            if rng.random() < TURN_SHARE
            else 0.0
        )
    affine = crop_from_image(seen.centre, seen.box * scale, turn_deg, size)
    return cv2.warpAffine(seen.image, affine, size[::-1], flags=cv2.INTER_LINEAR), affine


def joints_in_crop(seen: PersonCrop, affine: np.ndarray) -> np.ndarray:
    return apply(affine, seen.joints)


def _widened(sides: np.ndarray, aspect: float) -> np.ndarray:
    """Width and height, one of them enlarged to the aspect."""
    width, height = sides
    return np.array([max(width, height * aspect), max(height, width / aspect)])
