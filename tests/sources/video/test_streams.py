"""Which pictures of a video file are mined, and at what times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from mimic import sources
from mimic.commands.own import own_options
from mimic.params import Params, load_params
from mimic.sources import videos
from mimic.sources.base import NoCandidates, Unreadable
from mimic.sources.video import sampling
from tests.support import footage

NO_TIMES = "its frames have no times"
RNG = np.random.default_rng(0)
SMALL = [image[:64, :64].copy() for image in footage.pan(0, 60, 4)]


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _sampled(path: Path, spacing_s: float = 1.0) -> tuple[list[float], list[np.ndarray]]:
    found = list(videos.sample(path, spacing_s))
    return [round(time_s, 3) for time_s, _ in found], [image for _, image in found]


def _write(path: Path, codec: str, form: str | None = None, **more: str) -> Path:
    """60 frames of 64 x 64, 10 a second."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=10, options=more)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for image in SMALL:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def _note(params: Params, path: Path) -> str | None:
    source = sources.open_source("phone", footage.videos_section(params, path.parent), Path(), 224)
    assert path.name in source.clips()
    found = source.describe(path.name)
    assert found["error"] is None
    return found.get("note")


def _tracks(path: Path, sides: dict[int, Disposition | None], frames: int = 30) -> Path:
    """Tracks of squares of these sides, which are their brightness as well; 10 frames a second."""
    with av.open(str(path), "w") as container:
        tracks = []
        for side, disposition in sides.items():
            stream = container.add_stream("mpeg4", rate=10)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            if disposition is not None:
                stream.disposition = disposition
            tracks.append(stream)
        for _ in range(frames):
            for stream in tracks:
                image = np.full((stream.height, stream.width, 3), stream.height, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in tracks:
            container.mux(stream.encode())
    return path


def _cover(container: av.container.OutputContainer) -> None:
    """Attach a picture of 32 x 32; the other streams must be there."""
    cover = container.add_stream("mjpeg", rate=1)
    cover.width = cover.height = 32
    cover.pix_fmt = "yuvj420p"
    cover.disposition = Disposition.attached_pic
    picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")
    container.mux([*cover.encode(picture), *cover.encode()])


def _with_cover(path: Path, first: bool) -> Path:
    """An .mp4 with a cover of 32 x 32, before or after the video of 64 x 64."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        _cover(container)
        for image in SMALL:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
    if first:  # boxes may come in any order: `udta`, which holds the cover, before `trak`
        data = path.read_bytes()
        start, udta = data.index(b"trak") - 4, data.rindex(b"udta") - 4
        end = udta + int.from_bytes(data[udta : udta + 4], "big")
        assert end == len(data)
        path.write_bytes(data[:start] + data[udta:end] + data[start:udta])
    return path


@pytest.mark.parametrize("first", [True, False])
def test_a_cover_is_not_the_video(tmp_path: Path, params: Params, first: bool) -> None:
    path = _with_cover(tmp_path / "a.mp4", first)
    with av.open(str(path)) as container:
        cover = [stream.disposition == Disposition.attached_pic for stream in container.streams]
    assert cover == [first, not first]
    times, images = _sampled(path)
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert images[0].shape == (64, 64, 3)
    number = 1 if first else 0
    said = f"track {number} (64 x 64) is mined, not the picture in track {1 - number}"
    assert _note(params, path) == said


def test_a_cover_alone_is_no_video(tmp_path: Path, params: Params) -> None:
    """A song."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        _cover(container)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux([*sound.encode(frame), *sound.encode()])
    source = sources.open_source("phone", footage.videos_section(params, tmp_path), Path(), 224)
    assert source.describe("a.mp4")["error"] == "no video stream but an attached picture"


@pytest.mark.parametrize(
    ("sides", "mined"),
    [
        ({64: None, 128: None}, 128),
        ({128: None, 64: None}, 128),
        ({128: Disposition.captions, 64: Disposition.default}, 64),
    ],
)
def test_of_several_tracks_the_default_then_the_largest_is_mined(
    tmp_path: Path, params: Params, sides: dict[int, Disposition | None], mined: int
) -> None:
    path = _tracks(tmp_path / "a.mkv", sides)
    _, images = _sampled(path)
    assert images[0].shape == (mined, mined, 3)
    assert abs(int(images[0].mean()) - mined) < 4
    at = list(sides).index(mined)
    assert _note(params, path) == f"track {at} ({mined} x {mined}) is mined, not track {1 - at}"


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (
            "left_right",
            "two views side by side in each frame, mined as one picture; cut one out to mine it",
        ),
        (
            "top_bottom",
            "two views one above the other in each frame, mined as one picture; cut one out to "
            "mine it",
        ),
        ("mono", None),
    ],
)
def test_two_views_in_one_frame_are_told(
    tmp_path: Path, params: Params, mode: str, said: str | None
) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.metadata["stereo_mode"] = mode
        for image in SMALL:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert _note(params, path) == said


