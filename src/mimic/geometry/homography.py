"""Homographies between two images, and the test that tells a plausible one from a degenerate one.

`b_from_a` maps homogeneous pixel coordinates of a to those of b: direction is in the name, read
right to left.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64


def estimate(
    points_a: Float[np.ndarray, "m 2"], points_b: Float[np.ndarray, "m 2"], threshold_px: float
) -> tuple[Float64[np.ndarray, "3 3"] | None, Bool[np.ndarray, " m"]]:
    """Homography by RANSAC with local optimisation (OpenCV's USAC_ACCURATE), and its inliers;
    (None, none) where there is none.

    OpenCV seeds this with a constant, so the answer depends on the points and on their order alone.
    """
    return _find(points_a, points_b, threshold_px, cv2.USAC_ACCURATE)


def estimate_plain(
    points_a: Float[np.ndarray, "m 2"], points_b: Float[np.ndarray, "m 2"], threshold_px: float
) -> tuple[Float64[np.ndarray, "3 3"] | None, Bool[np.ndarray, " m"]]:
    """The published rule's estimator, OpenCV's plain RANSAC; as `estimate` otherwise."""
    return _find(points_a, points_b, threshold_px, cv2.RANSAC)


def _find(
    points_a: Float[np.ndarray, "m 2"],
    points_b: Float[np.ndarray, "m 2"],
    threshold_px: float,
    method: int,
) -> tuple[Float64[np.ndarray, "3 3"] | None, Bool[np.ndarray, " m"]]:
    nothing = np.zeros(len(points_a), bool)
    if len(points_a) < 4:
        return None, nothing
    b_from_a, mask = cv2.findHomography(
        points_a.reshape(-1, 1, 2), points_b.reshape(-1, 1, 2), method, threshold_px
    )
    if b_from_a is None:
        return None, nothing
    return b_from_a, mask.ravel().astype(bool)


def warp(
    points_a: Float[np.ndarray, "n 2"], b_from_a: Float64[np.ndarray, "3 3"]
) -> Float64[np.ndarray, "n 2"]:
    """Points of a, mapped to b; points on the line that the homography sends to infinity become inf
    or nan."""
    mapped = points_a.astype(np.float64) @ b_from_a[:, :2].T + b_from_a[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return mapped[:, :2] / mapped[:, 2:]


def invert(b_from_a: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"] | None:
    """a_from_b, or None where the matrix is singular. The scale is kept, so denominators keep their
    sign."""
    try:
        a_from_b = np.linalg.inv(b_from_a)
    except np.linalg.LinAlgError:
        return None
    return a_from_b if np.isfinite(a_from_b).all() else None


def area_ratio(b_from_a: Float64[np.ndarray, "3 3"], size_px: int) -> float:
    """How many times larger or smaller the image of a size_px square frame is than the frame, in
    the direction where it is more.

    Infinite where no pair of cameras makes such a map of one surface: it is singular, it mirrors
    the frame (negative determinant), or the line at infinity crosses the frame (denominators change
    sign) in either direction. Once denominators are of one sign the image of the frame is convex
    and unfolded, so these tests cover that too. Same answer for the inverse.
    """
    a_from_b = invert(b_from_a)
    if a_from_b is None:
        return np.inf
    frame = float(size_px) ** 2
    largest = 1.0
    for matrix in (b_from_a, a_from_b):
        area = _image_area(matrix, size_px)
        if area is None:
            return np.inf
        largest = max(area / frame, frame / area, largest)
    return largest


def _image_area(b_from_a: Float64[np.ndarray, "3 3"], size_px: int) -> float | None:
    """Area, in px^2, of the image of the frame; None where the frame is mirrored or crosses
    infinity."""
    # pixel centres lie at integers
    low = -0.5
    high = size_px - 0.5
    corners = np.array([[low, high, high, low], [low, low, high, high], [1.0, 1.0, 1.0, 1.0]])
    x, y, denominator = b_from_a @ corners
    if denominator.min() <= 0:
        return None
    x = x / denominator
    y = y / denominator
    area = 0.5 * float(
        (x[2] - x[0]) * (y[3] - y[1]) - (x[3] - x[1]) * (y[2] - y[0])
    )  # from the diagonals
    return area if area > 0 else None
