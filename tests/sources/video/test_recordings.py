"""Videos in the forms that phones, recorders and broadcasters write: frames and times are those of
the recording."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from mimic import sources
from mimic.params import Params, load_params
from mimic.sources import videos
from mimic.sources.base import Description, Unreadable
from mimic.sources.video import sampling
from tests.support import footage

IMAGES = [image[:64, :64].copy() for image in footage.pan(0, 60, 4)]  # 10 a second
MPEG_CLOCK = Fraction(1, 90_000)
SPHERE = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")  # of Spherical Video V1, which is XML


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _written(
    path: Path,
    codec: str = "mpeg4",
    *,
    form: dict[str, str] | None = None,
    change: Callable[[av.Packet], None] = lambda packet: None,
    prepare: Callable[[av.container.OutputContainer], Any] = lambda container: None,
    images: list[np.ndarray] = IMAGES,
    options: dict[str, str] | None = None,
) -> Path:
    """
    Args:
        form: options of the container.
        change: is handed each packet before it is written.
        prepare: is handed the container when it has its stream.
    """
    with av.open(str(path), "w", options=form or {}) as container:
        rate = 25 if codec == "mpeg2video" else 10
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        prepare(container)
        for image in [*images, None]:
            frame = None if image is None else av.VideoFrame.from_ndarray(image, format="rgb24")
            for packet in stream.encode(frame):
                change(packet)
                container.mux(packet)
    return path


def _times(path: Path, spacing_s: float = 1.0) -> list[float]:
    return [round(time_s, 3) for time_s, _ in videos.sample(path, spacing_s)]


def _described(params: Params, path: Path) -> Description:
    section = footage.videos_section(params, path.parent)
    source = sources.open_source("phone", section, Path(), 224)
    assert path.name in source.clips()
    return source.describe(path.name)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_frames_at_varying_times_come_at_theirs(tmp_path: Path, name: str) -> None:
    """As of a phone in the dark, which exposes for longer."""
    shown_ms = [int(number) for number in np.cumsum([0, *[20, 180] * 30])[:60]]
    waiting = iter(shown_ms)

    def change(packet: av.Packet) -> None:
        packet.pts = packet.dts = next(waiting)
        packet.duration = 20
        packet.time_base = Fraction(1, 1000)

    path = _written(tmp_path / name, change=change)
    assert _times(path, 0.01) == [number / 1000 for number in shown_ms]
    assert _times(path, 0.5) == [0.5 * number + 0.1 * (number % 2) for number in range(12)]


def test_an_mp4_in_fragments_is_read_to_its_end(tmp_path: Path, params: Params) -> None:
    """As recorders write it, so that a crash loses little."""
    path = _written(tmp_path / "a.mp4", form={"movflags": "frag_keyframe+empty_moov"})
    content = path.read_bytes()
    assert content.count(b"moof") > 3
    assert _times(path) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(_times(path, 0.1)) == 60
    assert _described(params, path)["error"] is None
    path.write_bytes(content[: content.rindex(b"mdat") + 20])
    kept: list[float] = []
    with pytest.raises(Unreadable, match="ends after 4.9 s of the 6.0 s that the file announces"):
        kept.extend(round(time_s, 3) for time_s, _ in videos.sample(path, 1.0))
    assert kept == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_clock_that_wraps_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a transport stream has 33 bits: it begins anew after 26.5 hours on the air."""
    begin = 2**33 - 2 * 90_000

    def change(packet: av.Packet) -> None:
        assert packet.time_base is not None
        packet.pts = packet.dts = begin + round((packet.pts or 0) * packet.time_base / MPEG_CLOCK)
        packet.time_base = MPEG_CLOCK

    path = _written(tmp_path / "a.ts", form={"mpegts_copyts": "1"}, change=change)
    with av.open(str(path), options={"correct_ts_overflow": "0"}) as container:
        stated = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert stated[0] == begin
    assert min(stated) == 0, "the clock of the file does not wrap"
    assert _times(path) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    monkeypatch.setattr(sampling, "SOUGHT_FROM_S", 1.0)
    assert [round(time_s, 3) for time_s, _ in videos.sample(path, 1.0, 3.0)] == [3.0, 4.0, 5.0]


def test_a_transport_stream_that_was_cut_is_named(tmp_path: Path) -> None:
    path = footage.video(tmp_path / "a.ts", footage.pan(0, 60, 8), fps=10)
    frames = {round(time_s, 3): image for time_s, image in videos.sample(path, 0.1)}
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    kept: dict[float, np.ndarray] = {}
    with pytest.raises(Unreadable, match="1 damaged packets or frames"):
        kept.update((round(time_s, 3), image) for time_s, image in videos.sample(path, 0.1))
    assert 30 <= len(kept) < 40
    assert all((image == frames[time_s]).all() for time_s, image in kept.items())


