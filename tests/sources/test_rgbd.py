"""Colour images with depth and poses: a wall seen by a camera that moves along it, so that every
overlap and every match can be written down; in each layout, and damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as pillow

from mimic import config, sources
from mimic.errors import BadInput
from mimic.geometry.overlap import Outcome
from mimic.params import load_params
from mimic.sources.base import describe
from mimic.sources.rgbd import RGBD
from tests.support import truth

# A wall 2 m ahead; images twice as wide as high, squashed to 14 x 14 patches when mined.
WIDTH, HEIGHT, FOCAL, AHEAD_M = 448, 224, 320.0, 2.0
PATCH_M = 32 * AHEAD_M / FOCAL  # along the wall, from one column of patches to the next
COLUMNS = (0, 2, 4, 6, 8, 10)  # where the camera is, in columns of patches
K = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
NUMBERS: dict[str, Any] = {
    "reader": "rgbd",
    "depth_per_m": 1000.0,
    "intrinsics": None,
    "time_s": 0.02,
    "stride": 1,
    "reach": 5,
    "advance": 1,
    "overlap_min": 0.4,
    "overlap_max": 0.75,
    "patches": 14,
    "depth_tolerance": 0.05,
}
Layout = Callable[[Path, float], None]


def _images() -> list[tuple[np.ndarray, np.ndarray]]:
    """Colour and pose of each frame; the depth is 2 m everywhere."""
    wall = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, 200, 3), dtype=np.uint8)
    wall = wall.repeat(8, axis=0).repeat(8, axis=1)
    found = []
    for column in COLUMNS:
        pose = np.eye(4)
        pose[0, 3] = column * PATCH_M
        found.append((wall[:, 32 * column : 32 * column + WIDTH], pose))
    return found


def _depth(per_m: float) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), AHEAD_M * per_m, np.uint16)


def _suffixed(folder: Path, per_m: float) -> None:
    """7-Scenes."""
    folder.mkdir(parents=True)
    for number, (image, pose) in enumerate(_images()):
        stem = folder / f"frame-{number:06d}"
        cv2.imwrite(f"{stem}.color.png", image)
        cv2.imwrite(f"{stem}.depth.png", _depth(per_m))
        np.savetxt(f"{stem}.pose.txt", pose)
    np.savetxt(folder.parent / "camera-intrinsics.txt", K)


def _parted(folder: Path, per_m: float) -> None:
    """ScanNet's Python export."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    for number, (image, pose) in enumerate(_images()):
        cv2.imwrite(str(folder / f"color/{number}.png"), image)
        cv2.imwrite(str(folder / f"depth/{number}.png"), _depth(per_m))
        np.savetxt(folder / f"pose/{number}.txt", pose)
    np.savetxt(folder / "intrinsic/intrinsic_depth.txt", np.pad(K, (0, 1)))


def _tum(folder: Path, per_m: float) -> None:
    """TUM RGB-D: clocks of images, depths and poses differ."""
    (folder / "rgb").mkdir(parents=True)
    (folder / "depth").mkdir()
    colour, depth, poses = ["# colour"], ["# depth"], ["# time tx ty tz qx qy qz qw"]
    for number, (image, pose) in enumerate(_images()):
        time = 1305031102.0 + number / 5
        cv2.imwrite(str(folder / f"rgb/{time:.6f}.png"), image)
        cv2.imwrite(str(folder / f"depth/{time + 0.01:.6f}.png"), _depth(per_m))
        colour.append(f"{time:.6f} rgb/{time:.6f}.png")
        depth.append(f"{time + 0.01:.6f} depth/{time + 0.01:.6f}.png")
        for late, wrong in ((0.005, 0.0), (0.1, 9.0)):  # the second one belongs to no image
            x, y, z = pose[:3, 3] + wrong
            poses.append(f"{time + late:.4f} {x:.6f} {y:.6f} {z:.6f} 0 0 0 1")
    for name, lines in (("rgb", colour), ("depth", depth), ("groundtruth", poses)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "intrinsics.txt").write_text(f"{FOCAL} {FOCAL} {K[0, 2]} {K[1, 2]}\n")


LAYOUTS = {"7-scenes": _suffixed, "scannet": _parted, "tum": _tum}


@pytest.fixture(scope="module")
def mine(repository: Path) -> config.Mine:
    return load_params(repository / "params.yaml").mine


def opened(root: Path, **numbers: Any) -> sources.Source:
    section = RGBD(root=root, **NUMBERS | truth.BASE | numbers)
    return sources.open_source("scans", section, Path(), truth.SIZE_PX)


