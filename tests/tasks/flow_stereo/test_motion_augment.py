"""What CroCo v2 does to its training pairs: how often, how far, and that the truth follows the
pixels."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter

from mimic.tasks.flow_stereo import augment
from mimic.tasks.flow_stereo.augment import random_crop
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.flow_stereo.files import Motion

DRAWS = 600


def grey(height: int, width: int, motion: tuple[float, ...]) -> Motion:
    """A plain pair whose motion is the same everywhere, so that a crop tells how it was scaled."""
    picture = np.full((height, width, 3), 100, np.uint8)
    truth = np.broadcast_to(np.array(motion, np.float32), (height, width, len(motion)))
    return Motion(
        picture, picture.copy(), np.ascontiguousarray(truth), np.ones((height, width), bool)
    )


def drawn(task: FlowTask | StereoTask, item: Motion, count: int = DRAWS) -> list[Motion]:
    peer = task.model_copy(update={"augment": "peer"})
    return [random_crop(peer, item, np.random.default_rng([7, seed])) for seed in range(count)]


def test_flow_is_scaled_stretched_and_mirrored_as_often(flow_task: FlowTask) -> None:
    motions = np.array([part.motion[5, 5] for part in drawn(flow_task, grey(200, 300, (8.0, 4.0)))])
    across, down = np.abs(motions[:, 0]) / 8, np.abs(motions[:, 1]) / 4
    scaled = ~(np.isclose(across, 1) & np.isclose(down, 1))
    stretched = ~np.isclose(across, down)
    assert 0.75 < scaled.mean() < 0.85  # 0.8
    assert 0.58 < stretched.mean() < 0.70  # 0.8 of these
    plain = np.log2(across[scaled & ~stretched])
    assert plain.min() > -0.2 - 1e-5
    assert plain.max() < 0.5 + 1e-5
    assert np.ptp(plain) > 0.6
    ratio = np.log2(across[stretched] / down[stretched])
    assert np.abs(ratio).max() < 0.4
    assert np.abs(ratio).max() > 0.3
    assert 0.45 < (motions[:, 0] < 0).mean() < 0.55
    assert 0.07 < (motions[:, 1] < 0).mean() < 0.13


def test_a_small_image_is_never_scaled_below_the_crop(flow_task: FlowTask) -> None:
    """A margin of 8 px stays: 40 of 40 rows, 56 of 56 columns."""
    for part in drawn(flow_task, grey(40, 56, (1.0, 1.0)), 100):
        assert part.a.shape == (32, 48, 3)
        assert np.abs(part.motion).min() >= 1 - 1e-6
    for part in drawn(flow_task, grey(20, 30, (1.0, 1.0)), 30):
        assert part.valid.shape == (32, 48)


def test_sparse_flow_falls_where_its_pixels_go() -> None:
    item = grey(20, 30, (2.0, -3.0))
    known = np.zeros((20, 30), bool)
    known[4, 10] = known[0, 3] = known[9, 0] = (
        True  # the first row and column are lost, as published
    )
    found = augment._scaled_flow(Motion(item.a, item.b, item.motion, known), 1.5, 2.0)
    assert np.argwhere(found.valid).tolist() == [[8, 15]]
    assert found.motion[8, 15].tolist() == [3.0, -6.0]
    assert found.a.shape == (40, 45, 3)


def test_flow_known_everywhere_is_interpolated() -> None:
    item = grey(8, 8, (1.0, 0.0))
    item.motion[:, 4:, 0] = 3
    found = augment._scaled_flow(item, 2.0, 1.0)
    assert found.valid.all()
    assert found.motion[4, :, 0].tolist() == [
        *[2.0] * 7,
        3.0,
        5.0,
        *[6.0] * 7,
    ]


def test_colours_of_flow_are_torchvisions(flow_task: FlowTask) -> None:
    """Hue and saturation move as ColorJitter(0.4, 0.4, 0.4, 0.5 / 3.14) moves them."""
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    picture[:, :, 0] = 200
    theirs_jitter = ColorJitter(0.4, 0.4, 0.4, 0.5 / 3.14)
    torch.manual_seed(0)
    theirs = np.stack([np.asarray(theirs_jitter(Image.fromarray(picture))) for _ in range(DRAWS)])
    ours = np.stack([augment._jittered(picture, np.random.default_rng(i)) for i in range(DRAWS)])
    for numbers in (
        (lambda x: x.mean(axis=(1, 2))[:, 0]),
        (lambda x: x.mean(axis=(1, 2))[:, 2]),
        (lambda x: x.std(axis=(1, 2, 3))),
    ):
        assert ks_2samp(numbers(ours.astype(float)), numbers(theirs.astype(float))).pvalue > 0.01
    same = [
        np.array_equal(part.a, part.b) for part in drawn(flow_task, grey(40, 56, (1.0, 1.0)), 300)
    ]
    assert 0.75 < np.mean(same) < 0.87  # one pair in five has colours of its own in each view


@pytest.mark.parametrize(("height", "low", "high"), [(60, 0.0, 1.0), (810, -0.2, 0.4)])
def test_stereo_is_scaled_in_x_alone(
    stereo_task: StereoTask, height: int, low: float, high: float
) -> None:
    """Small images are enlarged only; half of them are left as they are."""
    item = grey(height, 900 if height > 800 else 80, (10.0,))
    parts = drawn(stereo_task, item, 200 if height > 800 else DRAWS)
    scales = np.log2(np.array([part.motion[3, 3, 0] for part in parts]) / 10)
    scaled = ~np.isclose(scales, 0, atol=1e-6)
    assert 0.4 < scaled.mean() < 0.6
    assert scales.min() > low - 1e-5
    assert scales.max() < high + 1e-5
    assert np.ptp(scales) > 0.8 * (high - low)
    assert all(part.valid.shape == (32, 48) and part.valid.all() for part in parts[:20])


def test_views_of_stereo_differ_as_often(stereo_task: StereoTask) -> None:
    """Right view shaken: 0.5; no colour of its own: 0.75 for one change, 0.75**5 for all five."""
    picture = np.random.default_rng(0).integers(20, 230, (40, 60, 3), dtype=np.uint8)
    item = Motion(picture, picture.copy(), grey(40, 60, (3.0,)).motion, np.ones((40, 60), bool))
    differ = np.mean([not np.array_equal(part.a, part.b) for part in drawn(stereo_task, item)])
    expected = 1 - 0.5 * (0.5 * 0.75 + 0.5 * 0.75**5)
    assert abs(differ - expected) < 0.06


def test_the_right_view_is_moved_by_less_than_three_rows() -> None:
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[:, None, None], 64, axis=1).repeat(
        3, axis=2
    )
    moves = []
    for seed in range(60):
        shaken = augment._shaken(ramp, np.random.default_rng(seed))[20:80].astype(float)
        moves.append((ramp[20:80] - shaken).mean() / 2)
    assert -2.2 < min(moves) < -1.2
    assert 1.2 < max(moves) < 2.2


def test_stereo_upside_down_half_of_the_time(
    stereo_task: StereoTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "_stereo_colours", lambda a, b, _: (a, b))
    picture = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[:, None, None], 80, axis=1).repeat(
        3, axis=2
    )
    item = Motion(picture, picture.copy(), grey(60, 80, (3.0,)).motion, np.ones((60, 80), bool))
    turned = [part.a[0, 0, 0] > part.a[-1, 0, 0] for part in drawn(stereo_task, item, 300)]
    assert 0.43 < np.mean(turned) < 0.57


def test_crops_of_flow_keep_the_truth(flow_task: FlowTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """View b is view a moved; fetched by the crop's motion it is the crop's view a again."""
    monkeypatch.setattr(augment, "_jittered", lambda view, _: view)
    world = np.random.default_rng(1).normal(size=(14, 18, 3))
    smooth = np.asarray(
        Image.fromarray(np.uint8(np.clip(world * 60 + 128, 0, 255))).resize(
            (180, 140), Image.Resampling.BICUBIC
        )
    )
    item = Motion(
        smooth[10:130, 10:170],
        smooth[7:127, 6:166],
        grey(120, 160, (4.0, 3.0)).motion,
        np.ones((120, 160), bool),
    )
    for part in drawn(flow_task, item, 30):
        across, down = part.motion[16, 24]
        rows, columns = np.mgrid[8:24, 10:38].astype(np.float32)
        fetched = cv2.remap(part.b, columns + across, rows + down, cv2.INTER_LINEAR)
        off = np.abs(fetched.astype(int) - part.a[8:24, 10:38]).mean()
        assert off < 4 < np.abs(part.b.astype(int) - part.a).mean()


def numbered(height: int, width: int, motion: tuple[float, ...]) -> Motion:
    """Every row and column of both views has a brightness of its own."""
    plain = grey(height, width, motion)
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    picture = np.stack([rows * 2, columns * 2, np.full_like(rows, 50)], axis=-1)
    return Motion(picture, picture.copy(), plain.motion, plain.valid)


def test_stereo_leaves_the_rows_alone(
    stereo_task: StereoTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a crop follow each other as in the image, whatever its columns were scaled by."""
    monkeypatch.setattr(augment, "_stereo_colours", lambda a, b, _: (a, b))
    for part in drawn(stereo_task, numbered(60, 80, (3.0,)), 60):
        assert np.abs(np.diff(part.a[:, 20, 0].astype(int))).tolist() == [2] * 31


