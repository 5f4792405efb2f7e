"""Files that hold several recordings, one behind the other."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mimic.sources import videos
from mimic.sources.base import Unreadable
from mimic.sources.video import joined
from mimic.sources.video.transport import has_other_pictures
from tests.support import footage


def _recording(
    path: Path,
    seed: int = 0,
    *,
    images: list[np.ndarray] | None = None,
    form: dict[str, str] | None = None,
) -> Path:
    """Four seconds, or some pictures."""
    images = images or footage.pan(seed, 40, 2)
    with av.open(str(path), "w", options=form or {}) as container:
        codec = "flv" if path.suffix == ".flv" else "libx264"
        stream = container.add_stream(codec, rate=10, options={"qmin": "2", "qmax": "4"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 60_000_000
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def _times(path: Path) -> list[float]:
    return [round(time_s, 3) for time_s, _ in videos.sample(path, 1.0)]


@pytest.mark.parametrize("name", ["a.mp4", "a.flv"])
def test_a_recording_joined_behind_another_is_named(tmp_path: Path, name: str) -> None:
    """FFmpeg, and every player, reads the first alone."""
    parts = [_recording(tmp_path / f"{seed}{name}", seed) for seed in (1, 2)]
    file = tmp_path / name
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = videos.sample(file, 1.0)
    times = _times(parts[0])
    assert [round(next(frames)[0], 3) for _ in times] == times
    with pytest.raises(Unreadable, match=f"at byte {parts[0].stat().st_size:,} of"):
        next(frames)


def test_a_header_across_two_chunks_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [_recording(tmp_path / f"{seed}.flv", seed) for seed in (1, 2)]
    file = tmp_path / "a.flv"
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    for chunk in range(13, 40):
        monkeypatch.setattr(joined, "CHUNK", chunk)
        with pytest.raises(Unreadable, match=f"at byte {parts[0].stat().st_size:,} of"):
            list(videos.sample(file, 1.0))


def test_a_long_recording_behind_an_flv_is_read(tmp_path: Path) -> None:
    """FFmpeg finds into it, so nothing is lost."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 416, 416, 3), dtype=np.uint8)
    part = _recording(tmp_path / "1.flv", images=list(noise))
    assert part.stat().st_size > 5_000_000
    file = tmp_path / "a.flv"
    file.write_bytes(2 * part.read_bytes())
    assert _times(file) == pytest.approx([float(second) for second in range(8)], abs=0.06)


def test_a_track_that_begins_in_the_midst_is_named(tmp_path: Path) -> None:
    """As of a channel between two programmes; PyAV fails on the packets of a track that was not
    there at the start."""
    pids = {"mpegts_start_pid": "0x300", "mpegts_pmt_start_pid": "0x1200"}
    parts = [
        _recording(tmp_path / "1.ts", 1),
        _recording(tmp_path / "2.ts", 2, form=pids),
        _recording(tmp_path / "3.ts", 3),
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = videos.sample(path, 1.0)
    assert len([next(frames) for _ in range(8)]) == 8  # of the first and the third
    with pytest.raises(Unreadable, match="another track begins in its midst"):
        next(frames)


@pytest.mark.parametrize("size", [188, 192])
def test_tracks_of_pictures_are_known_by_their_packets(tmp_path: Path, size: int) -> None:
    """What PyAV says of a later track depends on what lay in memory before."""
    pids = {"mpegts_start_pid": "0x300"}
    parts = [_recording(tmp_path / "1.ts", 1), _recording(tmp_path / "2.ts", 2, form=pids)]
    content = b"".join(part.read_bytes() for part in parts)
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    path = tmp_path / "a.m2ts"
    path.write_bytes(b"?" * 5 + b"".join(bytes(size - 188) + packet for packet in packets) + b"G")
    assert has_other_pictures(path, {0x100})
    assert has_other_pictures(path, {0x300})
    assert not has_other_pictures(path, {0x100, 0x300})
    path.write_bytes(parts[0].read_bytes())
    assert not has_other_pictures(path, {0x100})
    for other in (b"", b"G" * 50, bytes(5000), b"G" * 5000):
        path.write_bytes(other or b"?")
        assert not has_other_pictures(path, set())


def test_a_recording_that_broke_off_says_what_it_lacks(tmp_path: Path) -> None:
    """FFmpeg says "Invalid data"."""
    file = tmp_path / "a.mp4"
    file.write_bytes(_recording(tmp_path / "complete.mp4").read_bytes()[:-200])  # index at the end
    with pytest.raises(Unreadable, match=r"the index \(moov\) .* missing or cut off"):
        next(videos.sample(file, 1.0))


@pytest.mark.parametrize("kept_bytes", [5, 30, 45, 60, 120])
def test_a_recording_cut_off_between_fragments_says_so(tmp_path: Path, kept_bytes: int) -> None:
    """By where the cut lies, FFmpeg refuses it with "End of file", or says nothing."""
    form = {"movflags": "empty_moov+default_base_moof", "frag_duration": "1000000"}  # of 1 s
    data = _recording(tmp_path / "fragments.mp4", form=form).read_bytes()
    last = data.rindex(b"moof") - 4
    file = tmp_path / "a.mp4"
    file.write_bytes(data[: last + kept_bytes])
    with pytest.raises(Unreadable, match="cut off in the index") as raised:
        list(videos.sample(file, 1.0))
    if "truncate" in str(raised.value):
        assert f"`truncate --size={last}` on a copy" in str(raised.value)
    file.write_bytes(data[:last])  # as it advises
    assert _times(file)[:3] == [0.0, 1.0, 2.0]


def test_what_is_no_mp4_keeps_the_words_of_ffmpeg(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"\0" * 100_000)
    with pytest.raises(Unreadable, match="Invalid data"):
        next(videos.sample(file, 1.0))
    with pytest.raises(Unreadable, match="No such file"):
        next(videos.sample(tmp_path / "none.mp4", 1.0))
