"""Real image pairs with a dense truth (homography, disparity, flow), mined as a folder of images:
matched patches go where it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mimic import config, sources
from mimic.geometry.overlap import Outcome
from mimic.mining import loop
from mimic.params import load_params
from tests.support import truth

Map = Callable[
    [np.ndarray], np.ndarray
]  # pixels of a [n, 2] to pixels of b, nan where the truth is silent


@pytest.fixture(scope="module")
def mine(repository: Path) -> config.Mine:
    return load_params(repository / "params.yaml").mine


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., sources.Source]:
    """A folder of some images, all pairs of it, as a source's section."""

    def make(*files: Path) -> sources.Source:
        for number, file in enumerate(files):
            (tmp_path / f"{number}{file.suffix}").symlink_to(file)
        numbers: dict[str, Any] = {"stride": 1, "retry_strides": (), "advance": 1, "group_max": 20}
        section = config.Images(
            reader="images", root=tmp_path, pairing="all", glob="*", **numbers, **truth.BASE
        )
        return sources.open_source("sample", section, Path(), truth.SIZE_PX)

    return make


def _any(mine: config.Mine) -> config.Mine:
    """Keeps whatever has a homography: stereo and flow pairs overlap nearly wholly."""
    return mine.model_copy(update={"overlap_min": 0.05, "overlap_max": 1.01})


def _right(pair: loop.Pair, size_px: tuple[int, int], to_b: Map) -> float:
    """Share of the matched patches, where the truth speaks, that lie within one patch of it."""
    in_a, in_b = truth.matched_pixels(pair, size_px)
    off = np.abs(to_b(in_a) - in_b) / (np.array(size_px) / truth.SIDE)
    known = np.isfinite(off).all(axis=1)
    assert known.sum() > 20
    return float((off[known].max(axis=1) <= 1).mean())


def _moved(by: np.ndarray) -> Map:
    """Pixels displaced by a field [height, width, 2]."""

    def to_b(pixels: np.ndarray) -> np.ndarray:
        column, row = np.rint(pixels).astype(int).T
        return pixels + by[np.clip(row, 0, len(by) - 1), np.clip(column, 0, by.shape[1] - 1)]

    return to_b


def _errors(pair: loop.Pair, motion: np.ndarray) -> tuple[float, float]:
    """Medians over the known pixels of a field [height, width, 2]: how far the pair's homography
    is from it, and how far standing still is. Motions smaller than a patch leave all patches where
    they are, so that `_right` cannot tell a homography from its inverse."""
    height, width = motion.shape[:2]
    row, column = np.mgrid[:height:4, :width:4].reshape(2, -1)
    scale = truth.SIZE_PX / np.array([width, height])
    pixels = np.column_stack([column, row])
    square = np.column_stack([(pixels + 0.5) * scale - 0.5, np.ones(len(pixels))])
    assert pair.comparison.b_from_a is not None
    mapped = square @ pair.comparison.b_from_a.T
    moved = (mapped[:, :2] / mapped[:, 2:] + 0.5) / scale - 0.5 - pixels
    true = motion[row, column]
    known = np.isfinite(true).all(axis=1)
    assert known.sum() > 1000
    off = np.linalg.norm((moved - true)[known], axis=1)
    return float(np.median(off)), float(np.median(np.linalg.norm(true[known], axis=1)))


@pytest.mark.parametrize("scene", ["graf", "boat"])
def test_planes_seen_from_four_sides_follow_their_homographies(
    real_data: Path, mine: config.Mine, folder: Callable[..., sources.Source], scene: str
) -> None:
    given = real_data / "oxford_affine" / scene
    files = [given / f"img{number}.png" for number in range(1, 5)]
    pairs, stats = truth.mined(folder(*files), ".", _any(mine))
    from_first = [np.eye(3), *(_homography(given, number) for number in (2, 3, 4))]
    assert stats.candidates == 6
    assert len(pairs) >= 3
    height, width = cv2.imread(str(files[0])).shape[:2]
    for pair in pairs:
        a, b = (int(Path(view.key).stem) for view in (pair.a, pair.b))
        b_from_a = from_first[b] @ np.linalg.inv(from_first[a])

        def to_b(pixels: np.ndarray, b_from_a: np.ndarray = b_from_a) -> np.ndarray:
            mapped = np.column_stack([pixels, np.ones(len(pixels))]) @ b_from_a.T
            return mapped[:, :2] / mapped[:, 2:]

        assert _right(pair, (width, height), to_b) > 0.9


