"""Homographies between two images, and the test that tells a plausible one from a degenerate one.

`b_from_a` maps homogeneous pixel coordinates of a to those of b: direction is in the name, read right to left.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64


def estimate(
    points_a: Float[np.ndarray, "m 2"], points_b: Float[np.ndarray, "m 2"], threshold_px: float
) -> tuple[Float64[np.ndarray, "3 3"] | None, Bool[np.ndarray, " m"]]:
    """RANSAC homography and its inliers; (None, none) where there is none.

    OpenCV seeds this RANSAC with a constant, so the answer depends on the points and on their order alone.
    """
    nothing = np.zeros(len(points_a), bool)
    if len(points_a) < 4:
        return None, nothing
    b_from_a, mask = cv2.findHomography(points_a.reshape(-1, 1, 2), points_b.reshape(-1, 1, 2), cv2.RANSAC, threshold_px)
    if b_from_a is None:
        return None, nothing
    return b_from_a, mask.ravel().astype(bool)


def warp(points_a: Float[np.ndarray, "n 2"], b_from_a: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "n 2"]:
    """Points of a, mapped to b; points on the line that the homography sends to infinity become inf or nan."""
    mapped = points_a.astype(np.float64) @ b_from_a[:, :2].T + b_from_a[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return mapped[:, :2] / mapped[:, 2:]


def invert(b_from_a: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"] | None:
    """a_from_b, or None where the matrix is singular. The scale is kept, so denominators keep their sign."""
    try:
        a_from_b = np.linalg.inv(b_from_a)
    except np.linalg.LinAlgError:
        return None
    return a_from_b if np.isfinite(a_from_b).all() else None


def is_degenerate(b_from_a: Float64[np.ndarray, "3 3"], size_px: int, area_ratio_max: float) -> bool:
    """Whether no camera could have made this map of one size_px square frame to another.

    True where, in either direction, the line at infinity crosses the frame (denominators change sign), the frame is
    mirrored (negative determinant), or its image is more than area_ratio_max times larger or smaller. Once denominators are of one
    sign the image of the frame is convex and unfolded, so these tests cover that too. Same answer for the inverse.
    """
    a_from_b = invert(b_from_a)
    if a_from_b is None:
        return True
    areas = [_image_area(matrix, size_px) for matrix in (b_from_a, a_from_b)]
    frame = float(size_px) ** 2
    return any(area is None or not 1 / area_ratio_max <= area / frame <= area_ratio_max for area in areas)


def _image_area(b_from_a: Float64[np.ndarray, "3 3"], size_px: int) -> float | None:
    """Signed-positive area, in px^2, of the image of the frame; None where it is mirrored or crosses infinity."""
    low, high = -0.5, size_px - 0.5  # pixel centres lie at integers
    corners = np.array([[low, low, 1], [high, low, 1], [high, high, 1], [low, high, 1]])
    mapped = corners @ b_from_a.T
    if not (mapped[:, 2] > 0).all():
        return None
    x, y = (mapped[:, :2] / mapped[:, 2:]).T
    area = 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return area if area > 0 else None
