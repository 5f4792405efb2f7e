"""Pixels that are not square: frames have the shape in which a player shows them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mimic.commands.workspace import data
from mimic.params import packaged
from mimic.sources import videos
from mimic.sources.base import Image
from mimic.sources.video import aspect
from tests.support import footage

SHOWN = cv2.GaussianBlur(footage.plane(0)[:128, :192], (0, 0), 3)
HDV = Fraction(4, 3)
FRAMES = 20  # 10 a second


def _stored(
    path: Path,
    codec: str,
    stated: Fraction,
    pixels: Fraction,
    turn_deg: float = 0.0,
    of_codec: Fraction | None = None,
) -> Path:
    """`SHOWN` in pixels of a shape, and what is said of them.

    Args:
        of_codec: where the codec says something else than the container.
    """
    width = round(SHOWN.shape[1] / max(pixels, Fraction(1)))
    height = round(SHOWN.shape[0] * min(pixels, Fraction(1)))
    small = np.empty((height, width, 3), np.uint8)
    cv2.resize(SHOWN, (width, height), small, interpolation=cv2.INTER_AREA)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        encoder = stream.codec_context
        contexts = [encoder]
        if of_codec is not None:
            encoder = av.CodecContext.create(codec, "w")  # type: ignore[assignment]
            encoder.time_base = Fraction(1, 10)
            contexts.append(encoder)
        for context, shape in zip(contexts, (stated, of_codec), strict=False):
            context.width, context.height = width, height
            context.pix_fmt = "yuv420p"
            context.sample_aspect_ratio = shape
        stream.set_display_rotation(turn_deg)
        container.start_encoding()
        for number in range(FRAMES + 1):
            frame = av.VideoFrame.from_ndarray(small, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            for packet in encoder.encode(frame if number < FRAMES else None):
                packet.stream = stream
                container.mux(packet)
    return path


def _images(path: Path) -> list[Image]:
    return [image for _, image in videos.sample(path, 1.0)]


def _is_shown(image: Image, quarters: int = 0) -> bool:
    wanted = np.rot90(SHOWN, quarters)
    return image.shape == wanted.shape and np.abs(image.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.ts", "libx264"),  # as of HDV and AVCHD: the codec says it
        ("a.mp4", "mpeg4"),  # both
        ("b.mp4", "libvpx-vp9"),  # the container alone
    ],
)
@pytest.mark.parametrize("pixels", [HDV, 1 / HDV])
def test_the_shorter_way_is_stretched(
    tmp_path: Path, name: str, codec: str, pixels: Fraction
) -> None:
    path = _stored(tmp_path / name, codec, pixels, pixels)
    images = _images(path)
    assert len(images) == 2
    assert all(map(_is_shown, images))
    said = f"{pixels.numerator}:{pixels.denominator}, not square: stretched to 192 x 128"
    assert videos.describe(path, 0.0).get("note") == f"its pixels are {said}"


def test_the_container_is_believed_before_the_codec(tmp_path: Path) -> None:
    path = _stored(tmp_path / "a.mp4", "mpeg4", HDV, HDV, of_codec=Fraction(2))
    assert all(map(_is_shown, _images(path)))


def test_a_channel_that_changes_the_shape_is_followed(tmp_path: Path) -> None:
    parts = [
        _stored(tmp_path / f"{number}.ts", "libx264", pixels, pixels)
        for number, pixels in enumerate((HDV, Fraction(1), 1 / HDV))
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    images = _images(path)
    assert len(images) == 6
    assert all(map(_is_shown, images))


def test_frames_are_stretched_before_they_are_turned(tmp_path: Path) -> None:
    path = _stored(tmp_path / "a.mp4", "mpeg4", HDV, HDV, turn_deg=90)
    assert all(_is_shown(image, quarters=1) for image in _images(path))


@pytest.mark.parametrize("stated", [Fraction(0), Fraction(1), Fraction(200, 199)])
def test_nearly_square_pixels_are_taken_as_they_are(tmp_path: Path, stated: Fraction) -> None:
    path = _stored(tmp_path / "a.mkv", "libx264", stated, Fraction(1))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (_images(path)[0] == frame.to_ndarray(format="rgb24")).all()
    assert videos.describe(path, 0.0).get("note") is None


@pytest.mark.parametrize("stated", [Fraction(5), Fraction(1, 5)])
def test_an_impossible_shape_is_a_mistake(tmp_path: Path, stated: Fraction) -> None:
    path = _stored(tmp_path / "a.mp4", "mpeg4", stated, Fraction(1))
    assert all(map(_is_shown, _images(path)))
    said = f"{stated.numerator}:{stated.denominator}, which is taken for a mistake: mined as stored"
    assert videos.describe(path, 0.0).get("note") == f"its pixels are {said}"


def test_four_times_as_wide_is_possible() -> None:
    sizes = [aspect.shown_size(128, 192, Fraction(*shape)) for shape in ((4, 1), (1, 4), (64, 45))]
    assert sizes == [(128, 768), (512, 192), (128, 273)]


def test_a_new_project_is_told_the_size_that_is_mined(tmp_path: Path) -> None:
    pixels = Fraction(1, 2)
    (tmp_path / "videos").mkdir()
    _stored(tmp_path / "videos/a.mp4", "mpeg4", pixels, pixels)
    asked = data.Asked(tmp_path / "videos", None, None, None, None, None, None, "unknown")
    (media,) = data.look(packaged(), asked, tmp_path / "project")
    assert media.sides_px == [128]
