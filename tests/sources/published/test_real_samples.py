"""Real frames in the published containers, mined through their readers; kept pairs are checked
against the poses that come with them."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from mimic import config, sources
from mimic.geometry.overlap import Outcome
from mimic.params import load_params
from mimic.sources import images
from tests.support import truth


@pytest.fixture(scope="module")
def mine(repository: Path) -> config.Mine:
    return load_params(repository / "params.yaml").mine


def _open(section: config.SourceBase) -> sources.Source:
    return sources.open_source("sample", section, Path(), truth.SIZE_PX)


def _demon(root: Path) -> sources.Source:
    return _open(config.Demon(reader="demon", root=root, views_max=20, **truth.BASE))


def lz4_block(data: bytes) -> bytes:
    """An LZ4 block without its frame (lz4_Block_format.md)."""
    out, at = bytearray(), 0
    while at < len(data):
        token = data[at]
        at += 1
        literals, match = token >> 4, token & 15
        for nibble in ("literals", "match"):
            length = literals if nibble == "literals" else match
            if nibble == "match":
                if at >= len(data):
                    break
                distance = data[at] | data[at + 1] << 8
                at += 2
            if length == 15:
                while True:
                    length, at = length + data[at], at + 1
                    if data[at - 1] != 255:
                        break
            if nibble == "literals":
                out += data[at : at + length]
                at += length
            else:
                for _ in range(length + 4):
                    out.append(out[-distance])
    return bytes(out)


def test_demon_pairs_are_where_their_depths_put_them(real_data: Path, mine: config.Mine) -> None:
    root = real_data / "derived_layouts/demon"
    source = _demon(root)
    clip = "traindata/sun3d_train_0.1m_to_0.2m.h5/scene_b"
    assert source.clips() == [clip.replace("scene_b", "scene_a"), clip]  # /.config is reserved
    assert source.describe(clip)["frames"] == 4
    pairs, stats = truth.mined(source, clip, mine)
    assert stats.candidates == 6
    assert len(pairs) == 1
    with h5py.File(root / clip.rpartition("/")[0]) as store:

        def view(name: str) -> tuple[np.ndarray, np.ndarray]:
            stored = store[f"scene_b/frames/t0/{name}"]
            depth = np.frombuffer(lz4_block(stored["depth"][:].tobytes()), np.float16).reshape(
                stored["depth"].attrs["extents"]
            )
            return depth.astype(np.float64), stored["camera"][:]

        (depth_a, camera), (depth_b, _) = view(pairs[0].a.key), view(pairs[0].b.key)
    fx, fy, skew, cx, cy = camera[:5]
    intrinsics = np.array([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])
    assert (
        truth.close_by_depth(
            pairs[0], depth_a, depth_b, intrinsics, pairs[0].a.pose, pairs[0].b.pose
        )
        > 0.7
    )


def test_demon_folders_hold_the_same_views_as_the_file(real_data: Path, mine: config.Mine) -> None:
    """Both layouts, their poses included; a baseline of 0.1 to 0.2 m is too similar."""
    folder, stored = _demon(real_data / "demon_sun3d"), _demon(real_data / "derived_layouts/demon")
    (clip,) = folder.clips()
    (from_folder,) = folder.groups(clip, np.random.default_rng(0))
    (from_file,) = stored.groups(stored.clips()[0], np.random.default_rng(0))
    for a, b in zip(from_folder.views, from_file.views, strict=True):
        assert np.abs(a.read().astype(int) - b.read()).mean() < 4
        np.testing.assert_allclose(a.pose, b.pose, atol=1e-5)
    pairs, stats = truth.mined(folder, clip, mine)
    assert not pairs
    assert stats.outcomes[Outcome.TOO_SIMILAR] == 1
    # by depth and pose, too, the two views see the same: the verdict is true
    root = real_data / "demon_sun3d" / clip
    depth_a, depth_b = (np.load(root / f"000{number}.npy").astype(np.float64) for number in (0, 1))
    poses = [view.pose for view in from_folder.views]
    seen = truth.covisibility.covisibility(
        depth_a,
        depth_b,
        np.loadtxt(root / "cam.txt"),
        np.loadtxt(root / "cam.txt"),
        poses[0],
        poses[1],
        0.05,
        8,
    )
    assert seen > 0.85


def test_demon_sculpture_in_the_converters_layout(
    real_data: Path, mine: config.Mine, tmp_path: Path
) -> None:
    given = real_data / "demon_sculpture"
    scene = tmp_path / "mvs_00000"
    scene.mkdir()
    for number in (1, 2):
        shutil.copy(given / f"sculpture{number}.png", scene / f"{number - 1:04}.png")
    poses = [np.loadtxt(given / f"sculpture_Rt{number}.txt")[:3].ravel() for number in (1, 2)]
    np.savetxt(scene / "poses.txt", poses)
    (tmp_path / "train.txt").write_text("mvs_00000\n")
    source = _demon(tmp_path)
    pairs, stats = truth.mined(source, "mvs_00000", mine)
    assert stats.candidates == 1
    depths = [
        np.load(given / f"sculpture_depth{number}.npy").astype(np.float64) for number in (1, 2)
    ]
    height, width = depths[0].shape
    intrinsics = np.array(
        [[0.89115971 * width, 0, width / 2], [0, 1.18821287 * height, height / 2], [0, 0, 1]]
    )  # of DeMoN's examples
    for pair in (
        pairs
    ):  # a sculpture is far from flat: parallax moves a third of the patches by more than one
        assert (
            truth.close_by_depth(pair, depths[0], depths[1], intrinsics, pair.a.pose, pair.b.pose)
            > 0.6
        )


def test_a_sens_file_gives_pairs_that_its_own_depth_confirms(
    real_data: Path, mine: config.Mine
) -> None:
    root = real_data / "derived_layouts/scannet"
    source = _open(
        config.ScanNet(reader="scannet", root=root, window=60, edge=3, second_edge=49, **truth.BASE)
    )
    clip = "scans/scene0000_00/scene0000_00.sens"
    assert source.clips() == [clip]
    assert source.describe(clip)["frames"] == 125
    pairs, stats = truth.mined(source, clip, mine)
    assert stats.candidates == 2 * 9
    assert len(pairs) == 2
    for pair in pairs:
        (depth_a, intrinsics), (depth_b, _) = (
            _sens_depth(root / clip, int(view.key)) for view in (pair.a, pair.b)
        )
        assert (
            truth.close_by_depth(pair, depth_a, depth_b, intrinsics, pair.a.pose, pair.b.pose) > 0.7
        )


def test_windows_of_a_scan_are_the_papers(real_data: Path) -> None:
    root = real_data / "derived_layouts/scannet"
    source = _open(
        config.ScanNet(
            reader="scannet", root=root, window=60, edge=10, second_edge=49, **truth.BASE
        )
    )
    groups = list(source.groups(source.clips()[0], np.random.default_rng(0)))
    assert [[int(view.key) for view in group.views] for group in groups] == [
        [*range(start, start + 10), *range(start + 49, start + 59)] for start in (0, 60)
    ]
    assert all(len(group.pairs) == 100 for group in groups)
    views = {view.key: view for group in groups for view in group.views}
    assert views["7"].pose is None  # tracking was lost: -inf
    assert views["6"].pose is not None
    assert views["7"].read().shape == (240, 320, 3)


def _sens_depth(path: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth in metres and intrinsics of a frame, read as SensReader does."""
    with path.open("rb") as file:
        _, length = struct.unpack("<IQ", file.read(12))
        file.read(length)
        matrices = np.frombuffer(file.read(4 * 64), np.float32).reshape(4, 4, 4)
        _, kind, _, _, width, height = struct.unpack("<2i4I", file.read(24))
        shift, _ = struct.unpack("<fQ", file.read(12))
        for _ in range(index + 1):
            colour, depth = struct.unpack("<4Q", file.read(96)[64:])[2:]
            file.seek(colour, 1)
            data = file.read(depth)
    assert kind == 1
    values = np.frombuffer(zlib.decompress(data), np.uint16).reshape(height, width)
    return np.where(values < 65535, values, 0) / shift, matrices[2, :3, :3].astype(np.float64)


