"""Published layouts written from their descriptions, traps included: what the readers propose, and
what they say of damage."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image as pillow
from scipy.spatial.transform import Rotation

from mimic import config, sources
from mimic.errors import BadInput
from mimic.geometry.overlap import Outcome
from mimic.mining import loop, shard_job
from mimic.mining.stats import MiningStats
from mimic.params import Params, load_params
from mimic.sources.base import Unreadable
from mimic.sources.published import arkitscenes
from tests.support import footage
from tests.support.truth import BASE

RNG = np.random.default_rng(0)
PHONE: dict[str, Any] = {"spacing_s": 1.0, "retry_spacing_s": 2.0, "seconds_min": 3.0}


def _open(section: Any) -> sources.Source:
    return sources.open_source("sample", section, Path(), 224)


def _keys(source: sources.Source, clip: str) -> list[tuple[str, str]]:
    return [
        (group.views[a].key, group.views[b].key)
        for group in source.groups(clip, RNG)
        for a, b in group.pairs
    ]


def _picture(seed: int, suffix: str = "JPEG", size: int = 48) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(footage.plane(seed, 256)[:size, :size]).save(file, suffix, quality=90)
    return file.getvalue()


def _touch(root: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


# ---------------------------------------------------------------- ScanNet


def sens(
    frames: list[tuple[np.ndarray, bytes]],
    announced: int | None = None,
    version: int = 4,
    colour: int = 2,
) -> bytes:
    """A .sens stream of colour frames; depth blobs are filler."""
    name = b"StructureSensor"
    head = struct.pack("<IQ", version, len(name)) + name + np.eye(4, dtype=np.float32).tobytes() * 4
    head += struct.pack(
        "<2i4IfQ", colour, 1, 48, 48, 8, 8, 1000.0, len(frames) if announced is None else announced
    )
    for index, (pose, blob) in enumerate(frames):
        head += (
            pose.astype("<f4").tobytes()
            + struct.pack("<4Q", index, index, len(blob), 5)
            + blob
            + b"depth"
        )
    return head + struct.pack("<Q", 0)


def _scannet(root: Path, **change: Any) -> sources.Source:
    return _open(
        config.ScanNet(
            reader="scannet",
            root=root,
            **(BASE | {"window": 4, "edge": 1, "second_edge": 3} | change),
        )
    )


def test_a_truncated_sens_gives_its_whole_windows_and_is_named(tmp_path: Path) -> None:
    frames = [
        (np.eye(4) if index != 2 else np.full((4, 4), -np.inf), _picture(index))
        for index in range(10)
    ]
    whole = sens(frames)
    _touch(tmp_path, "scans/scene0000_00/scene0000_00.sens", data=whole[: len(whole) * 3 // 4])
    _touch(tmp_path, "scans_test/scene0707_00/scene0707_00.sens", data=sens(frames, version=3))
    source = _scannet(tmp_path)
    truncated, old = source.clips()
    pairs = []

    def read_all() -> None:
        for group in source.groups(truncated, RNG):
            pairs.append([view.key for view in group.views])
            assert group.views[0].read().shape == (48, 48, 3)

    with pytest.raises(Unreadable, match=r"breaks off at frame \d of 10"):
        read_all()
    assert pairs == [["0", "3"]]
    assert "not a version 4" in str(source.describe(old)["error"])


def test_a_sens_file_may_announce_nonsense(tmp_path: Path) -> None:
    _touch(tmp_path, "a/a.sens", data=sens([(np.eye(4), _picture(0))], announced=2**63 + 5))
    source = _scannet(tmp_path)
    assert source.describe("a/a.sens")["frames"] < 100
    with pytest.raises(Unreadable, match="breaks off at frame"):
        list(source.groups("a/a.sens", RNG))


def test_raw_colour_is_read_and_its_size_is_checked(tmp_path: Path) -> None:
    picture = footage.plane(0, 256)[:48, :48]
    frames = [(np.eye(4), picture.tobytes()), (np.eye(4), picture.tobytes()[:-1])]
    _touch(tmp_path, "a/a.sens", data=sens(frames, colour=0))
    (group,) = _scannet(tmp_path, window=2, second_edge=1).groups("a/a.sens", RNG)
    assert (group.views[0].read() == picture).all()
    with pytest.raises(Unreadable, match="is not 48 x 48 RGB"):
        group.views[1].read()


def test_both_official_exports_sort_by_number_and_lost_tracking_has_no_pose(tmp_path: Path) -> None:
    python, cpp = tmp_path / "scans/scene0001_00", tmp_path / "scans/scene0002_00"
    for number in range(12):
        _touch(python, f"color/{number}.jpg", f"depth/{number}.png")
        _touch(cpp, f"frame-{number:06}.color.jpg", f"frame-{number:06}.depth.pgm")
        pose = np.eye(4) if number != 3 else np.full((4, 4), -np.inf)
        for file in (python / f"pose/{number}.txt", cpp / f"frame-{number:06}.pose.txt"):
            file.parent.mkdir(exist_ok=True)
            np.savetxt(file, pose)
    _touch(python, "intrinsic/intrinsic_color.txt")
    _touch(
        tmp_path,
        "scans/scene0003_00/000000.jpg",
        "scans/scene0003_00/scene0003_00_vh_clean.ply",
        "scannetv2-labels.combined.tsv",
    )
    source = _scannet(tmp_path)
    assert source.clips() == [f"scans/scene000{number}_00" for number in (1, 2, 3)]
    assert _keys(source, "scans/scene0001_00") == [
        ("0.jpg", "3.jpg"),
        ("4.jpg", "7.jpg"),
        ("8.jpg", "11.jpg"),
    ]
    assert _keys(source, "scans/scene0002_00")[2] == (
        "frame-000008.color.jpg",
        "frame-000011.color.jpg",
    )
    for clip in ("scans/scene0001_00", "scans/scene0002_00"):
        assert source.describe(clip)["frames"] == 12
        first = next(iter(source.groups(clip, RNG)))
        assert first.views[0].pose is not None
        assert first.views[1].pose is None


def test_a_window_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(
        ValueError, match=r"second_edge 50 must lie in \[edge, window - edge\] = \[11, 49\]"
    ):
        config.ScanNet(reader="scannet", root=Path(), window=60, edge=11, second_edge=50, **BASE)


# ---------------------------------------------------------------- DeMoN


def _h5(path: Path, views: list[str], camera: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as store:
        store.create_group(".config")
        for name in views:
            view = store.create_group(f"scene/frames/t0/{name}")
            view["image"] = np.frombuffer(_picture(int(name[1:]), "WEBP"), np.int8)
            view["image"].attrs["format"] = np.bytes_("webp")
            if camera is not None:
                view["camera"] = camera


def _demon(root: Path, views_max: int = 20) -> sources.Source:
    return _open(config.Demon(reader="demon", root=root, views_max=views_max, **BASE))


def test_demon_views_count_by_number_and_cameras_are_column_major(tmp_path: Path) -> None:
    rotation = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    camera = np.concatenate([[300, 300, 0, 24, 24], rotation.ravel(order="F"), [1.0, 2.0, 3.0]])
    _h5(tmp_path / "traindata/a.h5", [f"v{number}" for number in range(11)], camera)
    source = _demon(tmp_path)
    assert source.clips() == ["traindata/a.h5/scene"]
    (group,) = source.groups("traindata/a.h5/scene", RNG)
    assert [view.key for view in group.views] == [f"v{number}" for number in range(11)]
    assert len(group.pairs) == 55
    world = np.array([0.3, -0.2, 5.0])
    in_camera = rotation @ world + [1.0, 2.0, 3.0]
    np.testing.assert_allclose((group.views[0].pose @ [*in_camera, 1])[:3], world, atol=1e-12)
    assert np.abs(group.views[3].read().astype(int) - footage.plane(3, 256)[:48, :48]).mean() < 12


def test_demon_scenes_of_too_many_views_and_damaged_files_are_named(tmp_path: Path) -> None:
    _h5(tmp_path / "many.h5", [f"v{number}" for number in range(6)])
    _h5(tmp_path / "cut.h5", ["v0", "v1"])
    data = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    _touch(tmp_path, "scene_00000/0.jpg", "scene_00000/1.jpg", "scene_00000/10.jpg", "train.txt")
    source = _demon(tmp_path, views_max=5)
    assert source.clips() == ["cut.h5/(damaged)", "many.h5/scene", "scene_00000"]
    assert source.describe("many.h5/scene")["error"] == "6 views make 15 pairs; raise views_max"
    assert "damaged HDF5" in str(source.describe("cut.h5/(damaged)")["error"])
    for clip in source.clips()[:2]:
        with pytest.raises(Unreadable):
            list(source.groups(clip, RNG))
    assert _keys(source, "scene_00000") == [
        ("0.jpg", "1.jpg"),
        ("0.jpg", "10.jpg"),
        ("1.jpg", "10.jpg"),
    ]


# ---------------------------------------------------------------- CO3D


def test_co3d_gaps_are_not_small_steps(tmp_path: Path) -> None:
    sequence = "apple/110_13051_23361"
    _touch(
        tmp_path,
        *(f"{sequence}/images/frame{number:06}.jpg" for number in (4, 5, 6, 9, 14, 19, 20)),
    )
    _touch(
        tmp_path,
        f"{sequence}/masks/frame000004.png",
        "apple/set_lists/x.json",
        "apple/eval_batches/y.json",
        "_in_progress/apple/s/images/frame1.jpg",
    )
    _touch(tmp_path, "apple/empty/pointcloud.ply", "apple_000.zip", "apple/frame_annotations.jgz")
    source = _open(
        config.NumberedFrames(
            reader="co3d", root=tmp_path, stride=5, retry_strides=(), advance=5, **BASE
        )
    )
    assert source.clips() == [sequence]
    assert _keys(source, sequence) == [
        ("frame000004.jpg", "frame000009.jpg"),
        ("frame000009.jpg", "frame000014.jpg"),
        ("frame000014.jpg", "frame000019.jpg"),
    ]


# ---------------------------------------------------------------- 3DStreetView


def test_street_views_are_grouped_by_target_within_a_folder(tmp_path: Path) -> None:
    a, b = tmp_path / "dataset_aligned/0002", tmp_path / "dataset_aligned/0010"
    _touch(
        a,
        "0000002_0000001_0000002_0000001.jpg",
        "0000002_0000001_0000004_0000001.jpg",
        "0000002_0000009_0000001_0000007.jpg",
    )
    _touch(
        a, "0000002_0000003_0000002_0000001.jpg", "0000002_0000001_0000002_0000001.txt", "notes.jpg"
    )
    _touch(
        b, "0000010_0000001_0000002_0000001.jpg", "0000010_0000001_0000003_0000001.jpg"
    )  # the same target number: another target
    source = _open(
        config.StreetView(reader="streetview", root=tmp_path, keep="lowest", views_max=7, **BASE)
    )
    assert source.clips() == ["dataset_aligned/0002", "dataset_aligned/0010"]
    assert source.describe("dataset_aligned/0002")["frames"] == 4
    (group,) = source.groups("dataset_aligned/0002", RNG)
    assert {view.key.rpartition("_")[2] for view in group.views} == {"0000001.jpg"}
    assert len(group.pairs) == 3
    every = _open(
        config.StreetView(reader="streetview", root=tmp_path, keep="all", views_max=2, **BASE)
    )
    assert (
        len(list(every.groups("dataset_aligned/0002", RNG))) == 1
    )  # the first two images of the target


# ---------------------------------------------------------------- ARKitScenes, Objectron


def _trajectory(path: Path, camera_from_world: np.ndarray, count: int = 5) -> None:
    turn = Rotation.from_matrix(camera_from_world).as_rotvec()
    path.write_text(
        "".join(
            f"{6845.7 + index:.3f} {turn[0]} {turn[1]} {turn[2]} 0.1 0.2 0.3\n"
            for index in range(count)
        )
    )


@pytest.mark.parametrize("turns", range(4))
def test_arkit_videos_are_turned_upright_by_their_poses(tmp_path: Path, turns: int) -> None:
    """A level camera (x right, y down, z forward; the world's z is up) whose sensor was turned: the
    sky is where the poses say."""
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # world x right, z up -> camera
    roll = Rotation.from_euler(
        "z", -90 * turns, degrees=True
    ).as_matrix()  # counter-clockwise quarter turns put it right
    _trajectory(tmp_path / "lowres_wide.traj", roll @ level)
    found = arkitscenes.quarter_turns(tmp_path / "lowres_wide.traj")
    assert found is not None
    upright = np.zeros((6, 8, 3), np.uint8)
    upright[0] = 255  # the sky
    # a pixel at camera direction d in the upright frame is at roll @ d in the stored one
    stored = np.rot90(upright, -found)
    sky = roll @ [0.0, -1.0, 0.0]
    edge = {(0, -1): stored[0], (1, 0): stored[:, -1], (0, 1): stored[-1], (-1, 0): stored[:, 0]}[
        tuple(round(x) for x in sky[:2])
    ]
    assert (edge == 255).all()


def test_what_lies_beside_the_pictures_and_decides_makes_another_clip(tmp_path: Path) -> None:
    """Poses that come later, or are corrected: what was mined before is not of them."""
    video = tmp_path / "arkit/40753679/40753679.mov"
    footage.video(video, footage.pan(0, 4, 8), fps=2)
    arkit = _open(
        config.PhoneVideos(reader="arkitscenes", root=tmp_path / "arkit", **PHONE, **BASE)
    )
    before = arkit.describe("40753679/40753679.mov")["digest"]
    _trajectory(video.with_name("lowres_wide.traj"), np.eye(3))
    assert arkit.describe("40753679/40753679.mov")["digest"] != before

    scan = tmp_path / "scannet/scans/scene0001_00"
    for number in range(4):
        _touch(scan, f"color/{number}.jpg", f"pose/{number}.txt")
    scannet = _scannet(tmp_path / "scannet")
    before = scannet.describe("scans/scene0001_00")["digest"]
    np.savetxt(scan / "pose/2.txt", np.eye(4))
    assert scannet.describe("scans/scene0001_00")["digest"] != before

    _touch(tmp_path / "demon/scene", "0.jpg", "1.jpg")
    demon = _demon(tmp_path / "demon")
    before = demon.describe("scene")["digest"]
    np.savetxt(tmp_path / "demon/scene/poses.txt", np.zeros((2, 12)))
    assert demon.describe("scene")["digest"] != before


def test_arkit_layout(tmp_path: Path) -> None:
    root = tmp_path / "raw/Training/40753679"
    images = footage.pan(0, 12, 8)
    footage.video(
        root / "40753679.mov", [np.ascontiguousarray(image[:160]) for image in images], fps=2
    )
    _trajectory(
        root / "lowres_wide.traj", np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1, 0]])
    )  # the sky lies to the right
    _touch(
        tmp_path,
        "raw/metadata.csv",
        "raw/Training/40753679/lowres_wide/40753679_6845.706.png",
        "raw/Training/40753679/extra.mov",
    )
    footage.video(tmp_path / "raw/Validation/41000000/41000000.mov", images[:4], fps=2)
    wide = [np.ascontiguousarray(image[:160]) for image in images]
    footage.video(tmp_path / "raw/Validation/42000000/42000000.mov", wide, fps=2)
    source = _open(config.PhoneVideos(reader="arkitscenes", root=tmp_path, **PHONE, **BASE))
    assert source.clips() == [
        "raw/Training/40753679/40753679.mov",
        "raw/Validation/41000000/41000000.mov",
        "raw/Validation/42000000/42000000.mov",
    ]
    groups = list(source.groups(source.clips()[0], RNG))
    assert len(groups) == 5
    assert groups[0].retry == ((0, 2),)
    shown = groups[0].views[0].read()
    assert shown.shape == (224, 160, 3)
    assert np.abs(shown.astype(int) - np.rot90(images[0][:160])).mean() < 12
    assert source.describe(source.clips()[1])["error"] == "2.0 s are less than seconds_min 3"
    with pytest.raises(Unreadable, match="less than seconds_min"):
        list(source.groups(source.clips()[1], RNG))
    assert source.describe(source.clips()[2])["error"] is None
    group = next(iter(source.groups(source.clips()[2], RNG)))  # without poses, as it is stored
    shown = group.views[0].read()
    assert shown.shape == (160, 224, 3)
    assert np.abs(shown.astype(int) - wide[0]).mean() < 12


@pytest.mark.parametrize("text", ["", "1 2 3\n", "a b c d e f g\n", "1 nan 0 0 0 0 0\n"])
def test_a_damaged_trajectory_leaves_the_containers_own_matrix(tmp_path: Path, text: str) -> None:
    (tmp_path / "lowres_wide.traj").write_text(text)
    assert arkitscenes.quarter_turns(tmp_path / "lowres_wide.traj") is None
    assert arkitscenes.quarter_turns(tmp_path / "missing.traj") is None


def test_objectron_layout(tmp_path: Path) -> None:
    footage.video(tmp_path / "videos/chair/batch-10/9/video.MOV", footage.pan(0, 8, 8), fps=2)
    _touch(
        tmp_path,
        "videos/chair/batch-2/9/video.MOV",
        "videos/chair/batch-10/9/geometry.pbdata",
        "videos/chair/other.MOV",
        "v1/index/chair_annotations",
    )
    source = _open(config.PhoneVideos(reader="objectron", root=tmp_path, **PHONE, **BASE))
    assert source.clips() == ["chair/batch-2/9/video.MOV", "chair/batch-10/9/video.MOV"]
    assert len(_keys(source, source.clips()[1])) == 3
    assert source.describe(source.clips()[0])["error"] is not None


# ---------------------------------------------------------------- MannequinChallenge


def _track(path: Path, url: str, times_s: list[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{round(1e6 * time_s)} 0.9 1.6 0.5 0.5 0 0 1 0 0 {time_s} 0 1 0 0 0 0 1 0"
        for time_s in times_s
    ]
    path.write_text("\n".join([url, *lines]) + "\n")


def test_mannequin_clips_are_cut_by_their_timestamps(tmp_path: Path) -> None:
    footage.video(tmp_path / "videos/dQw4w9WgXcQ.mp4", footage.pan(0, 24, 8), fps=2)  # 12 s
    _track(
        tmp_path / "train/b.txt",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        [index / 2 for index in range(4, 15)],
    )  # 2 s to 7 s
    _track(
        tmp_path / "train/a.txt", "https://youtu.be/dQw4w9WgXcQ?t=3", [8.0, 8.5, 9.0]
    )  # the same video; too short
    _track(
        tmp_path / "validation/c.txt", "https://www.youtube.com/watch?v=-gone-_Video", [0.0, 9.0]
    )
    _track(tmp_path / "test/late.txt", "https://www.youtube.com/watch?v=dQw4w9WgXcQ", [40.0, 50.0])
    _touch(
        tmp_path, "test/broken.txt", data=b"https://www.youtube.com/watch?v=dQw4w9WgXcQ\n1 2 3\n"
    )
    footage.video(tmp_path / "someone/trims/x.mp4", footage.pan(1, 8, 8), fps=2)
    source = _open(
        config.Mannequin(
            reader="mannequin",
            root=tmp_path,
            videos=Path("videos"),
            crop_bottom=0.2,
            **PHONE,
            **BASE,
        )
    )
    assert source.clips() == [
        "someone/trims/x.mp4",
        "test/broken.txt",
        "test/late.txt",
        "train/a.txt",
        "train/b.txt",
        "validation/c.txt",
    ]
    assert _keys(source, "train/b.txt") == [
        (f"{second}.000", f"{second + 1}.000") for second in range(2, 7)
    ]
    first = next(iter(source.groups("train/b.txt", RNG))).views[0]
    assert first.read().shape == (180, 224, 3)  # int(0.2 x 224) rows are cut off, as published
    np.testing.assert_allclose(first.pose[:3, 3], [-2.0, 0, 0])  # world to camera in the file
    errors = {clip: source.describe(clip)["error"] for clip in source.clips()}
    assert errors["train/b.txt"] is None
    assert errors["someone/trims/x.mp4"] is None
    assert errors["train/a.txt"] == "1.0 s are less than seconds_min 3"
    assert errors["validation/c.txt"] == "video -gone-_Video is not in videos"
    assert "19 numbers" in errors["test/broken.txt"]
    for clip, reason in (
        ("test/late.txt", "ends before 40 s"),
        ("validation/c.txt", "is not in"),
        ("test/broken.txt", "not a camera"),
    ):
        with pytest.raises(Unreadable, match=reason):
            list(source.groups(clip, RNG))
    assert len(_keys(source, "someone/trims/x.mp4")) == 3


# ---------------------------------------------------------------- 3-D scans


def _scans(reader: str, root: Path, params: Params, engine: str = "embree") -> sources.Source:
    walk = params.sources["rooms"].model_dump() | {"reader": reader, "root": root, "engine": engine}
    return sources.open_source(
        "scans", config.Scans.model_validate(walk), Path(), 224, params.habitat
    )


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def test_hm3d_counts_a_scene_once_and_never_its_semantics(tmp_path: Path, params: Params) -> None:
    train, minival, val = (
        "train/00006-HkseAnWCgqk",
        "minival/00800-TEEsavR23oF",
        "val/00800-TEEsavR23oF",
    )
    for scene in (train, minival, val):
        name = scene.rpartition("-")[2]
        _touch(
            tmp_path,
            f"{scene}/{name}.basis.glb",
            f"{scene}/{name}.basis.navmesh",
            f"{scene}/{name}.semantic.glb",
            f"{scene}/{name}.semantic.txt",
        )
    _touch(tmp_path, f"{train}/HkseAnWCgqk.glb", "hm3d_basis.scene_dataset_config.json")
    assert _scans("hm3d", tmp_path, params).clips() == [
        f"{minival}/TEEsavR23oF.basis.glb",
        f"{train}/HkseAnWCgqk.glb",
    ]
    found = _scans("hm3d", tmp_path, params, "habitat").clips()
    assert found == [f"{minival}/TEEsavR23oF.basis.glb", f"{train}/HkseAnWCgqk.basis.glb"]


def test_gibson_flat_and_nested(tmp_path: Path, params: Params) -> None:
    _touch(
        tmp_path,
        "gibson/Adrian.glb",
        "gibson/Adrian.navmesh",
        "gibson/Albertville/Albertville.glb",
        "gibson/Albertville/mesh.obj",
        "copy/Adrian.glb",
    )
    assert _scans("gibson", tmp_path, params).clips() == [
        "copy/Adrian.glb",
        "gibson/Albertville/Albertville.glb",
    ]


def test_matterport_scans_are_named_like_their_folder(tmp_path: Path, params: Params) -> None:
    scan = "mp3d/17DRP5sb8fy"
    _touch(
        tmp_path,
        f"{scan}/17DRP5sb8fy.glb",
        f"{scan}/17DRP5sb8fy.house",
        f"{scan}/17DRP5sb8fy_semantic.ply",
        f"{scan}/other.glb",
        "mp3d/x.json",
    )
    assert _scans("matterport", tmp_path, params).clips() == [f"{scan}/17DRP5sb8fy.glb"]


def test_basis_textures_are_refused_with_the_remedies_and_left_to_habitat(
    tmp_path: Path, params: Params
) -> None:
    tree = b'{"asset":{"version":"2.0"},"extensionsUsed":["GOOGLE_texture_basis"],'
    tree += b'"extensionsRequired":["GOOGLE_texture_basis"]}'
    tree += b" " * (-len(tree) % 4)
    data = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(tree), len(tree), b"JSON") + tree
    _touch(
        tmp_path, "17DRP5sb8fy/17DRP5sb8fy.glb", data=data
    )  # inside a plain name, as Matterport's current archives
    source = _scans("matterport", tmp_path, params)
    (clip,) = source.clips()
    error = str(source.describe(clip)["error"])
    assert "engine: habitat" in error
    assert "plain .glb release" in error
    with pytest.raises(Unreadable, match="Basis-compressed"):
        list(source.groups(clip, RNG))
    assert _scans("matterport", tmp_path, params, "habitat").describe(clip)["error"] is None


def test_every_source_says_in_one_line_that_there_is_nothing(
    tmp_path: Path, params: Params
) -> None:
    walk = params.sources["rooms"].model_dump() | {"root": tmp_path}
    sections = [
        config.Demon(reader="demon", root=tmp_path, views_max=2, **BASE),
        config.ScanNet(reader="scannet", root=tmp_path, window=4, edge=1, second_edge=3, **BASE),
        config.PhoneVideos(reader="arkitscenes", root=tmp_path, **PHONE, **BASE),
        config.PhoneVideos(reader="objectron", root=tmp_path, **PHONE, **BASE),
        config.Mannequin(
            reader="mannequin",
            root=tmp_path,
            videos=Path("videos"),
            crop_bottom=0.2,
            **PHONE,
            **BASE,
        ),
        config.NumberedFrames(
            reader="co3d", root=tmp_path, stride=5, retry_strides=(), advance=5, **BASE
        ),
        config.StreetView(reader="streetview", root=tmp_path, keep="all", views_max=2, **BASE),
        config.Released(reader="released", root=tmp_path, index=None, **BASE),
        *(
            config.Scans.model_validate(walk | {"reader": name})
            for name in ("hm3d", "gibson", "matterport")
        ),
    ]
    (tmp_path / "readme.md").write_text("nothing of the kind")
    for section in sections:
        with pytest.raises(BadInput, match=r"^sources\.sample\.root: [^\n]+$"):
            _open(section).clips()


@pytest.mark.parametrize("reader", ["scannet", "arkitscenes", "co3d", "released"])
def test_layouts_are_walked_once_however_folders_are_linked(tmp_path: Path, reader: str) -> None:
    clips = {
        "scannet": ("scans/a", "color/0.jpg"),
        "arkitscenes": ("raw/1", "1.mov"),
        "co3d": ("car/one", "images/frame000001.jpg"),
        "released": ("set/scene", "0000.jpg"),
    }
    clip, file = clips[reader]
    _touch(tmp_path, f"{clip}/{file}", f"{clip}/0001.jpg")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / clip).with_name("again").symlink_to((tmp_path / clip).name)
    section = {
        "scannet": lambda: config.ScanNet(
            reader="scannet", root=tmp_path, window=10, edge=2, second_edge=8, **BASE
        ),
        "arkitscenes": lambda: config.PhoneVideos(
            reader="arkitscenes", root=tmp_path, **PHONE, **BASE
        ),
        "co3d": lambda: config.NumberedFrames(
            reader="co3d", root=tmp_path, stride=5, retry_strides=(), advance=10, **BASE
        ),
        "released": lambda: config.Released(reader="released", root=tmp_path, index=None, **BASE),
    }[reader]()
    source = _open(section)
    assert source.clips() == [f"{clip}/{file}" if reader == "arkitscenes" else clip]
    assert sorted(source.skipped) == sorted(["loop", Path(clip).with_name("again").as_posix()])
    assert all("a link to" in why for why in source.skipped.values())


def test_a_long_message_of_hdf5_is_whole(tmp_path: Path) -> None:
    _touch(tmp_path, "cut.h5", data=b"\x89HDF\r\n\x1a\n" + bytes(600))
    source = _open(config.Demon(reader="demon", root=tmp_path, views_max=4, **BASE))
    error = str(source.describe("cut.h5/(damaged)")["error"])
    assert "\n" not in error
    assert error.count("(") == error.count(")")


def test_a_frame_that_is_a_dead_link_or_cut_is_named(tmp_path: Path, params: Params) -> None:
    """As annexed data sets are, whose contents were not fetched."""
    frames = tmp_path / "car/one/images"
    footage.folder(frames, footage.pan(1, 3, 80), "frame{:06}.jpg")
    (frames / "frame000003.jpg").symlink_to("../../../.annex/gone")
    (frames / "frame000002.jpg").write_bytes((frames / "frame000002.jpg").read_bytes()[:400])
    source = _open(
        config.NumberedFrames(
            reader="co3d", root=tmp_path, stride=1, retry_strides=(), advance=1, **BASE
        )
    )
    assert source.clips() == ["car/one"]
    assert (
        source.describe("car/one")["error"]
        == "1 of 4 images cannot be opened, such as frame000003.jpg: No such file or directory"
    )
    stats = MiningStats()
    pairs = list(loop.mine_clip(source, "car/one", shard_job.rule_of(params.mine), 0.0, 0, stats))
    assert len(pairs) == 1
    assert stats.outcomes[Outcome.UNREADABLE] == 2
    named = stats.summary()["unreadable_views"]["car/one"]
    assert sorted(named) == ["frame000002.jpg", "frame000003.jpg"]
    assert "truncated" in named["frame000002.jpg"].lower()
    assert named["frame000003.jpg"] == "No such file or directory"


def test_a_picture_beside_scans_is_named_and_hides_none(tmp_path: Path) -> None:
    for name in ("scans/scene0000_00/color", "scans/scene0001_00/color"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "0.jpg").touch()
    (tmp_path / "scans/1.png").touch()
    source = _scannet(tmp_path)
    assert source.clips() == ["scans/scene0000_00", "scans/scene0001_00"]
    assert source.skipped == {"scans": "pictures beside scans, in none of them"}
    (tmp_path / "scans/1.png").rename(tmp_path / "1.png")  # any depth above
    source = _scannet(tmp_path)
    assert source.clips() == ["scans/scene0000_00", "scans/scene0001_00"]


@pytest.mark.parametrize("form", ["{}.jpg", "frame-{:06}.color.jpg"])
def test_thumbnails_below_a_scan_are_no_scan(tmp_path: Path, form: str) -> None:
    (tmp_path / "scene0000_00/thumbs").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "scene0000_00" / form.format(number)).touch()
        (tmp_path / "scene0000_00/thumbs" / f"{number}.jpg").touch()
    source = _scannet(tmp_path)
    assert source.clips() == ["scene0000_00"]
    assert source.skipped == {}


def test_depth_beside_colour_of_the_same_numbers_is_no_frame(tmp_path: Path) -> None:
    for number in range(4):
        pillow.new("RGB", (8, 8)).save(tmp_path / f"{number}.jpg")
        pillow.new("I;16", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "depth").mkdir()
    pillow.new("I;16", (8, 8)).save(tmp_path / "depth/0.png")
    source = _scannet(tmp_path)
    assert source.clips() == ["."]
    assert source.describe(".")["frames"] == 4


def test_a_torn_line_of_a_trajectory_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "lowres_wide.traj"
    line = "{} 1.2 -1.2 1.2 0 0 0\n"
    path.write_text("".join(line.format(n) for n in range(100)))
    turns = arkitscenes.quarter_turns(path)
    assert turns is not None
    for more in ("100 1.2 -1.2", "100 nan nan nan 0 0 0\n", "end\n"):
        path.write_text("".join(line.format(n) for n in range(100)) + more)
        assert arkitscenes.quarter_turns(path) == turns
    path.write_text("100 1.2 -1.2")
    assert arkitscenes.quarter_turns(path) is None