def test_a_track_of_one_frame_is_not_the_video(tmp_path: Path) -> None:
    """A container without marks for attached pictures."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        picture, video = (container.add_stream("mpeg4", rate=10) for _ in range(2))
        picture.width = picture.height = 256
        video.width = video.height = 64
        picture.pix_fmt = video.pix_fmt = "yuv420p"
        cover = av.VideoFrame.from_ndarray(np.zeros((256, 256, 3), np.uint8), format="rgb24")
        container.mux([*picture.encode(cover), *picture.encode()])
        for image in SMALL:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
    assert len(_sampled(path)[0]) == 6


@pytest.mark.parametrize("name", ["dvr.mp4", "dvr.h264"])
def test_frames_without_times_come_at_the_rate_of_their_codec(
    tmp_path: Path, params: Params, name: str
) -> None:
    path = _write(tmp_path / name, "libx264", "h264")
    times, images = _sampled(path)
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert _note(params, path) == f"{NO_TIMES}: taken as 10 a second, as its codec says"
    assert _note(params, _write(tmp_path / "a.mp4", "libx264")) is None
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == len(SMALL)
    assert all((a == b).all() for a, b in zip(images, shown[::10], strict=True))
    late = [round(time_s, 3) for time_s, _ in videos.sample(path, 1.0, 4.0, 5.0)]
    assert late == [4.0, 5.0]


def test_without_any_rate_25_frames_a_second_are_taken(tmp_path: Path, params: Params) -> None:
    quiet = {"x265-params": "log-level=none:vui-timing-info=0"}
    path = _write(tmp_path / "a.mp4", "libx265", "hevc", **quiet)
    assert _sampled(path)[0] == [0.0, 1.0, 2.0]  # 60 frames
    assert _note(params, path) == f"{NO_TIMES}: taken as 25 a second, for want of any rate in it"


def test_frames_without_times_are_not_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.mp4", "libx264", "h264")
    monkeypatch.setattr(sampling, "SOUGHT_FROM_S", 1.0)
    assert [round(time_s, 3) for time_s, _ in videos.sample(path, 1.0, 3.0)] == [3.0, 4.0, 5.0]


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_recordings_joined_end_to_end_are_one_sequence(tmp_path: Path, name: str) -> None:
    codec = "mpeg2video" if name == "a.mpg" else "mpeg4"
    parts = []
    for seed in range(2):
        part = tmp_path / str(seed) / name
        part.parent.mkdir()
        with av.open(str(part), "w") as container:
            stream = container.add_stream(codec, rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for image in footage.pan(seed, 100, 2):
                small = av.VideoFrame.from_ndarray(image[:64, :64].copy(), format="rgb24")
                container.mux(stream.encode(small))
            container.mux(stream.encode())
        parts.append(part)
    joined = tmp_path / name
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    times, images = _sampled(joined)
    assert times == pytest.approx(list(range(8)), abs=0.05)
    alone = [image for part in parts for image in _sampled(part)[1]]
    assert all((a == b).all() for a, b in zip(images, alone, strict=True))


@pytest.mark.parametrize("slip_ms", [250, 2400])
def test_a_frame_out_of_order_is_no_restart(tmp_path: Path, slip_ms: int) -> None:
    """After a single frame with a time that was, the clock goes on as before."""
    path = _write(tmp_path / "a.mkv", "mpeg4")
    data = path.read_bytes()
    block = b"\x81%b\x00"  # of track 1, no key frame
    late, early = (
        block % milliseconds.to_bytes(2, "big") for milliseconds in (2500, 2500 - slip_ms)
    )
    assert data.count(late) == 1
    path.write_bytes(data.replace(late, early))
    assert _sampled(path)[0] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_empty_packets_are_no_damage(tmp_path: Path) -> None:
    """They say that the frame before is shown for longer."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", format="nut") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(SMALL):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                if number % 10 in (3, 4) or number > 40:
                    empty = av.Packet(b"")
                    empty.stream, empty.time_base = stream, packet.time_base
                    empty.pts = empty.dts = packet.pts
                    container.mux(empty)
                else:
                    container.mux(packet)
    with av.open(str(path)) as container:
        assert sum(packet.size == 0 for packet in container.demux(video=0)) > 10
    assert _sampled(path)[0] == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
