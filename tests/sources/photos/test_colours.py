"""Photographs with colour profiles: the values that a standard screen shows."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow
from PIL import ImageCms

from mimic.sources.photos import pictures

D65 = (0.3127, 0.3290)
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
GAMMA = 2.2
# Bradford, from D65 to the D50 of the profile connection space (ICC.1:2022, annex E).
D50_FROM_D65 = np.array(
    [
        [1.0478112, 0.0228866, -0.0501270],
        [0.0295424, 0.9904844, -0.0170491],
        [-0.0092345, 0.0150436, 0.7521316],
    ]
)


def _xyz(place: tuple[float, float]) -> np.ndarray:
    x, y = place
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _xyz_from_rgb(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    columns = np.stack([_xyz(one) for one in primaries], axis=1)
    return columns * np.linalg.solve(columns, _xyz(D65))


def _profile(primaries: tuple[tuple[float, float], ...], gamma: float = GAMMA) -> bytes:
    """A display profile of three primaries and one power (ICC.1:2001, section 6.3.1.2)."""

    def fixed(values: np.ndarray) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def point(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(values)

    to_d50 = D50_FROM_D65 @ _xyz_from_rgb(primaries)
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    name = b"test\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    described += bytes(-len(described) % 4)
    tags = {
        b"desc": described,
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": point(np.array([0.9642, 1.0, 0.8249])),
        **{name: point(to_d50[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    start = 128 + 4 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    body = b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(np.array([0.9642, 1.0, 0.8249]))
    return head.ljust(128, b"\0") + table + body


def _srgb_of(colour: np.ndarray, primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The same light in sRGB (IEC 61966-2-1), by its equations."""
    light = np.linalg.solve(
        _xyz_from_rgb(SRGB), _xyz_from_rgb(primaries) @ (colour / 255) ** GAMMA
    ).clip(0, 1)
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return 255 * signal


COLOURS = np.array([[180, 90, 60], [90, 140, 80], [60, 90, 160], [200, 200, 200]], np.uint8)


EXACT: dict[str, dict[str, Any]] = {
    ".png": {},
    ".tiff": {},
    ".webp": {"lossless": True},
    ".jpg": {"quality": 100, "subsampling": 0},
}
FILES = [(ending, False) for ending in EXACT] + [(".png", True), (".tiff", True), (".webp", True)]


@pytest.mark.parametrize(("ending", "transparent"), FILES)
def test_a_wide_gamut_becomes_srgb(tmp_path: Path, ending: str, transparent: bool) -> None:
    image = pillow.fromarray(np.repeat(COLOURS[:, None], 16, axis=1).repeat(16, axis=0))
    if transparent:
        alpha = np.full(image.size[::-1], 255, np.uint8)
        alpha[:, :4] = 0
        image.putalpha(pillow.fromarray(alpha))
    path = tmp_path / f"photo{ending}"
    image.save(path, icc_profile=_profile(DISPLAY_P3), **EXACT[ending])
    shown = pictures.read(path)
    expected = np.stack([_srgb_of(colour, DISPLAY_P3) for colour in COLOURS])
    assert np.abs(expected - COLOURS).max() > 15  # it matters
    assert np.abs(shown[8::16, 8] - expected).max() < 3.5
    if transparent:
        assert (shown[:, :4] == 255).all()


@pytest.mark.parametrize("profile", ["srgb", "of another program", "damaged", "none"])
def test_what_is_srgb_already_keeps_every_bit(tmp_path: Path, profile: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    bytes_of = {
        "srgb": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "of another program": _srgb_with_its_curve(),
        "damaged": _profile(DISPLAY_P3)[:200],
        "none": None,
    }[profile]
    pillow.fromarray(noise).save(tmp_path / "a.png", icc_profile=bytes_of)
    assert (pictures.read(tmp_path / "a.png") == noise).all()


def _srgb_with_its_curve() -> bytes:
    """The profile of sRGB with other bytes: the same numbers under another name."""
    known = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return known[:80] + b"none" + known[84:]