def _homography(folder: Path, number: int) -> np.ndarray:
    """From image 1 to image `number`: nine numbers as text, alone or inside OpenCV's XML."""
    path = min(folder.glob(f"H1to{number}p*"))
    text = path.read_text()
    data = re.search(r"<data>(.*?)</data>", text, re.S)
    return np.array((data[1] if data else text).split(), float).reshape(3, 3)


@pytest.mark.parametrize(("scene", "scale"), [("teddy", 4), ("tsukuba", 16)])
def test_stereo_pairs_are_too_similar_and_follow_their_disparity(
    real_data: Path,
    mine: config.Mine,
    folder: Callable[..., sources.Source],
    scene: str,
    scale: int,
) -> None:
    given = real_data / "middlebury_stereo" / scene
    files = (given / "im2.png", given / "im6.png")
    source = folder(*files)
    _, stats = truth.mined(source, ".", mine)
    assert stats.outcomes == {Outcome.TOO_SIMILAR: 1}
    (pair,) = truth.mined(source, ".", _any(mine))[0]
    disparity = cv2.imread(str(given / "disp2.png"), cv2.IMREAD_UNCHANGED).astype(np.float64)
    disparity = disparity if disparity.ndim == 2 else disparity[..., 0]
    shift = np.where(disparity > 0, -disparity / scale, np.nan)
    motion = np.dstack([shift, 0 * shift])
    assert _right(pair, disparity.shape[::-1], _moved(motion)) > 0.95
    off, standing = _errors(pair, motion)
    assert off < standing / 3


def test_flow_pairs_follow_their_flow(
    real_data: Path, mine: config.Mine, folder: Callable[..., sources.Source]
) -> None:
    given = real_data / "middlebury_flow"
    with (given / "RubberWhale.flo").open("rb") as file:
        assert np.frombuffer(file.read(4), np.float32) == 202021.25
        width, height = np.frombuffer(file.read(8), np.int32)
        flow = np.frombuffer(file.read(), np.float32).reshape(height, width, 2).astype(np.float64)
    flow[np.abs(flow) > 1e9] = np.nan
    (pair,) = truth.mined(
        folder(given / "RubberWhale1.png", given / "RubberWhale2.png"), ".", _any(mine)
    )[0]
    assert _right(pair, (width, height), _moved(flow)) > 0.95
    off, standing = _errors(pair, flow)
    assert off < 0.8 * standing  # its objects move each for itself, by a pixel


def test_driving_pairs_follow_their_flow(
    real_data: Path, mine: config.Mine, folder: Callable[..., sources.Source]
) -> None:
    given = real_data / "kitti_flow"
    stored = cv2.imread(str(given / "kitti_occ_000010_10.png"), cv2.IMREAD_UNCHANGED).astype(
        np.float64
    )
    flow = np.where(
        stored[..., :1] > 0, (stored[..., [2, 1]] - 2**15) / 64, np.nan
    )  # B is valid, G is v, R is u
    files = [given / f"kitti_000010_{number}.png" for number in (10, 11)]
    pairs, stats = truth.mined(folder(*files), ".", _any(mine))
    assert stats.candidates == len(pairs) == 1
    assert _right(pairs[0], flow.shape[1::-1], _moved(flow)) > 0.95
    off, standing = _errors(pairs[0], flow)
    assert off < standing / 2  # one plane cannot follow a drive: parallax is large near the car
