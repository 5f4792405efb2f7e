"""Places in a clip: what a source gives behind one is what it gives there when nothing ended it
before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
import pytest

from mimic import sources
from mimic.params import Params, load_params
from mimic.sources.base import Group, SeekableSource, Unreadable
from mimic.sources.video import sampling
from mimic.synthetic import apartments, glb_writer
from tests.support import footage

SIZE_PX = 224
SECONDS, FPS = 40, 10


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _h264(path: Path, images: list[np.ndarray], start: int = 0, **options: str) -> Path:
    """A video with B-frames and few key frames; its clock starts at so many frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"g": "50", "bf": "3", **options}
        )
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number + start, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [image[:96, :96] for image in footage.pan(0, SECONDS * FPS, 3)]


class Seen(NamedTuple):
    """What the miner sees of a group, and its place."""

    views: list[tuple[str, bytes, str]]
    tried: object
    share: float | None
    place: object


def _seen(group: Group) -> Seen:
    assert group.locate is not None
    views = [(view.key, view.read().tobytes(), str(view.pose)) for view in group.views]
    tried = (group.pairs, group.retry, group.skip_after_retry)
    return Seen(views, tried, group.share, json.loads(json.dumps(group.locate())))


def _all(source: SeekableSource, clip: str, place: object = None) -> tuple[list[Seen], str | None]:
    """Groups of a clip, and why it ended early."""
    found: list[Seen] = []
    try:
        for group in source.groups(clip, np.random.default_rng(5), place):
            found.append(_seen(group))
    except Unreadable as unreadable:
        return found, str(unreadable)
    return found, None


def _agree(source: SeekableSource, clip: str, every: int) -> int:
    """The rest behind every so manieth place is the rest of the whole; how many groups there
    are."""
    whole, why = _all(source, clip)
    for number in range(0, len(whole), every):
        assert _all(source, clip, whole[number].place) == (whole[number + 1 :], why)
    return len(whole)


def _videos(params: Params, root: Path) -> SeekableSource:
    section = footage.videos_section(params, root, spacing_s=0.5, retry_spacing_s=1.0)
    source = sources.open_source("phone", section, Path(), SIZE_PX)
    return cast(SeekableSource, source)


@pytest.mark.parametrize("start", [0, 25])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_video_goes_on_from_any_place(
    tmp_path: Path, params: Params, images: list[np.ndarray], name: str, start: int
) -> None:
    _h264(tmp_path / name, images, start)
    assert _agree(_videos(params, tmp_path), name, 9) == 2 * SECONDS - 1


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times of all frames that are decoded."""
    times = []
    real = sampling.streams.decoded

    def counted(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for timed in real(*args, **kwargs):
            times.append(timed.time_s)
            yield timed

    monkeypatch.setattr(sampling.streams, "decoded", counted)
    return times


def test_key_frames_are_sought(
    tmp_path: Path, params: Params, images: list[np.ndarray], decoded: list[float]
) -> None:
    """Behind a place late in the video, few frames are decoded."""
    _h264(tmp_path / "a.mp4", images)
    source = _videos(params, tmp_path)
    whole, _ = _all(source, "a.mp4")
    decoded.clear()
    rest, _ = _all(source, "a.mp4", whole[70].place)
    assert len(rest) == len(whole) - 71
    assert len(decoded) < 120
    assert min(decoded[1:]) > 25


def test_another_picture_than_before_is_not_taken(
    tmp_path: Path, params: Params, images: list[np.ndarray], decoded: list[float]
) -> None:
    """Where the key frame's pictures differ from those of the whole, all is decoded from the start,
    to the same end."""
    _h264(tmp_path / "a.mp4", images)
    source = _videos(params, tmp_path)
    whole, _ = _all(source, "a.mp4")
    decoded.clear()
    rest, _ = _all(source, "a.mp4", {**cast("dict[str, Any]", whole[50].place), "digest": 0})
    assert rest == whole[51:]
    assert len(decoded) > len(images)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.h264"])
def test_a_damaged_video_ends_with_the_same_words(
    tmp_path: Path, params: Params, images: list[np.ndarray], name: str
) -> None:
    """Damaged before the place and behind it: what was lost is counted whole."""
    if name == "a.avi":
        footage.video(tmp_path / name, images, FPS)
    else:
        _h264(tmp_path / name, images)
    data = bytearray((tmp_path / name).read_bytes())
    for share in (0.45, 0.8):
        at = int(share * len(data))
        data[at : at + 40] = bytes(40)
    (tmp_path / name).write_bytes(data)
    assert _agree(_videos(params, tmp_path), name, 11) > 20


def test_a_bare_stream_without_times_goes_on(
    tmp_path: Path, params: Params, images: list[np.ndarray]
) -> None:
    _h264(tmp_path / "a.h264", images)
    assert _agree(_videos(params, tmp_path), "a.h264", 23) > 60


def test_scenes_go_on_at_the_next_position(tmp_path: Path, params: Params) -> None:
    (tmp_path / "room.glb").write_bytes(glb_writer.to_glb(apartments.build(0, 11.0, 8.0, 2.6, 512)))
    stage = json.dumps(glb_writer.stage_config("room.glb"))
    (tmp_path / "room.stage_config.json").write_text(stage)
    change = {"root": tmp_path, "positions": 3, "headings": 4}
    section = params.sources["rooms"].model_copy(update=change)
    source = sources.open_source("rooms", section, Path(), SIZE_PX)
    assert _agree(cast(SeekableSource, source), "room.glb", 1) == 3
