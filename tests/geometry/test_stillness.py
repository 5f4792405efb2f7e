"""What is burned into the frame never decides a pair; a scene that stands still is too similar,
whatever moves in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from mimic.geometry import features, homography, overlap, stillness
from mimic.geometry.explanation import explain
from mimic.geometry.overlap import Comparison, Outcome
from tests.geometry.test_overlap import assert_transposed
from tests.support.views import PATCH_PX, SIDE, SIZE_PX, SYMMETRIC, texture

WORLD = texture(21, 640)
SHIFT_PX = 5 * PATCH_PX  # an overlap of 9/14
SHIFTED = np.array([[1.0, 0, -SHIFT_PX], [0, 1, 0], [0, 0, 1]])
OFF = dataclasses.replace(SYMMETRIC, still_px=0.0)


def scene(
    x_px: float, y_px: float = 0.0, world: np.ndarray = WORLD, blur_px: float = 0.0
) -> np.ndarray:
    """The world from a camera that has moved sideways by so many pixels."""
    a_from_world = np.array([[1.0, 0, -208 - x_px], [0, 1, -208 - y_px]])
    seen = cv2.warpAffine(world, a_from_world, (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(seen, (0, 0), blur_px) if blur_px else seen


def captioned(image: np.ndarray) -> np.ndarray:
    """Two lines of white text on a black strip, as dash cams and television burn them in."""
    out = image.copy()
    cv2.rectangle(out, (0, 190), (SIZE_PX, SIZE_PX), (0, 0, 0), -1)
    for line, words in enumerate(("2026-11-28 10:53 GPS 48.137N", "SPEED 47 km/h  CAM-02 FRONT")):
        cv2.putText(
            out,
            words,
            (4, 204 + 15 * line),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.45,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    return out


def framed(image: np.ndarray) -> np.ndarray:
    """Letterbox bars and a logo in a corner."""
    out = image.copy()
    out[:24] = out[-24:] = 0
    out[30:62, 186:218] = texture(5, 32)
    return out


def driven(image: np.ndarray) -> np.ndarray:
    """A still dashboard, textured, over the lower fifth of the frame."""
    out = image.copy()
    out[-45:] = texture(6, SIZE_PX)[:45]
    return out


def noisy(image: np.ndarray, seed: int, deviation: float = 6.0) -> np.ndarray:
    """Sensor noise, and JPEG's."""
    grain = np.random.default_rng(seed).normal(0, deviation, image.shape)
    rough = np.clip(image + grain, 0, 255).astype(np.uint8)
    written = cv2.imencode(".jpg", rough, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return cv2.imdecode(written, cv2.IMREAD_COLOR)


def assert_maps_alike(found: Comparison, b_from_a: np.ndarray) -> None:
    """Within three pixels where both views show the scene."""
    assert found.b_from_a is not None
    points = np.array([[SHIFT_PX, 30], [200, 30], [SHIFT_PX, 180], [200, 180]], np.float32)
    moved_px = homography.warp(points, found.b_from_a) - homography.warp(points, b_from_a)
    assert np.abs(moved_px).max() < 3


def compared(a: np.ndarray, b: np.ndarray, rule: overlap.Rule = SYMMETRIC) -> Comparison:
    """One way; the other way is checked to be its transpose."""
    seen_a, seen_b = features.extract(a), features.extract(b)
    found = overlap.compare(seen_a, seen_b, rule, None)
    back = overlap.compare(seen_b, seen_a, rule, None)
    assert_transposed(found, back)
    assert np.array_equal(found.aside, back.aside)
    return found


@pytest.mark.parametrize("burn", [captioned, framed, driven])
def test_a_moving_scene_is_judged_without_what_is_burned_in(burn: Callable[..., Any]) -> None:
    found = compared(noisy(burn(scene(0)), 1), noisy(burn(scene(SHIFT_PX)), 2))
    assert found.outcome is Outcome.KEPT
    assert found.overlap == pytest.approx(9 / 14, abs=0.02)
    assert_maps_alike(found, SHIFTED)
    assert len(found.aside) >= 4
    without = compared(noisy(burn(scene(0)), 1), noisy(burn(scene(SHIFT_PX)), 2), OFF)
    assert found.matches + len(found.aside) == without.matches
    assert not len(without.aside)
    assert f"{len(found.aside)} matches that do not move set aside" in explain(found)


@pytest.mark.parametrize("burn", [captioned, driven])
def test_two_scenes_have_nothing_in_common_but_what_is_burned_in(burn: Callable[..., Any]) -> None:
    a, b = noisy(burn(scene(0)), 1), noisy(burn(scene(0, world=texture(22, 640))), 2)
    found = compared(a, b)
    assert found.b_from_a is None
    assert found.outcome is not Outcome.TOO_SIMILAR
    assert compared(a, b, OFF).b_from_a is not None


def test_where_only_a_caption_is_found_again_the_pair_is_static() -> None:
    """A view into the fog."""
    fog = np.full_like(WORLD, 150)
    a, b = captioned(scene(0)), captioned(scene(0, world=fog))
    found = compared(a, b)
    assert found.outcome is Outcome.STATIC
    assert found.b_from_a is None
    assert found.inliers == 0
    name, value, bound = found.decision
    assert (name, bound) == ("still_spread_min", SYMMETRIC.still_spread_min)
    assert value < bound
    still, every = len(found.aside), len(found.aside) + found.matches
    assert f"{still} of {every} matches do not move; they reach {value:.3f}" in explain(found)


def test_a_caption_does_not_pin_the_homography_of_a_scene_with_few_matches() -> None:
    """A smooth scene gives fewer matches than the caption: together they agree on a homography that
    no camera made."""
    smooth = cv2.GaussianBlur(WORLD, (0, 0), 6)
    a, b = (captioned(scene(x, world=smooth)) for x in (0, SHIFT_PX))
    found = compared(a, b)
    assert found.outcome in (Outcome.STATIC, Outcome.FEW_MATCHES, Outcome.KEPT)
    if found.b_from_a is not None:
        assert_maps_alike(found, SHIFTED)


@pytest.mark.parametrize("deviation", [0, 6, 15])
def test_a_still_camera_is_too_similar(deviation: int) -> None:
    a, b = (noisy(scene(0), seed, deviation) for seed in (1, 2))
    found = compared(a, b)
    assert found.outcome is Outcome.TOO_SIMILAR
    assert found.overlap == 1
    assert np.array_equal(found.correspondences, np.arange(SIDE**2))


def test_what_moves_before_a_still_camera_is_of_no_account() -> None:
    """Two objects, each moving its own way."""
    views = []
    for seed, step_px in ((1, 0), (2, 24)):
        view = scene(0)
        view[20:70, 20 + step_px : 70 + step_px] = texture(7, 50)
        view[120 + step_px : 170 + step_px, 130:180] = texture(8, 50)
        views.append(noisy(view, seed, 2))
    found = compared(views[0], views[1])
    assert found.outcome is Outcome.TOO_SIMILAR
    assert found.inliers < found.matches
    assert np.array_equal(found.b_from_a, np.eye(3))


@pytest.mark.parametrize("step_px", [0.1, 0.3, 0.45, 0.6, 0.9, 1.5])
def test_slow_motion_is_too_similar(step_px: float) -> None:
    found = compared(scene(0), scene(step_px, step_px / 2))
    assert found.outcome is Outcome.TOO_SIMILAR
    assert found.overlap > 0.9


@pytest.mark.parametrize("zoom", [1.15, 1.4])
def test_where_a_motion_comes_to_rest_nothing_is_set_aside(zoom: float) -> None:
    """Straight ahead the middle of the frame stands still, and belongs to the scene."""
    centre = (SIZE_PX - 1) / 2
    b_from_a = np.array([[zoom, 0, centre * (1 - zoom)], [0, zoom, centre * (1 - zoom)], [0, 0, 1]])
    a_from_world = np.array([[1.0, 0, -208], [0, 1, -208], [0, 0, 1]])
    nearer = cv2.warpPerspective(
        WORLD, b_from_a @ a_from_world, (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR
    )
    found = compared(scene(0), nearer)
    assert not len(found.aside)
    assert_maps_alike(found, b_from_a)


def test_the_published_rule_knows_no_stillness() -> None:
    reference = dataclasses.replace(SYMMETRIC, mode="reference")
    a, b = (features.extract(captioned(scene(x))) for x in (0, SHIFT_PX))
    found, other = (
        overlap.compare(
            a, b, dataclasses.replace(reference, still_px=still_px), np.random.default_rng(0)
        )
        for still_px in (0.0, 0.5)
    )
    assert not len(found.aside)
    assert found.matches == other.matches
    assert np.array_equal(found.b_from_a, other.b_from_a)


def test_too_few_moving_matches_are_few_matches() -> None:
    """Ten matches that move all over the frame, and five that stand still in one corner."""
    points = np.concatenate(
        [np.random.default_rng(4).uniform(20, 200, (10, 2)), np.full((5, 2), 8.0)]
    ).astype(np.float32)
    descriptors = (
        np.random.default_rng(0)
        .integers(0, 256, (15, features.DESCRIPTOR_LENGTH))
        .astype(np.float32)
    )
    moved = points + np.array([9, 0], np.float32) * (np.arange(15) < 10)[:, None].astype(np.float32)
    found = overlap.compare(
        features.from_arrays(points, descriptors),
        features.from_arrays(moved, descriptors),
        SYMMETRIC,
        None,
    )
    assert found.outcome is Outcome.FEW_MATCHES
    assert found.matches == 10
    assert (
        explain(found)
        == "10 moving matches, fewer than matches_min 11; 5 matches that do not move set aside"
    )


def placed(moved_px: list[float]) -> tuple[np.ndarray, np.ndarray]:
    points = np.random.default_rng(3).uniform(20, 200, (len(moved_px), 2)).astype(np.float32)
    return points, points + np.array(moved_px, np.float32)[:, None] * np.array(
        [0.6, 0.8], np.float32
    )


@pytest.mark.parametrize(
    ("moved_px", "still"),
    [
        ([0.1] * 4 + [30] * 20, 4),
        ([0.1] * 3 + [30] * 20, 0),  # three points pin nothing
        ([0.1] * 6 + [0.7] * 5 + [30] * 20, 6),
        (
            [0.1] * 6 + [0.7] * 6 + [30] * 20,
            0,
        ),  # as many move a little more: the slow end of a motion
        ([0.49] * 6 + [30] * 20, 6),
        ([0.51] * 6 + [30] * 20, 0),
        ([0.1] * 20, 20),
    ],
)
def test_still_matches_stand_out_from_slow_ones(moved_px: list[float], still: int) -> None:
    found = stillness.still(*placed(moved_px), 0.5)
    assert found.sum() == still
    assert found[:still].all()


def test_spread_is_the_share_of_patches_in_or_beside_which_something_stands_still() -> None:
    points = np.array([[8, 8], [24, 24], [40, 40], [200, 200]], np.float32)
    seen = features.from_arrays(points, np.zeros((4, features.DESCRIPTOR_LENGTH), np.float32))
    assert stillness.spread(seen, seen, points[:1], points[:1], SIDE, PATCH_PX) == 0.5
    assert stillness.spread(seen, seen, points, points, SIDE, PATCH_PX) == 1
