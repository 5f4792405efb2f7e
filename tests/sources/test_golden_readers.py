"""Readers and engines: what each lists and proposes for a tiny source in its layout, pinned for its
version.

Pictures are pinned by the means of 16 cells, within 5 of 255 grey levels: decoders differ by less.
"""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image as pillow

from mimic import config, sources
from mimic.sources.base import content_digest, digest_of_digests
from mimic.sources.rgbd import RGBD
from mimic.synthetic import apartments, glb_writer
from tests.support import HABITAT_STAND_IN, footage, golden_values

BASE: dict[str, Any] = {
    "tracked_by": Path("."),
    "licence": "test",
    "sharpness_min": 0.0,
    "limit_clips": None,
}
PHONE: dict[str, Any] = {"spacing_s": 1.0, "retry_spacing_s": 2.0, "seconds_min": 3.0}
GROUPS = 3  # of each clip; a walk through a scene has many


def _jpeg(seed: int, size: int = 48, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    pillow.fromarray(footage.plane(seed, 256)[:size, :size]).save(file, kind, quality=90)
    return file.getvalue()


def _write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def _videos(root: Path) -> config.SourceBase:
    footage.video(root / "walk.mp4", footage.pan(0, 8, 12))
    _write(root, {"broken.mp4": b"no video", "notes.txt": b"x"})
    own: dict[str, Any] = {"spacing_s": 0.5, "retry_spacing_s": 1.0, "crop_bottom": 0.1}
    return config.Videos(reader="videos", root=root, **own, **BASE)


def _images(root: Path) -> config.SourceBase:
    _write(root, {f"a/frame-{n:03}.jpg": _jpeg(n) for n in (1, 2, 3, 5, 6, 7, 9)})
    _write(root, {"b/1.jpg": b"no picture", "b/2.jpg": _jpeg(2), "b/10.jpg": _jpeg(3)})
    own: dict[str, Any] = {
        "pairing": "neighbours",
        "glob": "*",
        "stride": 1,
        "retry_strides": (2,),
        "advance": 1,
    }
    return config.Images(reader="images", root=root, group_max=10, **own, **BASE)


def _demon(root: Path) -> config.SourceBase:
    with h5py.File(root / "a.h5", "w") as store:
        for number in (0, 1, 10):
            view = store.create_group(f"scene/frames/t0/v{number}")
            view["image"] = np.frombuffer(_jpeg(number, kind="WEBP"), np.int8)
            view["image"].attrs["format"] = np.bytes_("webp")
            view["camera"] = np.concatenate([[300, 300, 0, 24, 24], np.eye(3).ravel(), [1, 2, 3]])
    return config.Demon(reader="demon", root=root, views_max=20, **BASE)


def _scannet(root: Path) -> config.SourceBase:
    name = b"StructureSensor"
    head = struct.pack("<IQ", 4, len(name)) + name + np.eye(4, dtype=np.float32).tobytes() * 4
    head += struct.pack("<2i4IfQ", 2, 1, 48, 48, 8, 8, 1000.0, 9)
    for number in range(9):
        blob = _jpeg(number)
        head += np.eye(4, dtype="<f4").tobytes() + struct.pack("<4Q", number, number, len(blob), 5)
        head += blob + b"depth"
    _write(root, {"scans/scene0000_00/scene0000_00.sens": head + struct.pack("<Q", 0)})
    return config.ScanNet(reader="scannet", root=root, window=4, edge=2, second_edge=2, **BASE)


def _arkitscenes(root: Path) -> config.SourceBase:
    folder = root / "raw/Training/40753679"
    footage.video(folder / "40753679.mov", [image[:160].copy() for image in footage.pan(0, 9, 8)])
    lines = [f"{6845 + n}.0 1.2092 1.2092 1.2092 0.1 0.2 0.3\n" for n in range(5)]
    (folder / "lowres_wide.traj").write_text("".join(lines))
    return config.PhoneVideos(reader="arkitscenes", root=root, **PHONE, **BASE)


def _objectron(root: Path) -> config.SourceBase:
    footage.video(root / "videos/chair/batch-10/9/video.MOV", footage.pan(0, 8, 8))
    return config.PhoneVideos(reader="objectron", root=root, **PHONE, **BASE)


def _mannequin(root: Path) -> config.SourceBase:
    footage.video(root / "videos/dQw4w9WgXcQ.mp4", footage.pan(0, 24, 8))
    times = [number / 2 for number in range(4, 15)]
    rows = [f"{round(1e6 * t)} 0.9 1.6 0.5 0.5 0 0 1 0 0 {t} 0 1 0 0 0 0 1 0" for t in times]
    track = "\n".join(["https://www.youtube.com/watch?v=dQw4w9WgXcQ", *rows]) + "\n"
    _write(root, {"train/b.txt": track.encode(), "test/broken.txt": b"1 2 3\n"})
    own: dict[str, Any] = {"videos": Path("videos"), "crop_bottom": 0.2}
    return config.Mannequin(reader="mannequin", root=root, **own, **PHONE, **BASE)


def _co3d(root: Path) -> config.SourceBase:
    numbers = (4, 5, 6, 9, 14, 19, 20)
    _write(root, {f"apple/110_1_2/images/frame{n:06}.jpg": _jpeg(n) for n in numbers})
    own: dict[str, Any] = {"stride": 5, "retry_strides": (10,), "advance": 5}
    return config.NumberedFrames(reader="co3d", root=root, **own, **BASE)


def _transforms(root: Path) -> config.SourceBase:
    (root / "chair/images").mkdir(parents=True)
    frames = []
    for number in (1, 2, 3, 5):
        name = f"images/frame_{number:05d}.jpg"
        (root / "chair" / name).write_bytes(_jpeg(number))
        matrix = np.eye(4)
        matrix[:3, 3] = number, 0, 2
        frames.append({"file_path": name, "transform_matrix": matrix.tolist()})
    (root / "chair/transforms.json").write_text(json.dumps({"frames": frames}))
    own: dict[str, Any] = {"stride": 1, "retry_strides": (2,), "advance": 1}
    return config.NumberedFrames(reader="transforms", root=root, **own, **BASE)


def _streetview(root: Path) -> config.SourceBase:
    names = ("2_0000001_0000002", "2_0000001_0000004", "2_0000009_0000001", "3_0000001_0000002")
    folder = "dataset_aligned/0002/000000"
    _write(root, {f"{folder}{name}_0000001.jpg": _jpeg(n) for n, name in enumerate(names)})
    return config.StreetView(reader="streetview", root=root, keep="lowest", views_max=10, **BASE)


def _rgbd(root: Path) -> config.SourceBase:
    """A wall 2 m ahead, passed by; the fourth frame has no pose, the fifth a damaged depth."""
    depth = io.BytesIO()
    pillow.fromarray(np.full((48, 48), 2000, np.uint16)).save(depth, "PNG")
    for number in range(6):
        stem = f"room/seq-01/frame-{number:06}"
        pose = np.eye(4)
        pose[0, 3] = 0.5 * number
        lines = "\n".join(" ".join(map(str, row)) for row in pose).encode()
        _write(root, {f"{stem}.color.png": _jpeg(number, kind="PNG")})
        _write(root, {f"{stem}.depth.png": b"no picture" if number == 4 else depth.getvalue()})
        _write(root, {} if number == 3 else {f"{stem}.pose.txt": lines})
    _write(root, {"room/camera-intrinsics.txt": b"48 0 23.5\n0 48 23.5\n0 0 1\n"})
    own = {"depth_per_m": 1000.0, "intrinsics": None, "time_s": 0.02, "depth_tolerance": 0.05}
    band = {"overlap_min": 0.3, "overlap_max": 0.8, "patches": 4}
    steps = {"stride": 1, "reach": 3, "advance": 1}
    numbers: dict[str, Any] = {**own, **band, **steps}
    return RGBD(reader="rgbd", root=root, **numbers, **BASE)


def _released(root: Path) -> config.SourceBase:
    for number in (0, 9, 10):
        pair = f"ScanNet/scene0000_00/{number}"
        _write(root, {f"{pair}/{view:04}.jpg": _jpeg(number + view) for view in (0, 1)})
        np.save(root / pair / "corresponding.npy", np.array({1: 0, 2: 1}, object))
    return config.Released(reader="released", root=root, index=None, **BASE)


def _crops(root: Path) -> config.SourceBase:
    _write(root, {f"images/scene/a_{view}.jpg": _jpeg(view, 96) for view in (1, 2)})
    line = "scene/a_1.jpg, scene/a_2.jpg, 90\n0, 64, 0, 64, 16, 80, 16, 80\n"
    (root / "list.txt").write_text(f"# img1, img2, rotation\n{line}")
    own: dict[str, Any] = {"list": Path("list.txt"), "form": "crops", "images": Path("images")}
    return config.Crops(reader="crops", root=root, **own, **BASE)


def _room(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(glb_writer.to_glb(apartments.build(0, 9.0, 7.0, 2.6, 256)))
    stage = json.dumps(glb_writer.stage_config(path.name))
    path.with_suffix(".stage_config.json").write_text(stage)


WALK: dict[str, Any] = {
    "up": "y",
    "positions": 2,
    "height_m": (1.2, 1.8),
    "island_radius_min_m": 1.0,
}
WALK |= {"render_px": 96, "hfov_deg": 90.0, "texture_max_px": 256, "lod_bias": -0.5}
RING: dict[str, Any] = {"headings": 4, "step_m": (0.5, 1.0), "turn_deg": 60.0}


def _scenes(root: Path, engine: Any = "embree") -> config.SourceBase:
    _room(root / "a/room-000.glb")
    return config.Scenes(reader="scenes", root=root, engine=engine, **WALK, **RING, **BASE)


def _scans(reader: Any, scene: str, root: Path, engine: Any) -> config.SourceBase:
    _room(root / scene)
    return config.Scans(reader=reader, root=root, engine=engine, **WALK, **RING, **BASE)


def _hm3d(root: Path, engine: Any = "embree") -> config.SourceBase:
    return _scans("hm3d", "train/00006-HkseAnWCgqk/HkseAnWCgqk.glb", root, engine)


def _gibson(root: Path, engine: Any = "embree") -> config.SourceBase:
    return _scans("gibson", "gibson/Adrian.glb", root, engine)


def _matterport(root: Path, engine: Any = "embree") -> config.SourceBase:
    return _scans("matterport", "mp3d/17DRP5sb8fy/17DRP5sb8fy.glb", root, engine)


def _covisible(root: Path, engine: Any = "embree") -> config.SourceBase:
    _room(root / "room.glb")
    walk: dict[str, Any] = {
        "tries": 40,
        "steps": 3,
        "step_sigma_m": 2.0,
        "jitter_deg": (3.0, 10.0, 5.0),
    }
    measure: dict[str, Any] = {"valid_depth_min": 0.7, "overlap_min": 0.4, "point_distance_m": 0.05}
    more: dict[str, Any] = {
        "patches": 14,
        "depth_tolerance": 0.05,
        "layout": "scenes",
        "engine": engine,
    }
    return config.Covisible(
        reader="covisible", root=root, **WALK, **walk, **measure, **more, **BASE
    )


LAYOUTS: dict[str, Callable[[Path], config.SourceBase]] = {
    "videos": _videos,
    "images": _images,
    "scenes": _scenes,
    "covisible": _covisible,
    "hm3d": _hm3d,
    "gibson": _gibson,
    "matterport": _matterport,
    "demon": _demon,
    "scannet": _scannet,
    "arkitscenes": _arkitscenes,
    "objectron": _objectron,
    "mannequin": _mannequin,
    "co3d": _co3d,
    "streetview": _streetview,
    "transforms": _transforms,
    "rgbd": _rgbd,
    "released": _released,
    "crops": _crops,
}


def _said_of(source: sources.Source, rendered: bool) -> dict[str, Any]:
    """Every clip with what the inventory says of it and its first candidates; with poses and
    pictures, unless an engine makes them."""
    return {clip: _clip(source, clip, rendered) for clip in source.clips()}


def _clip(source: sources.Source, clip: str, rendered: bool) -> dict[str, Any]:
    described = source.describe(clip)
    said: dict[str, Any] = {"frames": described["frames"], "note": described.get("note")}
    if described["error"] is not None:
        return said | {"error": described["error"]}
    groups = []
    for group in source.groups(clip, np.random.default_rng(0)):
        groups.append(_proposed(group) | (_shown(group) if rendered else {}))
        if len(groups) == GROUPS:
            break
    return said | {"groups": groups}


def _proposed(group: sources.Group) -> dict[str, Any]:
    names = [view.key for view in group.views]
    matches = None if group.precomputed is None else group.precomputed()
    return {
        "pairs": [f"{names[a]} {names[b]}" for a, b in group.pairs[:20]],
        "count": len(group.pairs),
        "retry": [f"{names[a]} {names[b]}" for a, b in group.retry],
        "skipped": group.skip_after_retry,
        "given": None if matches is None else int((matches >= 0).sum()),
    }


def _shown(group: sources.Group) -> dict[str, Any]:
    views = group.views[:2]
    poses = [None if view.pose is None else view.pose.ravel().tolist() for view in views]
    return {"poses": poses, "pictures": [_picture(view) for view in views]}


def _picture(view: sources.View) -> Any:
    try:
        return golden_values.look(view.read())
    except sources.Unreadable as why:
        return str(why)


@pytest.mark.parametrize("reader", sorted(sources.READER_VERSIONS))
def test_a_reader_proposes_what_its_version_did(tmp_path: Path, reader: str) -> None:
    assert reader in LAYOUTS, f"add a tiny dataset of {reader} to LAYOUTS in this file"
    section = LAYOUTS[reader](tmp_path)
    source = sources.open_source("tiny", section, Path(), 64)
    versions = sources.READER_VERSIONS[reader]
    value = _said_of(source, rendered="embree" not in versions)
    said_in = f"`reader` of {reader} in sources/__init__.py"
    golden_values.check(f"reader-{reader}", said_in, versions["reader"], value, within=0.02)


@pytest.mark.parametrize("engine", ["embree", "habitat"])
def test_an_engine_renders_what_its_version_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """habitat-sim itself is another's: behind our side of it a stand-in renders with our rays."""
    monkeypatch.setenv("PYTHONPATH", str(HABITAT_STAND_IN))
    habitat = config.HabitatRuntime(command=(sys.executable,), gpu_device_id=-1, timeout_s=120)
    source = sources.open_source("tiny", _scenes(tmp_path, engine), Path(), 64, habitat)
    rows = {row[engine] for row in sources.READER_VERSIONS.values() if engine in row}
    said_in = f"`{engine}` in every row of sources/__init__.py"
    assert len(rows) == 1, f"{said_in}: it is one version, and {sorted(rows)} are there"
    value = _said_of(source, rendered=True)
    golden_values.check(f"engine-{engine}", said_in, rows.pop(), value, within=0.02)


def test_digests_of_the_inventory(tmp_path: Path) -> None:
    """All readers have them: with other digests the versions of all of them are raised."""
    _write(tmp_path, {"small": b"small", "large": b"large" * (15 << 20)})
    found = [content_digest(tmp_path / name)[:16] for name in ("small", "large")]
    assert found == ["81db8ebbbbc69c6c", "65830cc6612f13a4"]
    assert digest_of_digests([("a", "0"), ("b", "1")])[:16] == "40ad13dac55880a9"
