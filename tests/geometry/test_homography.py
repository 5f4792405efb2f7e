"""Homographies that are known, and matrices that no camera makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.geometry import homography
from tests.support.views import SIZE_PX

AREA_RATIO_MAX = 16.0
MILD = np.array([[1.1, 0.1, -12.0], [-0.05, 0.95, 7.0], [2e-4, -1e-4, 1.0]])


def _is_degenerate(b_from_a: np.ndarray) -> bool:
    return homography.area_ratio(b_from_a, SIZE_PX) > AREA_RATIO_MAX


def noisy_matches(
    b_from_a: np.ndarray, seed: int, count: int, outliers: int
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points_a = rng.uniform(0, SIZE_PX, (count, 2)).astype(np.float32)
    points_b = homography.warp(points_a, b_from_a) + rng.normal(0, 0.3, (count, 2))
    points_b[:outliers] = rng.uniform(0, SIZE_PX, (outliers, 2))
    return points_a, points_b.astype(np.float32)


@pytest.mark.parametrize("estimator", [homography.estimate, homography.estimate_plain])
@pytest.mark.parametrize("outliers", [0, 40])
def test_estimators_recover_a_known_homography_and_repeat_exactly(
    estimator: Callable[..., Any], outliers: int
) -> None:
    points_a, points_b = noisy_matches(MILD, 0, 120, outliers)
    found, inlier = estimator(points_a, points_b, 5.0)
    corners = np.array([[0.0, 0], [223, 0], [223, 223], [0, 223]])
    assert np.abs(homography.warp(corners, found) - homography.warp(corners, MILD)).max() < 2.0
    assert inlier[outliers:].mean() > 0.95
    assert inlier.sum() <= 120 - outliers + 8
    for _ in range(3):
        cv2.setRNGSeed(7)
        again, same = estimator(points_a, points_b, 5.0)
        assert np.array_equal(again, found)
        assert np.array_equal(same, inlier)


@pytest.mark.parametrize("estimator", [homography.estimate, homography.estimate_plain])
def test_too_few_or_collinear_points_are_no_crash(estimator: Callable[..., Any]) -> None:
    few = np.zeros((3, 2), np.float32)
    assert estimator(few, few, 5.0)[0] is None
    line = np.column_stack([np.arange(20.0), np.arange(20.0)]).astype(np.float32)
    matrix, inlier = estimator(line, line, 5.0)
    assert len(inlier) == 20
    assert matrix is None or matrix.shape == (3, 3)


def test_warp_and_invert_agree() -> None:
    points = np.random.default_rng(0).uniform(0, SIZE_PX, (50, 2))
    back = homography.warp(homography.warp(points, MILD), homography.invert(MILD))
    assert np.allclose(back, points)
    assert homography.invert(np.zeros((3, 3))) is None


def test_warp_matches_opencv() -> None:
    points = np.random.default_rng(0).uniform(0, SIZE_PX, (50, 2))
    assert np.allclose(
        homography.warp(points, MILD), cv2.perspectiveTransform(points[:, None], MILD)[:, 0]
    )


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("singular", np.array([[1.0, 0, 0], [2, 0, 0], [0, 0, 1]])),
        ("zero", np.zeros((3, 3))),
        ("not a number", np.full((3, 3), np.nan)),
        ("mirrored", np.array([[-1.0, 0, 223], [0, 1, 0], [0, 0, 1]])),
        ("horizon inside a", np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 100, 0, 1]])),
        ("horizon inside b", np.linalg.inv(np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 100, 0, 1]]))),
        ("shrunk five times", np.diag([0.2, 0.2, 1])),
        ("enlarged five times", np.diag([5.0, 5, 1])),
        ("everything behind", np.diag([1.0, 1, -1])),
    ],
)
def test_degenerate(name: str, matrix: np.ndarray) -> None:
    assert _is_degenerate(matrix), name


@pytest.mark.parametrize(
    "matrix",
    [np.eye(3), MILD, np.diag([3.9, 3.9, 1]), np.array([[0.0, -1, 223], [1, 0, 0], [0, 0, 1]])],
)
def test_plausible(matrix: np.ndarray) -> None:
    assert not _is_degenerate(matrix)


@given(st.lists(st.floats(-1.2, 1.2), min_size=8, max_size=8))
@settings(max_examples=150)
def test_degenerate_iff_the_corners_fold_and_same_for_the_inverse(
    shifts: list[tuple[float, float]],
) -> None:
    """Truth from the corners: a four-point map of the frame is plausible only if its quadrilateral
    is convex and keeps its sense."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]) * SIZE_PX - 0.5
    moved = corners + np.array(shifts).reshape(4, 2) * SIZE_PX / 2
    edges = np.roll(moved, -1, axis=0) - moved
    turns = (
        edges[:, 0] * np.roll(edges, -1, axis=0)[:, 1]
        - edges[:, 1] * np.roll(edges, -1, axis=0)[:, 0]
    )
    if np.abs(turns).min() < 1:  # three corners in a line: no homography
        return
    b_from_a = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    degenerate = _is_degenerate(b_from_a)
    if (turns <= 0).any():
        assert degenerate
    a_from_b = homography.invert(b_from_a)
    if a_from_b is not None:
        assert _is_degenerate(a_from_b) == degenerate


def test_the_ratio_of_areas_is_of_the_direction_in_which_it_is_more() -> None:
    mirror = np.array([[-1.0, 0, 223], [0, 1, 0], [0, 0, 1]])
    through_infinity = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    for matrix, ratio in (
        (np.eye(3), 1),
        (np.diag([5.0, 5, 1]), 25),
        (np.diag([0.2, 0.2, 1]), 25),
        (mirror, np.inf),
        (through_infinity, np.inf),
        (np.zeros((3, 3)), np.inf),
    ):
        assert homography.area_ratio(matrix, 224) == pytest.approx(ratio)
