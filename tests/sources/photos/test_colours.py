"""Photographs with colour profiles: the values that a standard screen shows."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow
from PIL import ImageCms

from mimic.sources.photos import pictures
from mimic.sources.video import animations
from tests.support import heif

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

    def point(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + _fixed(values)

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
    return _packed_profile(b"mntr", b"RGB ", b"XYZ ", tags)


def _fixed(values: np.ndarray) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _packed_profile(
    kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]
) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    body = b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(body), 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(np.array([0.9642, 1.0, 0.8249]))
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


def _grey_profile(gamma: float) -> bytes:
    """A profile of grey of one power."""
    name = b"test\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    return _packed_profile(
        b"mntr",
        b"GRAY",
        b"XYZ ",
        {
            b"desc": described,
            b"cprt": b"text\0\0\0\0none\0\0\0\0",
            b"wtpt": b"XYZ \0\0\0\0" + _fixed(np.array([0.9642, 1.0, 0.8249])),
            b"kTRC": b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256)),
        },
    )


def _ink_profile() -> bytes:
    """Of CMYK, by a table (ICC.1:2022, 10.11) of which every corner is a neutral grey of its own:
    the fewer inks, the lighter."""
    inks = np.array([[i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(16)])
    lightness = 100 - 20 * inks[:, :3].sum(axis=1) - 30 * inks[:, 3]
    table = np.stack([lightness * 2.55, np.full(16, 128), np.full(16, 128)], axis=1)
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(np.eye(3).ravel())
    lut += 4 * straight + np.rint(table).astype(np.uint8).tobytes() + 3 * straight
    name = b"test\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    return _packed_profile(
        b"prtr",
        b"CMYK",
        b"Lab ",
        {
            b"desc": described,
            b"cprt": b"text\0\0\0\0none\0\0\0\0",
            b"wtpt": b"XYZ \0\0\0\0" + _fixed(np.array([0.9642, 1.0, 0.8249])),
            b"A2B0": lut,
        },
    )


def _srgb_of_light(light: np.ndarray) -> np.ndarray:
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


GREYS = np.array([20, 90, 150, 230], np.uint8)


@pytest.mark.parametrize("gamma", [1.0, 1.8])
@pytest.mark.parametrize("form", ["grey", "transparent", "16 bits", "jpg"])
def test_grey_of_another_gamma_becomes_srgb(tmp_path: Path, gamma: float, form: str) -> None:
    stripes = GREYS[:, None].repeat(16, axis=1).repeat(16, axis=0)
    path = tmp_path / ("a.jpg" if form == "jpg" else "a.png")
    if form == "16 bits":
        image = pillow.fromarray(stripes.astype(np.uint16) * 257)
    else:
        image = pillow.fromarray(stripes)
    if form == "transparent":
        alpha = np.full(stripes.shape, 255, np.uint8)
        alpha[:, :4] = 0
        image.putalpha(pillow.fromarray(alpha))
    image.save(path, icc_profile=_grey_profile(gamma), quality=100)
    shown = pictures.read(path)
    expected = _srgb_of_light((GREYS / 255) ** gamma)
    assert np.abs(expected - GREYS).max() > 10
    assert np.abs(shown[8::16, 8] - expected[:, None]).max() < 2.5
    if form == "transparent":
        assert (shown[:, :4] == 255).all()


def test_inks_are_read_by_their_profile(tmp_path: Path) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, 8:] = (255, 255, 0, 255)
    pillow.fromarray(inks, "CMYK").save(tmp_path / "a.tif", icc_profile=_ink_profile())
    shown = pictures.read(tmp_path / "a.tif")
    lightness = np.array([100.0, 30.0])
    light = ((lightness + 16) / 116) ** 3
    expected = _srgb_of_light(light)
    assert np.abs(shown[8, ::8] - expected[:, None]).max() < 3


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_is_of_its_profile(tmp_path: Path, transparent: bool) -> None:
    image = pillow.fromarray(np.repeat(COLOURS[:, None], 16, axis=1).repeat(16, axis=0))
    palette = image.quantize(len(COLOURS))
    hidden: dict[str, Any] = {"transparency": palette.getpixel((8, 56))} if transparent else {}
    palette.save(tmp_path / "a.png", icc_profile=_profile(DISPLAY_P3), **hidden)
    shown = pictures.read(tmp_path / "a.png")
    expected = np.stack([_srgb_of(colour, DISPLAY_P3) for colour in COLOURS])
    if transparent:
        expected[3] = 255
    assert np.abs(shown[8::16, 8] - expected).max() < 3.5


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_frames_of_an_animation_are_of_its_profile(tmp_path: Path, name: str) -> None:
    image = pillow.fromarray(np.repeat(COLOURS[:, None], 16, axis=1).repeat(16, axis=0))
    later = image.transpose(pillow.Transpose.FLIP_TOP_BOTTOM)
    image.save(
        tmp_path / name,
        save_all=True,
        append_images=[later],
        duration=1000,
        icc_profile=_profile(DISPLAY_P3),
        lossless=True,
    )
    frames = [frame.image for frame in animations.sampled(tmp_path / name, 1.0)]
    expected = np.stack([_srgb_of(colour, DISPLAY_P3) for colour in COLOURS])
    assert len(frames) == 2
    assert np.abs(frames[0][8::16, 8] - expected).max() < 3.5
    assert np.abs(frames[1][8::16, 8] - expected[::-1]).max() < 3.5


def test_planes_of_16_bits_are_of_their_profile(tmp_path: Path) -> None:
    """A TIFF that FFmpeg decodes, which hands the profile on."""
    stripes = np.repeat(COLOURS[:, None], 16, axis=1).repeat(16, axis=0)
    profile = _profile(DISPLAY_P3)
    planes = [plane.tobytes() for plane in np.moveaxis(stripes.astype("<u2") * 257, -1, 0)]
    body = b"".join(planes)
    bits = 8 + len(body)
    starts = bits + 8
    counts = starts + 12
    icc = counts + 12
    directory = icc + len(profile) + len(profile) % 2
    height, width = stripes.shape[:2]
    size = len(planes[0])
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 3, starts),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 3, counts),
        (284, 3, 1, 2),
        (34675, 7, len(profile), icc),
    ]
    content = b"II*\0" + struct.pack("<I", directory) + body + struct.pack("<HHHxx", 16, 16, 16)
    content += struct.pack("<III", 8, 8 + size, 8 + 2 * size) + struct.pack("<III", *3 * [size])
    content += profile.ljust(directory - icc, b"\0") + struct.pack("<H", len(entries))
    content += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    (tmp_path / "a.tif").write_bytes(content)
    expected = np.stack([_srgb_of(colour, DISPLAY_P3) for colour in COLOURS])
    assert np.abs(pictures.read(tmp_path / "a.tif")[8::16, 8] - expected).max() < 3.5


@pytest.mark.parametrize("kind", [b"prof", b"rICC"])
def test_a_heic_is_of_its_profile(tmp_path: Path, kind: bytes) -> None:
    """As phones write it."""
    stripes = np.repeat(COLOURS[:, None], 64, axis=1).repeat(32, axis=0)
    item = heif.coded(1, stripes, tmp_path / "scratch.mp4")
    heif.written(tmp_path / "plain.heic", [item], 1, (), 0)
    colr = heif.box(b"colr", kind, _profile(DISPLAY_P3))
    item = dataclasses.replace(item, properties=(*item.properties, colr))
    heif.written(tmp_path / "a.heic", [item], 1, (), 0)
    plain = pictures.read(tmp_path / "plain.heic")[16::32, 32]
    expected = np.stack([_srgb_of(colour, DISPLAY_P3) for colour in plain])
    assert np.abs(pictures.read(tmp_path / "a.heic")[16::32, 32] - expected).max() < 3.5