@pytest.mark.parametrize("is_picture", [False, True])
def test_an_attachment_is_not_the_video(tmp_path: Path, params: Params, is_picture: bool) -> None:
    """A font of subtitles, a cover."""
    kind = ("cover.jpg", "image/jpeg") if is_picture else ("a.ttf", "application/x-truetype-font")
    cover = footage.folder(tmp_path / "covers", footage.pan(1, 1, 8), "{}.jpg") / "0.jpg"
    path = _written(
        tmp_path / "a.mkv",
        prepare=lambda container: container.add_attachment(*kind, cover.read_bytes()),
    )
    times = []
    for time_s, image in videos.sample(path, 1.0):
        times.append(round(time_s, 3))
        assert image.shape == (64, 64, 3)
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    note = "track 0 (64 x 64) is mined, not the picture in track 1" if is_picture else None
    description = _described(params, path)
    assert (description["error"], description.get("note")) == (None, note)


def test_an_empty_file_is_named(tmp_path: Path, params: Params) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    assert _described(params, tmp_path / "a.mp4")["error"] == (
        "Invalid data found when processing input"
    )


def test_pictures_of_two_sizes_in_one_stream_are_all_read(tmp_path: Path) -> None:
    """As of a channel between two programmes."""
    small = [image[:32, :32].copy() for image in IMAGES]
    parts = [
        _written(tmp_path / f"{images[0].shape[0]}.ts", "libx264", images=images)
        for images in (IMAGES, small)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    sides = [image.shape[0] for _, image in videos.sample(path, 1.0)]
    assert sides == [64] * 6 + [32] * 6


@pytest.mark.parametrize("is_interlaced", [False, True])
def test_interlaced_frames_are_told(tmp_path: Path, params: Params, is_interlaced: bool) -> None:
    options = {"flags": "+ildct+ilme"} if is_interlaced else {}
    path = _written(tmp_path / "a.mpg", "mpeg2video", options=options)
    said = "its frames are interlaced (two moments a frame), mined as they are; deinterlace it"
    assert _described(params, path).get("note") == (said if is_interlaced else None)


@pytest.mark.parametrize("projection", ["equirectangular", "flat"])
def test_a_sphere_is_told(tmp_path: Path, params: Params, projection: str) -> None:
    path = _written(tmp_path / "a.mp4")
    words = {"Spherical": "true", "Stitched": "true", "StitchingSoftware": "x"}
    words["ProjectionType"] = projection
    xml = "".join(f"<GSpherical:{key}>{word}</GSpherical:{key}>" for key, word in words.items())
    path.write_bytes(_with_box(path.read_bytes(), SPHERE + xml.encode()))
    said = "a sphere (360 degrees), mined as a flat picture; project it first"
    assert _described(params, path).get("note") == (said if projection != "flat" else None)


def _with_box(content: bytes, payload: bytes) -> bytes:
    """An MP4 with a `uuid` box at the end of its track, which lies behind the pictures."""
    box = struct.pack(">I4s", 8 + len(payload), b"uuid") + payload
    data = bytearray(content)
    moov = data.rindex(b"moov") - 4
    trak = data.index(b"trak", moov) - 4
    end = trak + int.from_bytes(data[trak : trak + 4], "big")
    for at in (moov, trak):
        length = int.from_bytes(data[at : at + 4], "big") + len(box)
        data[at : at + 4] = length.to_bytes(4, "big")
    data[end:end] = box
    return bytes(data)


COLOURS = [(200, 40, 40), (40, 180, 60), (50, 60, 210), (220, 210, 60)]


@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709])
@pytest.mark.parametrize("levels", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("ffv1", "a.mkv")])
def test_colours_come_out_as_they_went_in(
    tmp_path: Path, codec: str, name: str, matrix: Colorspace, levels: ColorRange
) -> None:
    """With the other matrix they are off by 8 to 23, with the other range by 12 to 15."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = levels
        for colour in COLOURS:
            picture = np.full((64, 64, 3), colour, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix, dst_color_range=levels
            )
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    images = [image for _, image in videos.sample(tmp_path / name, 1.0)]
    for image, colour in zip(images, COLOURS, strict=True):
        assert np.abs(image.astype(int) - colour).max() <= 4
