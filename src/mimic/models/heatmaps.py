"""Joints as heat maps and back: unbiased encoding, distribution-aware decoding, the affine crop of
a person (Huang et al. 2020, UDP; Zhang et al. 2020, DARK). Pixel centres lie at integers
throughout, so a frame of w pixels is w - 1 long.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64

SIGMA = 2.0  # of a joint's Gaussian, in pixels of the map
REACH = 6  # the Gaussian's support is a square of 2 * REACH + 1 pixels
BLUR_PX = 11  # of the decoder; OpenCV's deviation for it is 2
LOG_RANGE = (0.001, 50.0)


def encode(
    joints: Float64[np.ndarray, "joints 2"], visible: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Targets of one person.

    Args:
        joints: x, y in pixels of the map.
        visible: bool[joints]; others get an empty map.
        size: height and width of the maps.

    Returns:
        float32[joints, h, w], Gaussians of peak 1 with sub-pixel centres, and float32[joints]
        weights: 0 where not visible or where the support lies wholly outside.
    """
    height, width = size
    maps = np.zeros((len(joints), height, width), np.float32)
    weights = np.zeros(len(joints), np.float32)
    ys = np.arange(height)
    xs = np.arange(width)
    for index, (x, y) in enumerate(joints):
        column = int(x + 0.5)
        row = int(y + 0.5)
        outside = (
            column - REACH >= width
            or row - REACH >= height
            or column + REACH < 0
            or row + REACH < 0
        )
        if not visible[index] or outside:
            continue
        weights[index] = 1
        down = np.where(np.abs(ys - row) <= REACH, np.exp(-((ys - y) ** 2) / (2 * SIGMA**2)), 0)
        across = np.where(
            np.abs(xs - column) <= REACH, np.exp(-((xs - x) ** 2) / (2 * SIGMA**2)), 0
        )
        maps[index] = np.outer(down, across)
    return maps, weights


def decode(
    maps: Float32[np.ndarray, "joints h w"],
) -> tuple[Float64[np.ndarray, "joints 2"], Float64[np.ndarray, " joints"]]:
    """Where each map has its peak, x, y to a fraction of a pixel, and how high it is.

    The highest pixel, then one Newton step on the logarithm of the blurred map, which for a
    Gaussian is exact.
    """
    joints, _, width = maps.shape
    flat = maps.reshape(joints, -1)
    best = flat.argmax(axis=1)
    peaks = np.stack([best % width, best // width], axis=1).astype(np.float64)
    for index, (heat, peak) in enumerate(zip(maps, best.tolist(), strict=True)):
        blurred = cv2.GaussianBlur(heat.astype(np.float64), (BLUR_PX, BLUR_PX), 0)
        peaks[index] += _newton(
            np.pad(np.log(np.clip(blurred, *LOG_RANGE)), 1, mode="edge"),
            peak // width,
            peak % width,
        )
    return peaks, flat.max(axis=1).astype(np.float64)


def _newton(logs: np.ndarray, row: int, column: int) -> np.ndarray:
    """The step to the maximum of a quadratic through the 3 x 3 values around a pixel; `logs` is
    padded by one."""
    v = logs[row : row + 3, column : column + 3]
    # Central differences: the slope, and how it changes along and across.
    gradient = np.array([v[1, 2] - v[1, 0], v[2, 1] - v[0, 1]]) / 2
    xx = v[1, 2] - 2 * v[1, 1] + v[1, 0]
    yy = v[2, 1] - 2 * v[1, 1] + v[0, 1]
    xy = (v[2, 2] - v[1, 2] - v[2, 1] + 2 * v[1, 1] - v[1, 0] - v[0, 1] + v[0, 0]) / 2
    # A little on the diagonal; where the map is flat all the same, there is nowhere to step.
    hessian = np.array([[xx, xy], [xy, yy]]) + np.finfo(np.float32).eps * np.eye(2)
    if abs(np.linalg.det(hessian)) <= 1e-12:
        return np.zeros(2)
    return -np.linalg.solve(hessian, gradient)


def crop_from_image(
    centre: Float[np.ndarray, "2"],
    box: Float[np.ndarray, "2"],
    turn_deg: float,
    size: tuple[int, int],
) -> Float64[np.ndarray, "2 3"]:
    """The affine map from an image to a crop of size (height, width): a box of the given width and
    height around `centre`, turned."""
    height, width = size
    scale = np.array([width - 1, height - 1]) / box
    cos = np.cos(np.radians(turn_deg))
    sin = np.sin(np.radians(turn_deg))
    linear = scale[:, None] * np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, np.array([width - 1, height - 1]) / 2 - linear @ centre])


def apply(
    affine: Float64[np.ndarray, "2 3"], points: Float[np.ndarray, "n 2"]
) -> Float64[np.ndarray, "n 2"]:
    return points @ affine[:, :2].T + affine[:, 2]