def test_co3d_pairs_lie_on_the_epipolar_lines_of_their_annotation(
    real_data: Path, mine: config.Mine
) -> None:
    root = real_data / "derived_layouts/co3dv2"
    source = _open(
        config.NumberedFrames(
            reader="co3d", root=root, stride=5, retry_strides=(), advance=1, **truth.BASE
        )
    )
    assert source.clips() == ["toybus/110_13051_23361"]  # not set_lists, not eval_batches
    pairs, stats = truth.mined(source, source.clips()[0], mine)
    assert stats.candidates == 6
    assert len(pairs) >= 3
    with gzip.open(root / "toybus/frame_annotations.jgz") as file:
        annotations = {Path(record["image"]["path"]).name: record for record in json.load(file)}
    for pair in pairs:
        (pose_a, camera_a, size_px), (pose_b, camera_b, _) = (
            _co3d_camera(annotations[view.key]) for view in (pair.a, pair.b)
        )
        off = truth.patches_off_line(pair, size_px, camera_a, camera_b, pose_a, pose_b)
        assert np.median(off) < 0.5


def _co3d_camera(record: dict) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Pose (camera to world, OpenCV axes), intrinsics and (width, height): PyTorch3D has x left, y
    up, and points as rows."""
    height, width = record["image"]["size"]
    viewpoint = record["viewpoint"]
    assert viewpoint["intrinsics_format"] == "ndc_isotropic"
    half = min(height, width) / 2
    focal, principal = (
        np.array(viewpoint[name]) * half for name in ("focal_length", "principal_point")
    )
    intrinsics = np.array(
        [
            [focal[0], 0, width / 2 - principal[0]],
            [0, focal[1], height / 2 - principal[1]],
            [0, 0, 1],
        ]
    )
    flip = np.diag([-1.0, -1.0, 1.0])
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = flip @ np.array(viewpoint["R"]).T
    camera_from_world[:3, 3] = flip @ np.array(viewpoint["T"])
    return np.linalg.inv(camera_from_world), intrinsics, (width, height)


def test_kitchen_frames_as_a_scannet_export(
    real_data: Path, mine: config.Mine, tmp_path: Path
) -> None:
    """The C++ export's names: the frames lie there, every fifth, with depth and pose; the reader
    takes numbers as they come."""
    given = real_data / "seven_scenes_kitchen"
    scan = tmp_path / "scans/scene0000_00"
    scan.mkdir(parents=True)
    for file in (given / "frames").iterdir():
        (scan / file.name).symlink_to(file)
    source = _open(
        config.ScanNet(
            reader="scannet", root=tmp_path, window=12, edge=2, second_edge=6, **truth.BASE
        )
    )
    assert source.clips() == ["scans/scene0000_00"]
    pairs, stats = truth.mined(source, source.clips()[0], mine)
    assert stats.candidates == 4 * (len(list((given / "frames").glob("*.color.*"))) // 12)
    assert len(pairs) >= 2
    intrinsics = np.loadtxt(given / "camera-intrinsics.txt")
    for pair in pairs:
        depths = []
        for view in (pair.a, pair.b):
            depth = cv2.imread(
                str(given / "frames" / view.key.replace(".color.jpg", ".depth.png")),
                cv2.IMREAD_UNCHANGED,
            )
            depths.append(np.where(depth < 65535, depth, 0) / 1000.0)
        assert (
            truth.close_by_depth(pair, depths[0], depths[1], intrinsics, pair.a.pose, pair.b.pose)
            > 0.6
        )


def test_fox_photos_are_rejected_as_too_similar_truly(real_data: Path, mine: config.Mine) -> None:
    """Eight photos of an object, a small step apart: matched patches lie on the epipolar lines of
    the poses, and overlap too much."""
    source = _open(_images(real_data / "fox/images", "neighbours"))
    given = json.loads((real_data / "fox/transforms.json").read_text())
    poses = {
        Path(frame["file_path"]).name: np.array(frame["transform_matrix"])
        for frame in given["frames"]
    }
    intrinsics = np.array(
        [[given["fl_x"], 0, given["cx"]], [0, given["fl_y"], given["cy"]], [0, 0, 1]]
    )
    wide = mine.model_copy(update={"overlap_max": 1.0, "overlap_min": 0.5})
    pairs, _ = truth.mined(source, ".", wide)
    assert len(pairs) >= 3
    for pair in pairs:
        assert pair.comparison.overlap > 0.75
        pose_a, pose_b = (
            truth.covisibility.from_opengl(poses[view.key]) for view in (pair.a, pair.b)
        )
        assert (
            np.median(
                truth.patches_off_line(pair, (1080, 1920), intrinsics, intrinsics, pose_a, pose_b)
            )
            < 0.5
        )


def test_wide_walks_and_mixed_photos_make_counted_outcomes(
    real_data: Path, mine: config.Mine
) -> None:
    """No truth comes with these: every candidate must end in one outcome, and RGBA files and mixed
    sizes must be read."""
    for folder, pairing, candidates in (
        ("opensfm_lund", "neighbours", 9),
        ("sacre_coeur", "all", None),
        ("croco_chateau", "all", 1),
    ):
        files = [
            file
            for file in (real_data / folder).iterdir()
            if file.suffix.lower() in images.EXTENSIONS
        ]
        _, stats = truth.mined(_open(_images(real_data / folder, pairing)), ".", mine)
        assert stats.candidates == (candidates or len(files) * (len(files) - 1) // 2)
        assert not stats.outcomes[Outcome.UNREADABLE]


def _images(root: Path, pairing: Any) -> config.Images:
    numbers: dict[str, Any] = {"stride": 1, "retry_strides": (), "advance": 1, "group_max": 20}
    return config.Images(
        reader="images", root=root, pairing=pairing, glob="*", **numbers, **truth.BASE
    )
