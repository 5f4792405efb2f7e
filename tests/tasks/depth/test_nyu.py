"""The NYU Depth v2 reader: the true layout, real files, and one clear line for every broken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from mimic.errors import BadInput
from mimic.tasks.depth.nyu import MAT, SPLITS, Nyu
from mimic.tasks.engine.dense_transforms import frame_size


def test_axes_and_splits(nyu_folder: Path) -> None:
    with Nyu(nyu_folder, None) as nyu:
        assert nyu.train.tolist() == list(range(8))
        assert nyu.test.tolist() == list(range(8, 13))
        frame = nyu.read(3)
    assert frame.image.shape == (48, 64, 3)
    assert frame.depth_m.shape == (48, 64)
    assert (np.diff(frame.depth_m, axis=1) > 0).all()  # depth grows to the right, not downwards
    assert 0.7 < frame.valid.mean() < 0.9


def test_derived_layout(real_data: Path) -> None:
    """The true container, with real frames in it."""
    with Nyu(real_data / "derived_layouts/nyu", None) as nyu:
        frame = nyu.read(int(nyu.train[0]))
    assert frame.image.shape == (480, 640, 3)
    assert 0.5 < np.median(frame.depth_m) < 10
    assert 0.5 < frame.valid.mean() < 1
    reference = cv2.cvtColor(
        cv2.imread(str(real_data / "nyu/rgb/rgb_00000.jpg")), cv2.COLOR_BGR2RGB
    )
    assert np.abs(frame.image.astype(int) - reference).mean() < 3


def test_official_splits_need_the_official_set(real_data: Path, nyu_folder: Path) -> None:
    (nyu_folder / SPLITS).write_bytes((real_data / "nyu/splits.mat").read_bytes())
    with pytest.raises(BadInput, match=r"trainNdxs holds 3\.\.14\d\d, expected 1\.\.13"):
        Nyu(nyu_folder, None)


def _splits(folder: Path, train: list[int], test: list[int]) -> None:
    scipy.io.savemat(
        folder / SPLITS,
        {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(test)[:, None]},
    )


def _rewrite(folder: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(folder / MAT, "r+") as file:
        change(file)


def _scale(factor: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for name in ("depths", "rawDepths"):
            file[name][:] = file[name][:] * factor

    return change


def _integers(file: h5py.File) -> None:
    depths = (file["depths"][:] * 1000).astype(np.uint16)
    del file["depths"]
    file["depths"] = depths


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda f: (f / MAT).unlink(), "no such file"),
        (lambda f: (f / SPLITS).unlink(), "no such file"),
        (lambda f: (f / MAT).write_bytes((f / MAT).read_bytes()[:-5000]), "truncated"),
        (lambda f: (f / MAT).write_bytes(b"MATLAB 5.0 MAT-file" * 50), "not a MATLAB 7.3"),
        (lambda f: (f / SPLITS).write_bytes(b"nonsense"), "not a MATLAB 5 file"),
        (lambda f: _splits(f, [0, 1], [2]), "counted from 1"),
        (lambda f: _splits(f, [1, 2], [2, 3]), "in both"),
        (lambda f: _splits(f, [1, 2], [14]), r"1\.\.13"),
        (lambda f: _rewrite(f, _scale(1000)), "millimetres"),
        (lambda f: _rewrite(f, _scale(6553.6)), "1/6553.6 m"),
        (lambda f: _rewrite(f, _integers), "wrong unit"),
        (lambda f: _rewrite(f, lambda file: file.pop("rawDepths")), "masks"),
        (
            lambda f: _rewrite(
                f, lambda file: file["rawDepths"].write_direct(np.zeros((13, 64, 48), np.float32))
            ),
            "rawDepths are 0 everywhere",
        ),
    ],
)
def test_broken_sets_are_one_clear_line(
    nyu_folder: Path, breaks: Callable[[Path], object], message: str
) -> None:
    breaks(nyu_folder)
    with pytest.raises(BadInput, match=message) as error:
        Nyu(nyu_folder, None)
    assert "\n" not in str(error.value)
    assert str(nyu_folder) in str(error.value)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf, 0.0, -1.0])
@pytest.mark.parametrize("masked", [True, False])
def test_a_hole_is_no_label_whatever_the_mask_says(
    nyu_folder: Path, hole: float, masked: bool
) -> None:
    def change(file: h5py.File) -> None:
        file["depths"][3, :10, :5] = hole  # [image, column, row]
        file["rawDepths"][3] = 2.0

    _rewrite(nyu_folder, change)
    masks = nyu_folder / "masks"
    masks.mkdir()
    for index in range(13):
        cv2.imwrite(str(masks / f"{index:04d}.png"), np.full((48, 64), 255, np.uint8))
    with Nyu(nyu_folder, masks if masked else None) as nyu:
        frame = nyu.read(3)
    assert not frame.valid[:5, :10].any()
    assert frame.valid.sum() == 48 * 64 - 50
    assert np.isfinite(frame.depth_m[frame.valid]).all()


def test_mask_folder(nyu_folder: Path) -> None:
    masks = nyu_folder / "masks"
    masks.mkdir()
    with pytest.raises(BadInput, match=r"0000\.png: no such mask"):
        Nyu(nyu_folder, masks)
    for index in range(13):
        mask = np.zeros((48, 64), np.uint8)
        mask[:, :10] = 255
        cv2.imwrite(str(masks / f"{index:04d}.png"), mask)
    with Nyu(nyu_folder, masks) as nyu:
        assert nyu.read(0).valid.sum() == 480


def test_sizes() -> None:
    assert frame_size(480, 640, 256, 1) == (256, 341)  # as published: truncated
    assert frame_size(480, 640, 48, 8) == (48, 64)
    assert frame_size(640, 480, 64, 8) == (88, 64)