def test_an_end_that_never_comes_is_named(tmp_path: Path, name: str) -> None:
    codec = "libvpx" if name == "a.webm" else "mpeg4"
    whole = _write(tmp_path / name, codec).read_bytes()
    assert len(_sampled(tmp_path / name)[0]) == 6
    (tmp_path / name).write_bytes(whole[: len(whole) * 6 // 10])
    times: list[Any] = []
    announced = r"ends after \d\.\d s of the 6\.0 s that the file announces"
    with pytest.raises(Unreadable, match=announced):
        times.extend(time_s for time_s, _ in videos.sample(tmp_path / name, 1.0))
    assert 2 < len(times) < 5


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_longer_sound_is_no_damage(tmp_path: Path, name: str) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=8000)
        for image in SMALL[:30]:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        for number in range(100):  # 12.8 s
            quiet = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(quiet, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, number * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert _sampled(tmp_path / name)[0] == [0.0, 1.0, 2.0]


def test_a_clip_of_one_frame_says_what_to_do(tmp_path: Path, params: Params) -> None:
    footage.video(tmp_path / "a.mp4", footage.pan(0, 5, 8), fps=30)
    section = footage.videos_section(params, tmp_path, spacing_s=1.0, retry_spacing_s=None)
    source = sources.open_source("phone", section, Path(), 224)
    with pytest.raises(NoCandidates) as found:
        list(source.groups("a.mp4", RNG))
    assert (
        str(found.value)
        == "1 frame at a spacing of 1 s: nothing to pair; lower spacing_s if it has more"
    )
    assert own_options.flagged(str(found.value)).endswith("lower --spacing-s if it has more")


def test_frames_predicted_from_damaged_ones_are_left_out(tmp_path: Path) -> None:
    """Whatever is yielded of a damaged file is, to the last pixel, a frame of the whole one."""
    path = _write(tmp_path / "a.mp4", "libx264", g="20", bf="2", preset="ultrafast")
    whole = {round(time_s, 3): image for time_s, image in videos.sample(path, 0.1)}
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size and packet.pos]
    data = bytearray(path.read_bytes())
    for packet in (packets[25], packets[28]):
        at = packet.pos + packet.size // 2
        data[at : packet.pos + packet.size] = bytes(packet.pos + packet.size - at)
    path.write_bytes(data)
    found: dict[Any, Any] = {}
    left_out = r"damaged packets or frames, \d+ more predicted from them"
    with pytest.raises(Unreadable, match=left_out):
        found.update((round(time_s, 3), image) for time_s, image in videos.sample(path, 0.1))
    assert 40 <= len(found) < 60
    assert max(found) == 5.9
    assert all((image == whole[time_s]).all() for time_s, image in found.items())
