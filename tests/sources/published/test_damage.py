"""Damaged files of every published layout: named errors and nothing else, in bounded time. (Images:
test_images.py.)"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from mimic import config, sources
from mimic.errors import BadInput
from mimic.scenes import glb
from mimic.sources.base import Unreadable
from mimic.sources.precomputed.restricted_pickle import NotAPatchMap, read_patch_map
from mimic.sources.published import arkitscenes, mannequin
from tests.sources.published.test_published_layouts import _h5, _track, _trajectory, sens
from tests.support import footage
from tests.support.truth import BASE

VIEWS_MAX = 40  # views read of a damaged clip: enough to reach every part of the small files here

BOUNDED = settings(
    max_examples=40, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Bytes overwritten, runs of them repeated or dropped, the end cut off."""
    edits = draw(
        st.lists(
            st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=9), st.integers(0, 12)),
            min_size=1,
            max_size=6,
        )
    )
    end = draw(st.one_of(st.just(1.0), st.floats(0, 1)))

    def apply(data: bytes) -> bytes:
        for place, new, dropped in edits:
            at = int(place * len(data))
            data = data[:at] + new + data[at + dropped :]
        return data[: int(end * len(data))]

    return apply


def _exhaust(section: config.SourceBase) -> None:
    """Whatever ingest and mine do with a source, short of comparing views."""
    source = sources.open_source("sample", section, Path(), 224)
    try:
        clips = source.clips()
    except BadInput:
        return
    for clip in clips:
        found = source.describe(clip)
        assert found["bytes"] >= 0
        assert found["frames"] is None or 0 <= found["frames"] < 2**63
        try:
            for _, group in zip(
                range(VIEWS_MAX), source.groups(clip, np.random.default_rng(0)), strict=False
            ):
                if group.precomputed is not None:
                    _try(group.precomputed)
                for view in group.views:
                    _try(view.read)
        except Unreadable:
            continue


def _try(read: Callable[[], object]) -> None:
    try:
        read()
    except Unreadable as error:
        message = str(error)
        assert message


def _jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(footage.plane(seed, 256)[:32, :32]).save(file, "JPEG")
    return file.getvalue()


@BOUNDED
@given(damage())
def test_sens(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "a/a.sens").write_bytes(
        harm(sens([(np.eye(4), _jpeg(index)) for index in range(5)]))
    )
    _exhaust(
        config.ScanNet(reader="scannet", root=tmp_path, window=2, edge=1, second_edge=1, **BASE)
    )


@BOUNDED
@given(damage())
def test_h5(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    _h5(tmp_path / "whole.bin", ["v0", "v1"], np.arange(17.0))
    (tmp_path / "a.h5").write_bytes(harm((tmp_path / "whole.bin").read_bytes()))
    _exhaust(config.Demon(reader="demon", root=tmp_path, views_max=20, **BASE))


@pytest.mark.parametrize("kind", ["text", "float", "group", "empty", "huge", "missing"])
def test_h5_of_another_shape(tmp_path: Path, kind: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as store:
        view = store.create_group("scene/frames/t0/v0")
        match kind:
            case "text":
                view["image"] = "words"
            case "float":
                view["image"] = np.arange(9.0)
            case "group":
                view.create_group("image")
            case "empty":
                view["image"] = np.empty(0, np.int8)
            case "huge":
                view.create_dataset("image", (1 << 40,), np.int8, chunks=(1024,))
        store["scene/frames/t0/v1"] = 3  # a number where a group belongs
    _exhaust(config.Demon(reader="demon", root=tmp_path, views_max=20, **BASE))


@settings(BOUNDED, max_examples=15)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)), damage())
def test_text_files(tmp_path: Path, noise: bytes, harm: Callable[[bytes], bytes]) -> None:
    """Camera tracks, trajectories, poses, lists and indices."""
    _track(tmp_path / "train/a.txt", "https://youtu.be/dQw4w9WgXcQ", [0.0, 1.0, 2.0])
    _trajectory(tmp_path / "whole.traj", np.eye(3))
    track, trajectory = (
        (tmp_path / "train/a.txt").read_bytes(),
        (tmp_path / "whole.traj").read_bytes(),
    )
    for data in (noise, harm(track), harm(trajectory)):
        for name in (
            "train/a.txt",
            "lowres.traj",
            "list.txt",
            "index.csv",
            "scene/poses.txt",
            "scan/frame-000000.pose.txt",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        arkitscenes.quarter_turns(tmp_path / "lowres.traj")
        _try(lambda: mannequin.read_track(tmp_path / "train/a.txt"))
        for form in ("pairs", "stems", "crops"):
            _exhaust(
                config.Crops(
                    reader="crops",
                    root=tmp_path,
                    list=Path("list.txt"),
                    form=form,
                    images=Path("."),
                    **BASE,
                )
            )
        _exhaust(config.Released(reader="released", root=tmp_path, index=Path("index.csv"), **BASE))
        for folder in ("scene", "scan"):
            (tmp_path / folder / "frame-000000.color.jpg").write_bytes(_jpeg(0))
        _exhaust(config.Demon(reader="demon", root=tmp_path, views_max=20, **BASE))
        (tmp_path / "scan/frame-000001.color.jpg").write_bytes(_jpeg(1))
        _exhaust(
            config.ScanNet(
                reader="scannet", root=tmp_path / "scan", window=2, edge=1, second_edge=1, **BASE
            )
        )


@BOUNDED
@given(damage(), st.sampled_from(["mpeg4.mp4", "mpeg4.avi", "mpeg4.mkv"]))
def test_videos(tmp_path: Path, harm: Callable[[bytes], bytes], name: str) -> None:
    whole = tmp_path / name
    if not whole.exists():
        footage.video(
            whole, [np.ascontiguousarray(image[:64, :64]) for image in footage.pan(0, 8, 8)], fps=2
        )
    folder = tmp_path / "raw/40753679"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "40753679.mov").write_bytes(harm(whole.read_bytes()))
    _exhaust(
        config.PhoneVideos(
            reader="arkitscenes",
            root=tmp_path / "raw",
            spacing_s=0.5,
            retry_spacing_s=1.0,
            seconds_min=1.0,
            **BASE,
        )
    )


