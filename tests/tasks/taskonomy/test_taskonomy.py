"""Taskonomy's tree: real samples, encodings, masks, lists, and what can be wrong with a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mimic.errors import BadInput
from mimic.tasks.taskonomy.dataset import TARGETS, Taskonomy, eroded, scaled

SHAPES = {"gso": (512, 512), "blendedmvs": (576, 768)}


def write_splits(folder: Path, train: str, val: str, test: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("val", val), ("test", test)):
        (folder / f"tiny_{name}.csv").write_text(f"building,point,view\n{rows}\n")
    return folder


@pytest.fixture
def folder(real_data: Path, tmp_path: Path) -> Path:
    """The real points that have all of image, target and mask, in the true tree; point 1 of
    blendedmvs borrows its neighbour's mask."""
    source = real_data / "taskonomy_format"
    for building in SHAPES:
        for path in (source / building).glob("*.png"):
            domain = path.stem.partition("_domain_")[2]
            target = (
                tmp_path
                / domain
                / building
                / path.name.replace("domain_mask_valid", "domain_depth_zbuffer")
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    write_splits(tmp_path / "splits", "gso,21,5", "gso,21,5", "gso,21,5")
    return tmp_path


def opened(
    folder: Path, target: str, counts: tuple[int | None, ...] = (None, None, None)
) -> Taskonomy:
    return Taskonomy(folder, folder / "splits", "tiny", target, counts)


def test_real_normals_are_unit_vectors(folder: Path) -> None:
    taskonomy = opened(folder, "normal")
    assert [len(part) for part in (taskonomy.train, taskonomy.validation, taskonomy.test)] == [
        1,
        1,
        1,
    ]
    frame = taskonomy.read(2)
    assert frame.image.shape == frame.target.shape == (512, 512, 3)
    assert frame.target.dtype == np.uint8
    assert taskonomy.stem(2) == "gso-point_21_view_5"
    assert 0 < frame.valid.mean() < 1
    vectors = 2 * scaled(frame.target, TARGETS["normal"])[eroded(frame.valid, 4)] - 1
    assert np.median(np.linalg.norm(vectors, axis=1)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("building", "point", "view"), [("gso", 21, 5), ("blendedmvs", 1006, 0)])
def test_real_depth(folder: Path, building: str, point: int, view: int) -> None:
    """16 bits; what is not valid is stored as the largest value."""
    write_splits(folder / "splits", *[f"{building},{point},{view}"] * 3)
    frame = opened(folder, "depth_zbuffer").read(0)
    assert frame.target.shape == (*SHAPES[building], 1)
    assert frame.target.dtype == np.uint16
    assert (frame.target[~frame.valid] == 65535).mean() > 0.95
    values = scaled(frame.target, TARGETS["depth_zbuffer"])
    assert values.min() >= 0
    assert values.max() == 1.0


def test_encodings() -> None:
    stored = np.array([[0, 4000, 8000, 65535]], np.uint16)[..., None]
    np.testing.assert_allclose(
        scaled(stored, TARGETS["depth_zbuffer"])[0, :, 0], [0, 0.5, 1, 1], rtol=1e-6
    )
    np.testing.assert_allclose(
        scaled(stored, TARGETS["keypoints2d"])[0, :, 0], stored[0, :, 0] / 65535, rtol=1e-6
    )
    quarter = np.array([[8192, 16384, 40000]], np.uint16)[..., None]
    np.testing.assert_allclose(
        scaled(quarter, TARGETS["edge_texture"])[0, :, 0], [0.5, 1, 1], atol=1e-4
    )
    np.testing.assert_allclose(
        scaled(np.array([[[0, 51, 255]]], np.uint8), TARGETS["normal"]), [[[0, 0.2, 1]]], rtol=1e-6
    )


def test_blur_equals_torchvision() -> None:
    from torchvision.transforms.functional import gaussian_blur

    stored = np.random.default_rng(0).integers(0, 65536, (20, 30, 1)).astype(np.uint16)
    theirs = gaussian_blur(
        torch.from_numpy(stored.astype(np.float32) / 65535).movedim(-1, 0), [3, 3], [1.0, 1.0]
    )
    np.testing.assert_allclose(
        scaled(stored, TARGETS["edge_occlusion"]), theirs.movedim(0, -1).numpy(), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(384, 384), (30, 41)])
def test_masks_shrink_as_max_pooling_does(shape: tuple[int, int]) -> None:
    valid = np.random.default_rng(0).random(shape) > 0.05
    pooled = F.max_pool2d(1 - torch.from_numpy(valid)[None, None].float(), 4)
    expected = F.interpolate(pooled, shape, mode="nearest")[0, 0] == 0
    np.testing.assert_array_equal(eroded(valid, 4), expected.numpy())


def test_lists_are_used_from_their_beginning(folder: Path) -> None:
    write_splits(folder / "splits", "b,1,0\na,7,2\na,8,0", "c,1,0", "d,1,0\nd,2,0")
    taskonomy = opened(folder, "normal", (2, None, 1))
    assert [taskonomy.stem(index) for index in range(len(taskonomy))] == [
        "b-point_1_view_0",
        "a-point_7_view_2",
        "c-point_1_view_0",
        "d-point_1_view_0",
    ]
    with pytest.raises(BadInput, match="3 points, 800 are asked for"):
        opened(folder, "normal", (800, None, None))


NORMAL = "normal/gso/point_21_view_5_domain_normal.png"
MASK = "mask_valid/gso/point_21_view_5_domain_depth_zbuffer.png"
BREAKS = {
    "no domain": (
        lambda f: shutil.rmtree(f / "normal"),
        r"normal: no such folder; download this domain",
    ),
    "no list": (lambda f: (f / "splits/tiny_train.csv").unlink(), r"tiny_train\.csv: no such list"),
    "no header": (
        lambda f: (f / "splits/tiny_val.csv").write_text("gso,21,5\n"),
        r"first line is not building,point,view",
    ),
    "cut list": (
        lambda f: (f / "splits/tiny_test.csv").write_text("building,point,view\ngso,21\n"),
        r"line 2 is not",
    ),
    "missing file": (lambda f: (f / NORMAL).unlink(), r"domain_normal\.png: no such file"),
    "missing mask": (lambda f: (f / MASK).unlink(), r"domain_mask_valid\.png: no such file"),
    "truncated": (
        lambda f: (f / NORMAL).write_bytes((f / NORMAL).read_bytes()[:3000]),
        r"domain_normal\.png: damaged",
    ),
    "wrong domain": (
        lambda f: shutil.copy(
            f / "depth_zbuffer/gso/point_21_view_5_domain_depth_zbuffer.png", f / NORMAL
        ),
        r"1 channels of 16 bits, expected 3 of 8 bits; is it normal\?",
    ),
    "depth as mask": (
        lambda f: shutil.copy(
            f / "depth_zbuffer/gso/point_21_view_5_domain_depth_zbuffer.png", f / MASK
        ),
        r"not a mask of 0 and 255",
    ),
    "other size": (
        lambda f: cv2.imwrite(str(f / NORMAL), np.zeros((256, 256, 3), np.uint8)),
        r"256 x 256 but its image is 512 x 512",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_broken_copies_are_one_clear_line(folder: Path, case: str) -> None:
    breaks: Callable[[Path], object]
    breaks, message = BREAKS[case]
    breaks(folder)
    with pytest.raises(BadInput, match=message) as error:
        opened(folder, "normal").read(0)
    assert "\n" not in str(error.value)
