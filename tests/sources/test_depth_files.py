"""Depth images read as the numbers that stand in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mimic.sources.base import Unreadable
from mimic.sources.depth_files import in_metres, read_values
from tests.support import own_labels
from tests.support.own_labels import packed_png


@pytest.mark.parametrize("ending", [".png", ".PNG", ".pgm", ".tif", ".npy", ".npz", ".exr"])
def test_every_format_gives_the_same_metres(tmp_path: Path, ending: str) -> None:
    truth = own_labels.depth_m()
    path = tmp_path / f"Tiefe ü{ending}"
    own_labels.write_depth(path, truth)
    per_m = 1000.0 if ending.lower() in (".png", ".pgm") else 1.0
    np.testing.assert_allclose(in_metres(read_values(path), per_m), truth, rtol=1e-6)


@pytest.mark.parametrize("writer", ["pillow", "opencv"])
def test_no_bit_of_sixteen_is_lost(tmp_path: Path, writer: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / "a.png"
    if writer == "pillow":
        Image.fromarray(values).save(path)
    else:
        cv2.imwrite(str(path), values)
    found = read_values(path)
    assert found.dtype == np.uint16
    assert (found == values).all()


@pytest.mark.parametrize("largest", [1, 100, 255, 256, 4095, 10000, 65535])
@pytest.mark.parametrize("kind", ["P5", "P2"])
def test_a_grey_map_gives_the_numbers_that_stand_in_it(
    tmp_path: Path, kind: str, largest: int
) -> None:
    """Whatever its header names as the greatest, to which Pillow scales."""
    values = np.random.default_rng(0).integers(0, largest + 1, (6, 9))
    values[0, 0] = largest
    pixels = values.astype(">u2" if largest > 255 else "u1").tobytes()
    if kind == "P2":
        pixels = " ".join(map(str, values.ravel())).encode()
    path = tmp_path / "a.pgm"
    path.write_bytes(f"{kind} # x 12 7\n9\t6\n# 9 9\n{largest}\n".encode() + pixels)
    found = read_values(path)
    assert found.dtype == (np.uint8 if largest < 256 else np.uint16)
    assert (found == values).all()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("channels", ["Y", "R", "Z", "V", "BGR"])
def test_exr_of_any_single_channel(tmp_path: Path, channels: str, half: bool) -> None:
    values = own_labels.depth_m().astype(np.float16 if half else np.float32)
    (tmp_path / "a.exr").write_bytes(own_labels.exr(values, channels, half))
    assert (read_values(tmp_path / "a.exr") == values).all()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("compression", [own_labels.EXR_RLE, own_labels.EXR_ZIPS])
def test_compressed_exr(tmp_path: Path, compression: int, half: bool) -> None:
    values = own_labels.depth_m(width=256).astype(np.float16 if half else np.float32)
    values[3:9] = 0  # lines that runs shorten
    content = own_labels.exr(values, "Z", half, compression)
    assert len(content) < len(own_labels.exr(values, "Z", half))
    (tmp_path / "a.exr").write_bytes(content)
    assert (read_values(tmp_path / "a.exr") == values).all()


@pytest.mark.parametrize(
    ("compression", "why"),
    [
        (6, r"a lossy OpenEXR \(B44\) holds no exact depth; save it as ZIP"),
        (8, r"a lossy OpenEXR \(DWAA\) holds no exact depth; save it as ZIP"),
        (10, "compressed by method 10 of OpenEXR, which is not read; save as ZIP"),
    ],
)
def test_exr_that_is_not_read_is_refused_by_name(
    tmp_path: Path, compression: int, why: str
) -> None:
    content = own_labels.exr(own_labels.depth_m(), "Z", compression=compression)
    (tmp_path / "a.exr").write_bytes(content)
    with pytest.raises(Unreadable, match=why):
        read_values(tmp_path / "a.exr")


def test_what_is_no_distance_is_unknown() -> None:
    floats = np.array([[np.nan, np.inf, -1.0, 0.0, 2.0]], np.float32)
    assert in_metres(floats, 1.0).tolist() == [[0, 0, 0, 0, 2]]
    whole = np.array([[0, 65535, 2000]], np.uint16)
    assert in_metres(whole, 1000.0).tolist() == [[0, 0, 2]]


def test_minus_one_for_unknown_keeps_whole_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[-1, 1500], [1, 2]], np.int16))
    found = read_values(tmp_path / "a.npy")
    assert found.dtype == np.uint16
    assert found.tolist() == [[0, 1500], [1, 2]]


def test_colours_palettes_and_lossy_pictures_are_no_depth(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    path = tmp_path / "a.png"
    for mode, why in (("RGB", "channels RGB"), ("LA", "channels LA"), ("P", "a palette")):
        grey.convert(mode).save(path)
        with pytest.raises(Unreadable, match=why):
            read_values(path)
    grey.save(path, format="JPEG")
    with pytest.raises(Unreadable, match="lossy JPEG"):
        read_values(path)


def test_damage_is_named(tmp_path: Path) -> None:
    for name in ("a.png", "a.npy", "a.npz", "a.exr"):
        path = tmp_path / name
        own_labels.write_depth(path, own_labels.depth_m())
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(Unreadable):
            read_values(path)
    np.savez(tmp_path / "b.npz", one=np.ones((2, 2)), two=np.ones((2, 2)))
    with pytest.raises(Unreadable, match="arrays one, two, of which none is called depth"):
        read_values(tmp_path / "b.npz")


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_gives_the_numbers_that_stand_in_it(tmp_path: Path, bits: int) -> None:
    """Pillow spreads them over 8 bits."""
    values = np.arange(2**bits, dtype=np.uint8).reshape(-1, 4).repeat(2, axis=1)
    packed_png(tmp_path / "a.png", values, bits)
    np.testing.assert_array_equal(read_values(tmp_path / "a.png"), values)
