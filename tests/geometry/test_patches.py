"""Votes with answers known on paper, and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import reference_rule
from mimic.geometry import homography, patches
from tests.support.views import PATCH_PX, SIDE, SIZE_PX

PATCHES = SIDE * SIDE


def shift(x_px: float, y_px: float) -> np.ndarray:
    return np.array([[1.0, 0, x_px], [0, 1, y_px], [0, 0, 1]])


def random_homography(rng: np.random.Generator, spread_px: float) -> np.ndarray:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]) * SIZE_PX
    rows = []
    for (x, y), (u, v) in zip(corners, corners + rng.normal(0, spread_px, (4, 2)), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    matrix = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    return matrix / matrix[2, 2]


def plain_votes(b_from_a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pixels, one by one: the candidate with most votes, the smaller number among equals,
    outside last."""
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    pixels = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    denominator = pixels @ b_from_a[2, :2] + b_from_a[2, 2]
    cell = np.floor((homography.warp(pixels, b_from_a) + 0.5) / PATCH_PX)
    inside = (denominator > 0) & (cell >= 0).all(axis=1) & (cell < SIDE).all(axis=1)
    votes = np.zeros((PATCHES, PATCHES + 1), int)
    for (px, py), ok, (column, row) in zip(pixels.astype(int), inside, cell, strict=True):
        votes[
            py // PATCH_PX * SIDE + px // PATCH_PX, int(row) * SIDE + int(column) if ok else PATCHES
        ] += 1
    winner = votes.argmax(axis=1)
    return np.where(winner == PATCHES, -1, winner), votes.max(axis=1)


def test_identity_maps_each_patch_to_itself() -> None:
    target, votes = patches.count_votes(np.eye(3), SIZE_PX, PATCH_PX)
    assert target.tolist() == list(range(PATCHES))
    assert (votes == PATCH_PX**2).all()


@pytest.mark.parametrize(("columns", "rows"), [(4, 0), (0, -3), (2, 5), (13, 13), (14, 0)])
def test_shift_by_whole_patches(columns: int, rows: int) -> None:
    target = patches.vote_all(
        shift(columns * PATCH_PX, rows * PATCH_PX), SIZE_PX, PATCH_PX
    ).reshape(SIDE, SIDE)
    assert (target >= 0).sum() == max(0, SIDE - abs(columns)) * max(0, SIDE - abs(rows))
    for row in range(SIDE):
        for column in range(SIDE):
            u, v = column + columns, row + rows
            assert target[row, column] == (v * SIDE + u if 0 <= u < SIDE and 0 <= v < SIDE else -1)


def test_majority_decides_a_shift_by_part_of_a_patch() -> None:
    assert patches.vote_all(shift(7, 0), SIZE_PX, PATCH_PX)[0] == 0  # 9 of 16 columns stay
    assert patches.vote_all(shift(9, 0), SIZE_PX, PATCH_PX)[0] == 1
    assert (
        patches.vote_all(shift(9, 0), SIZE_PX, PATCH_PX)[SIDE - 1] == -1
    )  # most of the last column leaves the frame
    assert (
        patches.vote_all(shift(8, 0), SIZE_PX, PATCH_PX)[0] == 0
    )  # equal votes: the smaller number
    assert (
        patches.vote_all(shift(8, 0), SIZE_PX, PATCH_PX)[SIDE - 1] == SIDE - 1
    )  # outside only wins outright


@pytest.mark.parametrize("spread_px", [2, 20, 60, 150])
def test_votes_equal_plain_loops(spread_px: int) -> None:
    rng = np.random.default_rng(spread_px)
    for _ in range(3):
        b_from_a = random_homography(rng, spread_px)
        target, votes = patches.count_votes(b_from_a, SIZE_PX, PATCH_PX)
        plain_target, plain_count = plain_votes(b_from_a)
        assert np.array_equal(target, plain_target)
        assert np.array_equal(votes, plain_count)


def test_pixels_beyond_the_horizon_are_outside() -> None:
    b_from_a = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 100, 0, 1]])  # x = 100 goes to infinity
    target = patches.vote_all(b_from_a, SIZE_PX, PATCH_PX).reshape(SIDE, SIDE)
    assert (target[:, 7:] == -1).all()


@pytest.mark.parametrize("patch_px", [8, 14, 16, 28, 32])
def test_other_patch_sizes(patch_px: int) -> None:
    count = patches.patch_count(SIZE_PX, patch_px)
    assert patches.vote_all(np.eye(3), SIZE_PX, patch_px).tolist() == list(range(count))


def test_drawn_pixels_lie_in_their_patches_and_follow_the_plain_order() -> None:
    pixels = patches.draw_pixels(SIZE_PX, PATCH_PX, 100, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    for patch in range(PATCHES):
        assert pixels[patch].tolist() == [
            list(point) for point in reference_rule.draw(patch, SIDE, PATCH_PX, rng)
        ]
    column, row = (pixels // PATCH_PX).transpose(2, 0, 1)
    assert np.array_equal(row * SIDE + column, np.repeat(np.arange(PATCHES)[:, None], 100, axis=1))


@given(seed=st.integers(0, 2**32 - 1), spread_px=st.sampled_from([1, 10, 40, 100, 300]))
@settings(max_examples=8)
def test_drawn_votes_equal_the_plain_rule(seed: int, spread_px: float) -> None:
    b_from_a = random_homography(np.random.default_rng(seed), spread_px)
    pixels = patches.draw_pixels(
        SIZE_PX, PATCH_PX, reference_rule.VOTES, np.random.default_rng(seed)
    )
    fast = patches.keep_first(patches.vote_drawn(b_from_a, pixels, SIZE_PX, PATCH_PX))
    plain = reference_rule.match_patches(b_from_a, SIZE_PX, PATCH_PX, np.random.default_rng(seed))
    assert {a: b for a, b in enumerate(fast.tolist()) if b >= 0} == plain


def test_first_to_reach_the_maximum_wins() -> None:
    """Two candidates with three votes each: 1, 0, 0, 1, 1, 0 over patches 0 and 1; patch 1 gets its
    third vote first."""
    x = np.array([20, 5, 5, 20, 20, 5], np.float32)
    pixels = np.zeros((PATCHES, 6, 2), np.float32)
    pixels[:, :, 0] = x
    assert patches.vote_drawn(np.eye(3), pixels, SIZE_PX, PATCH_PX)[0] == 1
    assert patches.vote_drawn(np.eye(3), pixels[:, ::-1], SIZE_PX, PATCH_PX)[0] == 0


def test_distinct_targets() -> None:
    targets = np.array([3, -1, 3, 5, 5, 0], np.int16)
    assert patches.keep_first(targets).tolist() == [3, -1, -1, 5, -1, 0]
    votes = np.array([10, 99, 20, 7, 7, 1])
    assert patches.keep_most_voted(targets, votes).tolist() == [-1, -1, 3, 5, -1, 0]


def test_invert_map() -> None:
    forward = np.array([2, -1, 0, -1], np.int16)
    assert patches.invert_map(forward).tolist() == [2, -1, 0, -1]
    assert patches.invert_map(np.array([3, 0, -1, -1], np.int16)).tolist() == [1, -1, -1, 0]
    assert patches.invert_map(patches.invert_map(np.array([3, 0, -1, -1], np.int16))).tolist() == [
        3,
        0,
        -1,
        -1,
    ]