@BOUNDED
@given(damage())
def test_patch_maps(harm: Callable[[bytes], bytes]) -> None:
    file = io.BytesIO()
    np.save(file, np.array({patch: 195 - patch for patch in range(196)}, object))
    try:
        found = read_patch_map(harm(file.getvalue()), 196)
    except NotAPatchMap as error:
        message = str(error)
        assert message
        return
    assert all(
        type(a) is int and type(b) is int and 0 <= a < 196 and 0 <= b < 196
        for a, b in found.items()
    )


@settings(BOUNDED, max_examples=25)
@given(harm=damage())
def test_scenes(tmp_path: Path, real_data: Path, harm: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(harm((real_data / "scenes3d/simple_room.glb").read_bytes()[: 1 << 20]))
    try:
        glb.refuse_unreadable(path, glb.header(path))
        glb.read(path, "auto", 64)
    except BadInput as error:
        message = str(error)
        assert message


@settings(BOUNDED, max_examples=12)
@given(damage(), damage())
def test_videos_of_other_layouts(
    tmp_path: Path, harm: Callable[[bytes], bytes], harm_track: Callable[[bytes], bytes]
) -> None:
    """Plain videos, Objectron, MannequinChallenge with a damaged video, and with a damaged track of
    a good one."""
    whole = tmp_path / "whole.bin.mp4"
    if not whole.exists():
        footage.video(
            whole, [np.ascontiguousarray(image[:64, :64]) for image in footage.pan(0, 8, 8)], fps=2
        )
    bad = harm(whole.read_bytes())
    for name in (
        "v/a.mp4",
        "o/videos/chair/batch-1/2/video.MOV",
        "m/videos/dQw4w9WgXcQ.mp4",
        "m/x/trims/a.mp4",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bad)
    _track(tmp_path / "m/train/a.txt", "https://youtu.be/dQw4w9WgXcQ", [0.0, 1.0, 2.0])
    damaged = tmp_path / "m/train/b.txt"
    damaged.write_bytes(harm_track((tmp_path / "m/train/a.txt").read_bytes()))
    times: dict[str, Any] = {"spacing_s": 0.5, "retry_spacing_s": 1.0}
    _exhaust(config.Videos(reader="videos", root=tmp_path / "v", crop_bottom=0.2, **times, **BASE))
    _exhaust(
        config.PhoneVideos(
            reader="objectron", root=tmp_path / "o", seconds_min=1.0, **times, **BASE
        )
    )
    _exhaust(
        config.Mannequin(
            reader="mannequin",
            root=tmp_path / "m",
            videos=Path("videos"),
            seconds_min=1.0,
            crop_bottom=0.2,
            **times,
            **BASE,
        )
    )


@settings(BOUNDED, max_examples=20)
@given(damage(), st.text("0123456789_.-", min_size=1, max_size=24))
def test_folders_of_other_layouts(
    tmp_path: Path, harm: Callable[[bytes], bytes], name: str
) -> None:
    """CO3D and 3DStreetView: damaged pictures, and names of numbers gone wrong."""
    for folder, stem in (
        ("c/toybus/1_2_3/images", "frame0000"),
        ("s/dataset_aligned/0002", "0000002_0000001_000000"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            (tmp_path / folder / f"{stem}{number}_1.jpg").write_bytes(harm(_jpeg(number)))
            (tmp_path / folder / f"frame{number:06}.jpg").write_bytes(_jpeg(number))
        (tmp_path / folder / f"x{name}.jpg").write_bytes(_jpeg(9))
    _exhaust(
        config.NumberedFrames(
            reader="co3d", root=tmp_path / "c", stride=1, retry_strides=(2,), advance=1, **BASE
        )
    )
    _exhaust(
        config.StreetView(reader="streetview", root=tmp_path / "s", keep="all", views_max=4, **BASE)
    )


@BOUNDED
@given(damage())
def test_an_index_of_pairs(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    (tmp_path / "set/a/0").mkdir(parents=True, exist_ok=True)
    for name in ("0000.jpg", "0001.jpg"):
        (tmp_path / "set/a/0" / name).write_bytes(_jpeg(0))
    rows = [f"set/a/{number}/0000.jpg,set/a/{number}/0001.jpg," for number in range(20)]
    (tmp_path / "index.csv").write_bytes(
        harm(("path1,path2,correspondence\n" + "\n".join(rows)).encode())
    )
    _exhaust(config.Released(reader="released", root=tmp_path, index=Path("index.csv"), **BASE))
