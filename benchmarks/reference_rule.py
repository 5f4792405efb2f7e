"""The published mining rule, written plainly: one pair, one patch, one pixel at a time, nothing
cached.

It is what the fast geometry is timed against and must agree with. Pixels are drawn from a numpy
generator, one patch after another, so that both can be given the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Point = tuple[int, int]
Detection = tuple[
    Sequence[cv2.KeyPoint], Any
]  # key points, descriptors (None where there are none)
RATIO = 0.7
MATCHES_MIN = 11  # the rule asks for more than 10
RANSAC_PX = 5.0
VOTES = 100
OUTSIDE = "outside"


@dataclass
class Finding:
    """Overlap as a share of the patches, {patch of a: patch of b}, and what led there; overlap None
    where no homography was found."""

    overlap: float | None
    correspondences: dict[int, int]
    matches: int
    inliers: int

    def accepted(self) -> bool:
        return self.overlap is not None and 0.5 < self.overlap < 0.75


def compare_images(
    a: np.ndarray, b: np.ndarray, patch_px: int, rng: np.random.Generator
) -> Finding:
    """Judge two square RGB images."""
    return compare_features(detect(a), detect(b), a.shape[0], patch_px, rng)


def detect(image: np.ndarray) -> Detection:
    """Key points and descriptors."""
    return cv2.SIFT.create().detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)


def compare_features(
    a: Detection, b: Detection, size_px: int, patch_px: int, rng: np.random.Generator
) -> Finding:
    """Judge two views by their key points and descriptors."""
    keypoints_a, descriptors_a = a
    keypoints_b, descriptors_b = b
    if descriptors_a is None or descriptors_b is None or len(descriptors_b) < 2:
        return Finding(None, {}, 0, 0)
    good = []
    for first, second in cv2.BFMatcher().knnMatch(descriptors_a, descriptors_b, k=2):
        if first.distance < RATIO * second.distance:
            good.append(first)
    if len(good) < MATCHES_MIN:
        return Finding(None, {}, len(good), 0)
    points_a = np.array([keypoints_a[m.queryIdx].pt for m in good], np.float32).reshape(-1, 1, 2)
    points_b = np.array([keypoints_b[m.trainIdx].pt for m in good], np.float32).reshape(-1, 1, 2)
    b_from_a, mask = cv2.findHomography(points_a, points_b, cv2.RANSAC, RANSAC_PX)
    if b_from_a is None:
        return Finding(None, {}, len(good), 0)
    try:
        a_from_b = np.linalg.inv(b_from_a)
    except np.linalg.LinAlgError:
        return Finding(None, {}, len(good), int(mask.sum()))
    b_of_a = match_patches(b_from_a, size_px, patch_px, rng)
    a_of_b = match_patches(a_from_b, size_px, patch_px, rng)
    correspondences = b_of_a if len(b_of_a) < len(a_of_b) else {a: b for b, a in a_of_b.items()}
    patches = (size_px // patch_px) ** 2
    return Finding(
        min(len(b_of_a), len(a_of_b)) / patches, correspondences, len(good), int(mask.sum())
    )


def match_patches(
    b_from_a: np.ndarray, size_px: int, patch_px: int, rng: np.random.Generator
) -> dict[int, int]:
    """{patch of a: patch of b}; each target once, the first source patch keeps it."""
    side = size_px // patch_px
    found: dict[int, int] = {}
    for patch in range(side * side):
        target = elect(draw(patch, side, patch_px, rng), b_from_a, size_px, patch_px)
        if isinstance(target, int) and target not in list(found.values()):
            found[patch] = target
    return found


def draw(patch: int, side: int, patch_px: int, rng: np.random.Generator) -> list[Point]:
    """Pixels of one patch, with replacement."""
    pixels = [
        (patch % side * patch_px + x, patch // side * patch_px + y)
        for y in range(patch_px)
        for x in range(patch_px)
    ]
    return [pixels[i] for i in rng.integers(0, len(pixels), size=VOTES)]


def elect(pixels: list[Point], b_from_a: np.ndarray, size_px: int, patch_px: int) -> int | str:
    """The candidate with most votes; among equals the one that got there first."""
    votes: dict[int | str, int] = {}
    winner: int | str = OUTSIDE
    most = 0
    for pixel in pixels:
        candidate = locate(pixel, b_from_a, size_px, patch_px)
        votes[candidate] = votes.get(candidate, 0) + 1
        if votes[candidate] > most:
            winner = candidate
            most = votes[candidate]
    return winner


def locate(pixel: Point, b_from_a: np.ndarray, size_px: int, patch_px: int) -> int | str:
    """The patch of b that one pixel of a falls into."""
    x, y = cv2.perspectiveTransform(np.array([[pixel]], np.float32), b_from_a)[0][0]
    if x < 0 or y < 0 or x >= size_px or y >= size_px:
        return OUTSIDE
    return int(y) // patch_px * (size_px // patch_px) + int(x) // patch_px