def shifted(columns: int) -> np.ndarray:
    """The map of a view that lies so many columns of patches to the right."""
    expected = np.full((14, 14), -1)
    expected[:, columns:] = np.arange(196).reshape(14, 14)[:, : 14 - columns]
    return expected.ravel()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_the_least_overlapping_of_the_band_with_their_true_map(
    layout: str, tmp_path: Path, mine: config.Mine
) -> None:
    per_m = 5000.0 if layout == "tum" else 1000.0
    LAYOUTS[layout](tmp_path / "wall/one", per_m)
    source = opened(tmp_path, depth_per_m=per_m)
    assert source.clips() == ["wall/one"]
    pairs, tally = truth.mined(source, "wall/one", mine)
    # 8 of 14 columns are seen after 6 columns of motion (0.57), 6 after 8 columns (0.43)
    moved = [pair.b.pose[0, 3] - pair.a.pose[0, 3] for pair in pairs]
    columns = [round(by / PATCH_M) for by in moved]
    assert columns == [8, 8, 6, 4]
    for pair, by in zip(pairs, columns, strict=True):
        assert np.array_equal(pair.comparison.correspondences, shifted(by))
        assert pair.comparison.overlap == pytest.approx(1 - by / 14)
    assert tally.outcomes[Outcome.KEPT] == tally.candidates == 4


def test_the_pictures_of_a_pair_agree_where_the_map_says(tmp_path: Path, mine: config.Mine) -> None:
    _suffixed(tmp_path / "wall", 1000.0)
    pairs, _ = truth.mined(opened(tmp_path), "wall", mine)
    for pair in pairs:
        by = 16 * round((pair.b.pose[0, 3] - pair.a.pose[0, 3]) / PATCH_M)
        off = np.abs(pair.image_a[:, by:].astype(int) - pair.image_b[:, :-by])
        assert off.mean() < 1


def test_another_k_is_another_clip(tmp_path: Path) -> None:
    """Its pairs are of the K that they were chosen by."""
    _suffixed(tmp_path / "wall", 1000.0)
    digests = {opened(tmp_path).describe("wall")["digest"]}
    np.savetxt(tmp_path / "camera-intrinsics.txt", np.diag([2.0, 1.0, 1.0]) @ K)
    digests.add(opened(tmp_path).describe("wall")["digest"])
    (tmp_path / "camera-intrinsics.txt").unlink()
    digests.add(opened(tmp_path).describe("wall")["digest"])
    assert len(digests) == 3


def test_a_colour_that_a_viewer_would_turn_is_unreadable_by_name(
    tmp_path: Path, mine: config.Mine
) -> None:
    """Its depth, K and pose are of the picture as the sensor has it."""
    _parted(tmp_path / "wall", 1000.0)
    for path in sorted((tmp_path / "wall/color").iterdir()):
        exif = pillow.Exif()
        exif[ExifTags.Base.Orientation] = 3
        with pillow.open(path) as picture:
            picture.save(path, exif=exif)
    pairs, tally = truth.mined(opened(tmp_path), "wall", mine)
    assert pairs == []
    assert tally.outcomes[Outcome.UNREADABLE] == tally.candidates > 0
    assert "EXIF orientation 3: depth, K and pose are of the picture as the sensor" in str(tally)


def test_pictures_of_several_folders_have_names_of_their_own(
    tmp_path: Path, mine: config.Mine
) -> None:
    for scene in ("a", "b"):
        _parted(tmp_path / scene, 1000.0)
        for kind in ("color", "depth", "pose"):
            (tmp_path / "wall" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / scene / kind).rename(tmp_path / "wall" / kind / scene)
    (tmp_path / "a/intrinsic").rename(tmp_path / "wall/intrinsic")
    pairs, _ = truth.mined(opened(tmp_path), "wall", mine)
    names = [key for pair in pairs for key in (pair.a.key, pair.b.key)]
    assert {name.partition("/")[0] for name in names} == {"color"}
    assert {name.split("/")[1] for name in names} == {"a", "b"}


def test_a_surface_that_hides_the_wall_is_no_overlap(tmp_path: Path, mine: config.Mine) -> None:
    """A board half a metre before the cameras, in the later views only."""
    _suffixed(tmp_path / "wall", 1000.0)
    for number in range(1, len(COLUMNS)):
        near = _depth(1000.0)
        near[:, :] = 500
        cv2.imwrite(str(tmp_path / f"wall/frame-{number:06d}.depth.png"), near)
    pairs, tally = truth.mined(opened(tmp_path, advance=6), "wall", mine)
    assert pairs == []
    assert "no two frames within 5 overlap by 0.4 to 0.75" in str(tally)