def test_the_last_place_is_a_place_of_stereo_alone(
    flow_task: FlowTask, stereo_task: StereoTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row more than the crop: CroCo's flow never takes the lower place, its stereo does half of
    the time."""
    monkeypatch.setattr(augment, "_jittered", lambda view, _: view)
    monkeypatch.setattr(augment, "_stereo_colours", lambda a, b, _: (a, b))
    flows = drawn(flow_task, numbered(33, 49, (8.0, 4.0)), 300)
    as_it_was = [part for part in flows if part.motion[0, 0].tolist() == [8.0, 4.0]]
    assert len(as_it_was) > 10
    assert all(part.a[0, 0, :2].tolist() == [0, 0] for part in as_it_was)
    tops = {int(part.a[..., 0].min()) for part in drawn(stereo_task, numbered(33, 80, (3.0,)), 40)}
    assert tops == {0, 2}


Factors = dict[str, list[float]]


def _record_colours(monkeypatch: pytest.MonkeyPatch) -> tuple[Factors, list[tuple[int, int]]]:
    """By how much each colour is changed, and the sizes of the pictures."""
    factors: Factors = {}
    sizes: list[tuple[int, int]] = []

    def recording(name: str) -> Callable[[Image.Image, float], Image.Image]:
        def adjust(image: Image.Image, factor: float) -> Image.Image:
            factors.setdefault(name, []).append(factor)
            sizes.append(image.size)
            return image

        return adjust

    changes = [(recording(change[0].__name__), *change[1:]) for change in augment.STEREO_COLOURS]
    monkeypatch.setattr(augment, "STEREO_COLOURS", changes)
    for name in ("brightness", "contrast", "saturation", "hue"):
        monkeypatch.setattr(augment.pil, f"adjust_{name}", recording(f"adjust_{name}"))
    return factors, sizes


def _reaches(factors: list[float], low: float, high: float) -> bool:
    """From end to end, and no further."""
    edge = 0.05 * (high - low)
    ends = (min(factors), max(factors))
    return low <= ends[0] < low + edge and high - edge < ends[1] <= high


def test_colours_of_stereo_reach_as_far(
    stereo_task: StereoTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CroCo's `StereoAugmentor`. The right view's own saturation begins at -0.8, as published."""
    factors, sizes = _record_colours(monkeypatch)
    drawn(stereo_task, grey(60, 80, (3.0,)))
    ranges = {
        "adjust_contrast": (0.8, 1.2),
        "adjust_gamma": (0.7, 1.5),
        "adjust_brightness": (0.5, 2.0),
        "adjust_hue": (-0.1, 0.1),
        "adjust_saturation": (0.8, 1.2),
    }
    assert set(factors) == set(ranges)
    for name, (low, high) in ranges.items():
        assert _reaches(factors[name][::2], low, high), f"{name} of the left view"
        low = -0.8 if name == "adjust_saturation" else low
        assert _reaches(factors[name][1::2], low, high), f"{name} of the right view"
    assert set(sizes) == {(48, 32)}, "of the crop"


def test_colours_of_flow_reach_as_far_and_come_after_the_crop(
    flow_task: FlowTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contrast depends on the mean of a picture: of the crops, both views below each other where
    they share their colours."""
    factors, sizes = _record_colours(monkeypatch)
    drawn(flow_task, grey(200, 300, (8.0, 4.0)), 300)
    turn = 0.5 / 3.14
    assert set(factors) == {
        f"adjust_{name}" for name in ("brightness", "contrast", "saturation", "hue")
    }
    for name, every in factors.items():
        assert _reaches(every, *((-turn, turn) if name == "adjust_hue" else (0.6, 1.4))), name
    assert set(sizes) == {(48, 32), (48, 64)}


def test_the_right_view_is_turned_by_a_tenth_of_a_degree(monkeypatch: pytest.MonkeyPatch) -> None:
    angles: list[float] = []
    turned = cv2.getRotationMatrix2D

    def record(centre: tuple[float, float], angle: float, scale: float) -> np.ndarray:
        angles.append(angle)
        assert 0 <= centre[0] <= 40
        assert 0 <= centre[1] <= 60
        assert scale == 1
        return turned(centre, angle, scale)

    monkeypatch.setattr(cv2, "getRotationMatrix2D", record)
    picture = np.zeros((40, 60, 3), np.uint8)
    for seed in range(200):
        augment._shaken(picture, np.random.default_rng(seed))
    assert _reaches(angles, -0.1, 0.1)
