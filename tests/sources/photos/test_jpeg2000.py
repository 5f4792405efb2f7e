"""JPEG 2000 of more than 8 bits: its colours are those that were written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image as pillow

from mimic.sources.base import Unreadable
from mimic.sources.photos import pictures

BOX = b"\0\0\0\x0cjP  \r\n\x87\n"  # the first of a JP2
SRGB, SYCC = 16, 18  # in the box `colr`
WIDTH, HEIGHT = 96, 64


def _levels(bits: int, channels: int) -> np.ndarray:
    """Noise, below eight rows of white and eight of black."""
    top = (1 << bits) - 1
    levels = np.random.default_rng(0).integers(0, top + 1, (HEIGHT, WIDTH, channels))
    levels[:8] = top
    levels[8:16] = 0
    if channels == 4:
        levels[..., 3] = top
        levels[:, :8, 3] = 0
    return levels


def _written(path: Path, levels: np.ndarray, bits: int, colours: int = SRGB) -> Path:
    """Without loss. FFmpeg writes 16 bits, and says so in two places; what it writes are the
    distances from the middle, which are those of another number of bits, too."""
    channels = levels.shape[2]
    form = "rgb48le" if channels == 3 else "rgba64le"
    encoder: Any = av.CodecContext.create("jpeg2000", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, form
    encoder.time_base = Fraction(1)
    encoder.options = {"pred": "dwt53"}
    shifted = (levels + (1 << 15) - (1 << bits - 1)).astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(shifted, format=form)
    data = bytearray(
        b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode()))
    )
    assert data.startswith(BOX)
    data[data.index(b"ihdr") + 14] = bits - 1
    data[data.index(b"colr") + 7 : data.index(b"colr") + 11] = colours.to_bytes(4, "big")
    size = data.index(b"\xff\x4f\xff\x51") + 42
    data[size : size + 3 * channels : 3] = bytes([bits - 1] * channels)
    path.write_bytes(data)
    return path


def _expected(levels: np.ndarray, bits: int) -> np.ndarray:
    shown = levels[..., :3] / ((1 << bits) - 1) * 255
    if levels.shape[2] == 4:
        shown[levels[..., 3] == 0] = 255
    return shown


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("name", ["a.jp2", "a.j2k"])
def test_deep_colours_are_those_of_the_file(
    tmp_path: Path, bits: int, channels: int, name: str
) -> None:
    levels = _levels(bits, channels)
    path = _written(tmp_path / name, levels, bits)
    if name == "a.j2k":  # the codestream alone
        data = path.read_bytes()
        path.write_bytes(data[data.index(b"\xff\x4f\xff\x51") :])
    image = pictures.read(path)
    assert (image[:8] == 255).all()
    assert np.abs(image - _expected(levels, bits)).max() < 2


def test_deep_luma_and_chroma_have_the_range_of_jpeg(tmp_path: Path) -> None:
    levels = np.full((HEIGHT, WIDTH, 3), 32768)
    levels[..., 0] = np.linspace(0, 65535, WIDTH)
    levels[:32, :, 1] = 40000
    image = pictures.read(_written(tmp_path / "a.jp2", levels, 16, SYCC))
    luma = cv2.cvtColor((levels[..., [0, 2, 1]] / 257).astype(np.uint8), cv2.COLOR_YCrCb2RGB)
    assert np.abs(image.astype(int) - luma).max() <= 4


def test_a_deep_picture_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.jp2", _levels(16, 3), 16)
    data = path.read_bytes()
    for content in (data[: len(data) // 2], data[:-2000] + bytes(2000)):
        path.write_bytes(content)
        with pytest.raises(Unreadable):
            pictures.read(path)


def test_a_giant_deep_picture_is_read_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the resolution at which one of 8 bits is."""
    monkeypatch.setattr(pictures, "PIXELS_MAX", WIDTH * HEIGHT - 1)
    levels = np.full((HEIGHT, WIDTH, 3), 65535)
    levels[:, :48] = 1000
    image = pictures.read(_written(tmp_path / "a.jp2", levels, 16))
    eight = pillow.fromarray((levels >> 8).astype(np.uint8))
    eight.save(tmp_path / "b.jp2")
    assert image.shape == (HEIGHT // 8, WIDTH // 8, 3)
    assert np.abs(image.astype(int) - pictures.read(tmp_path / "b.jp2")).max() < 40