def test_frames_without_depth_or_pose_are_left_out_and_counted(
    tmp_path: Path, mine: config.Mine
) -> None:
    _suffixed(tmp_path / "wall", 1000.0)
    (tmp_path / "wall/frame-000001.depth.png").unlink()
    (tmp_path / "wall/frame-000003.pose.txt").unlink()
    lost = np.full((4, 4), -np.inf)
    np.savetxt(tmp_path / "wall/frame-000005.pose.txt", lost)
    source = opened(tmp_path)
    about = describe(source, "wall")
    assert about["frames"] == 6
    assert about["error"] is None
    assert about["note"] == "of 6 frames 1 have no depth and 2 no pose; they are left out"
    pairs, _ = truth.mined(source, "wall", mine)
    assert {view.key for pair in pairs for view in (pair.a, pair.b)} <= {
        f"frame-{number:06d}.color.png" for number in (0, 2, 4)
    }


def test_a_damaged_depth_image_is_an_unreadable_candidate_by_name(
    tmp_path: Path, mine: config.Mine
) -> None:
    _suffixed(tmp_path / "wall", 1000.0)
    broken = tmp_path / "wall/frame-000004.depth.png"
    broken.write_bytes(broken.read_bytes()[:60])
    cv2.imwrite(str(tmp_path / "wall/frame-000005.depth.png"), _depth(1000.0)[::2, ::2])
    pairs, tally = truth.mined(opened(tmp_path), "wall", mine)
    assert [round(pair.b.pose[0, 3] / PATCH_M) for pair in pairs] == [6, 6]
    assert tally.outcomes[Outcome.UNREADABLE] == 2
    named = str(tally)
    assert "frame-000004.depth.png" in named
    assert "frame-000005.depth.png" in named


@pytest.mark.parametrize(
    ("numbers", "breakage", "said"),
    [
        ({"depth_per_m": 1.0}, None, "is depth_per_m 1 right"),
        ({}, "camera-intrinsics.txt", "K is not known"),
        ({"K": "fx fy cx cy\n577 577 319 239\n"}, None, "is there, and no table of numbers"),
        ({"K": "577, 577, 319.5, 239.5"}, None, "is there, and no table of numbers"),
        ({}, "*.pose.txt", "6 no pose; they are left out; reader images needs neither"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    numbers: dict[str, Any], breakage: str | None, said: str, tmp_path: Path, mine: config.Mine
) -> None:
    _suffixed(tmp_path / "wall", 1000.0)
    if text := numbers.pop("K", None):  # not passed over for one further up, or in params.yaml
        (tmp_path / "camera-intrinsics.txt").rename(tmp_path / "intrinsics.txt")
        (tmp_path / "wall/intrinsics.txt").write_text(text)
        numbers = {"intrinsics": (577.0, 577.0, 319.5, 239.5)}
    for path in tmp_path.rglob(breakage or "nothing"):
        path.unlink()
    pairs, tally = truth.mined(opened(tmp_path, **numbers), "wall", mine)
    text = str(tally)
    assert pairs == []
    assert said in text


def test_a_line_that_is_no_time_and_path_is_named(tmp_path: Path, mine: config.Mine) -> None:
    _tum(tmp_path / "wall", 5000.0)
    with (tmp_path / "wall/rgb.txt").open("a") as file:
        file.write("1305031109.0 ../../elsewhere.png\n")
    _, tally = truth.mined(opened(tmp_path, depth_per_m=5000.0), "wall", mine)
    assert "rgb.txt: line 7 is not 'time path'" in str(tally)


def test_sequences_of_a_scene_and_scans_of_a_room_lie_on_one_side(tmp_path: Path) -> None:
    section = RGBD(root=tmp_path, **NUMBERS | truth.BASE)
    assert section.scene_group("chess/seq-01") == section.scene_group("chess/seq-02") == "chess"
    assert section.scene_group("fire/seq-01") == "fire"
    assert section.scene_group("scans/scene0011_00") == section.scene_group("scans/scene0011_01")
    assert section.scene_group("a/desk") != section.scene_group("a/floor")


def test_a_root_without_such_folders_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match="no folder of colour images with depth"):
        opened(tmp_path).clips()
