"""Animated pictures are videos: frames by the clock, damage told, each file mined once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as pillow
from typer.testing import CliRunner

from mimic import sources
from mimic.cli import app
from mimic.errors import BadInput
from mimic.params import Params, load_params
from mimic.sources.base import SeekableSource, Unreadable
from mimic.sources.photos import pictures
from mimic.sources.video import animations
from tests.support import footage

RNG = np.random.default_rng(0)
FRAMES = [np.ascontiguousarray(image[:96, :96]) for image in footage.pan(5, 8, 30)]


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _save(
    path: Path, images: list[np.ndarray], duration: int | list[int] = 250, **more: Any
) -> Path:
    """An animation of these frames, shown for so many milliseconds each."""
    frames = [pillow.fromarray(image) for image in images]
    if path.suffix == ".gif":
        frames = [frame.quantize(128) for frame in frames]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration, **more)
    return path


def _sampled(path: Path, spacing_s: float) -> Iterator[tuple[float, np.ndarray]]:
    return ((frame.time_s, frame.image) for frame in animations.sampled(path, spacing_s))


def _nearest(found: np.ndarray) -> int:
    """Which of the frames it is, after palettes or compression."""
    errors = [float(np.abs(found.astype(int) - frame).mean()) for frame in FRAMES]
    assert min(errors) < 20
    return int(np.argmin(errors))


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.apng", "a.webp", "a.avif"])
def test_frames_are_taken_by_their_durations(tmp_path: Path, params: Params, name: str) -> None:
    path = _save(tmp_path / name, FRAMES)
    assert animations.is_animation(path)
    source = sources.open_source(
        "phone",
        footage.videos_section(params, tmp_path, spacing_s=0.5, retry_spacing_s=1.0),
        Path(),
        224,
    )
    assert source.clips() == [name]
    assert source.skipped == {}
    described = source.describe(name)
    assert (described["frames"], described["error"]) == (8, None)
    found = list(_sampled(path, 0.5))
    assert [round(time_s, 3) for time_s, _ in found] == [0, 0.5, 1.0, 1.5]
    assert [_nearest(image) for _, image in found] == [0, 2, 4, 6]
    keys = [[view.key for view in group.views] for group in source.groups(name, RNG)]
    assert keys[0] == ["0.000", "0.500", "1.000"]
    assert len(keys) == 3
    place = next(source.groups(name, RNG)).locate
    assert place is not None
    rest = [
        [view.key for view in group.views]
        for group in cast(SeekableSource, source).groups(name, RNG, json.loads(json.dumps(place())))
    ]
    assert rest == keys[1:]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_each_frame_has_its_own_time(tmp_path: Path, name: str) -> None:
    path = _save(tmp_path / name, FRAMES[:4], [1000, 300, 700, 500])
    assert [round(time_s, 3) for time_s, _ in _sampled(path, 0.25)] == [0, 1.0, 1.3, 2.0]


def test_no_duration_is_a_tenth_of_a_second_as_in_browsers(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.gif", FRAMES[:4], 0)
    assert [round(time_s, 3) for time_s, _ in _sampled(path, 0.1)] == [0, 0.1, 0.2, 0.3]


def test_the_picture_for_those_who_cannot_show_an_animation_is_no_frame(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", FRAMES[:4], default_image=True)
    found = list(_sampled(path, 0.25))
    assert len(found) == 3 == animations.describe(path)["frames"]
    assert (found[0][1] == FRAMES[1]).all()


def test_one_frame_is_a_photograph(tmp_path: Path, params: Params) -> None:
    for ending in (".gif", ".png", ".webp", ".avif"):
        path = tmp_path / f"a{ending}"
        pillow.fromarray(FRAMES[0]).save(path)
        assert not animations.is_animation(path)
    (tmp_path / "b.gif").write_bytes(b"GIF89a and no more")
    assert not animations.is_animation(tmp_path / "b.gif")  # it is named when it is read
    source = sources.open_source("phone", footage.videos_section(params, tmp_path), Path(), 224)
    with pytest.raises(BadInput, match="no video in"):
        source.clips()
    footage.video(tmp_path / "c.mp4", FRAMES[:4])
    assert source.clips() == ["c.mp4"]
    assert source.skipped == dict.fromkeys(
        ("a.avif", "a.gif", "a.png", "a.webp", "b.gif"), "not a video"
    )


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_damage_leaves_the_frames_before_it_and_is_told(tmp_path: Path, name: str) -> None:
    path = _save(tmp_path / name, FRAMES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 5 // 8])
    assert animations.is_animation(path)
    times: list[float] = []
    with pytest.raises(Unreadable) as caught:
        times.extend(time_s for time_s, _ in _sampled(path, 0.25))
    assert 0 < len(times) < 8
    assert str(tmp_path) not in str(caught.value)


def test_a_webp_that_was_cut_off_does_not_open_and_is_a_damaged_picture(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.webp", FRAMES)
    path.write_bytes(path.read_bytes()[:-5000])
    assert not animations.is_animation(path)
    with pytest.raises(Unreadable):
        pictures.read(path)


def test_your_own_animations_are_mined_once_beside_photographs(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    views = footage.pan(6, 8, 30)
    for name in ("walk.gif", "run.webp"):
        _save(raw / name, views)
    for number in range(2):
        pillow.fromarray(views[3 * number]).save(raw / f"{number}.jpg")
    pages = [pillow.fromarray(view) for view in views[:3]]
    pages[0].save(raw / "stack.tif", save_all=True, append_images=pages[1:])
    done = CliRunner().invoke(app, ["pairs", str(raw), "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    said = "only the first of its 3 pages is read; save each as a file of its own to mine them all"
    assert summary["skipped"] == {f"{raw}/stack.tif": said}
    assert summary["clips"] == 3
    pairs = pq.read_table(tmp_path / "out").to_pylist()
    assert {pair["clip"] for pair in pairs} == {"walk.gif", "run.webp", "."}
    assert not any("gif" in pair["frame_a"] for pair in pairs)
    alone = CliRunner().invoke(
        app, ["pairs", str(raw / "walk.gif"), "--out", str(tmp_path / "alone")]
    )
    assert alone.exit_code == 0, alone.output
