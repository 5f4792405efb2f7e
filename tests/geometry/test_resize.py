"""Shrinking to the square that is mined: averaged by default, as published in reference mode."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest

from mimic.geometry import features, overlap, resize
from tests.support.views import SIZE_PX, SYMMETRIC, texture


def test_a_fine_chequerboard_becomes_its_mean() -> None:
    """Squares of one pixel, shrunk two and a half times: bilinear interpolation shows a pattern
    that is not there."""
    rows, columns = np.mgrid[0:560, 0:560]
    board = np.repeat((255 * ((rows + columns) % 2))[..., None], 3, axis=2).astype(np.uint8)
    averaged = resize.to_square(board, SIZE_PX, "symmetric")
    assert averaged.mean() == pytest.approx(127.5, abs=1)
    assert averaged.std() < 12
    assert resize.to_square(board, SIZE_PX, "reference").std() > 5 * averaged.std()


def test_the_published_mode_is_four_neighbours() -> None:
    image = texture(1, 500)[:, :400]
    published = cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize.to_square(image, SIZE_PX, "reference"), published)


@pytest.mark.parametrize("mode", ["symmetric", "reference"])
def test_a_square_of_the_size_is_left_as_it_is(mode: Literal["symmetric", "reference"]) -> None:
    image = texture(2, SIZE_PX)
    np.testing.assert_array_equal(resize.to_square(image, SIZE_PX, mode), image)


@pytest.mark.parametrize(
    ("height", "width"), [(100, 100), (100, 448), (448, 100), (1, 1), (224, 900)]
)
def test_a_side_that_grows_is_interpolated(height: int, width: int) -> None:
    """A ramp stays a ramp, in the middle of each pixel, whichever side shrinks or grows."""
    ramp = np.linspace(20, 220, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    image = np.repeat(ramp, 3, axis=2).astype(np.uint8)
    small = resize.to_square(image, SIZE_PX, "symmetric")
    assert small.shape == (SIZE_PX, SIZE_PX, 3)
    wanted = cv2.resize(
        ramp.astype(np.float32)[..., 0], (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR
    )
    assert np.abs(small[..., 0].astype(float) - wanted).max() <= 4


def test_a_large_view_keeps_more_matches() -> None:
    """Two windows of a picture of 2400 pixels with noise, 30 % apart: averaging finds the motion
    with far more matches."""
    rng = np.random.default_rng(0)
    world = cv2.resize(texture(3, 600), (2400, 2400), interpolation=cv2.INTER_CUBIC)
    windows = [world[:1680, left : left + 1680] for left in (0, 504)]
    noisy = [
        np.clip(one + rng.normal(0, 25, one.shape), 0, 255).astype(np.uint8) for one in windows
    ]
    inliers = {}
    for mode in ("symmetric", "reference"):
        a, b = (features.extract(resize.to_square(view, SIZE_PX, mode)) for view in noisy)
        found = overlap.compare(a, b, SYMMETRIC, None)
        assert found.b_from_a is not None
        inliers[mode] = found.inliers
    assert inliers["symmetric"] > 1.2 * inliers["reference"]
