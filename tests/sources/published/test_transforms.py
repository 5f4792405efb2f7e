"""Folders with a transforms.json: which images are listed, their poses, and what is no list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as pillow

from mimic import config, sources
from mimic.errors import BadInput
from mimic.params import packaged
from mimic.sources.base import describe
from tests.support import footage, truth


def _open(root: Path, stride: int = 1) -> sources.Source:
    section = config.NumberedFrames(
        reader="transforms",
        root=root,
        stride=stride,
        retry_strides=(),
        advance=1,
        **truth.BASE,
    )
    return sources.open_source("nerf", section, Path(), 224)


def _groups(source: sources.Source, clip: str) -> list[sources.Group]:
    return list(source.groups(clip, np.random.default_rng(0)))


def _frames(folder: Path, names: list[str], pictures: list[np.ndarray]) -> list[dict[str, Any]]:
    """Images in a folder, and entries that list them, each at its number along x."""
    entries = []
    for number, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(picture).save(file)
        matrix = np.eye(4)
        matrix[0, 3] = number
        entries.append({"file_path": name, "transform_matrix": matrix.tolist()})
    return entries


def _write(path: Path, entries: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"camera_angle_x": 0.7, "frames": entries}))


def test_listed_images_are_paired_by_their_numbers_and_have_poses(tmp_path: Path) -> None:
    names = [f"images/frame_{number:05d}.png" for number in (1, 2, 3, 5)]
    entries = _frames(tmp_path / "room", names, footage.pan(0, 4, 16))
    entries[1]["transform_matrix"] = [
        [0.0, 0.0, 1.0, 4.0],
        [1.0, 0.0, 0.0, 5.0],
        [0.0, 1.0, 0.0, 6.0],
    ]
    _write(tmp_path / "room/transforms.json", entries[::-1])
    pillow.fromarray(footage.pan(1, 1, 1)[0]).save(tmp_path / "room/images/frame_00004.png")
    source = _open(tmp_path)
    assert source.clips() == ["room"]
    assert source.describe("room")["frames"] == 4
    groups = _groups(source, "room")
    keys = [tuple(view.key[6:11] for view in group.views) for group in groups]
    assert keys == [("00001", "00002"), ("00002", "00003")]  # 4 is not listed
    first, second = groups[0].views
    np.testing.assert_array_equal(first.pose, np.diag([1.0, -1, -1, 1]))  # y down, z forward
    expected = [[0, 0, -1, 4], [1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 0, 1]]
    np.testing.assert_array_equal(second.pose, expected)


def test_a_scene_of_nerf_lists_names_without_an_ending(tmp_path: Path) -> None:
    for split in ("train", "test"):
        names = [f"./{split}/r_{number}.png" for number in range(3)]
        entries = _frames(tmp_path / "lego", names, footage.pan(0, 3, 16))
        bare = [entry | {"file_path": entry["file_path"][:-4]} for entry in entries]
        _write(tmp_path / f"lego/transforms_{split}.json", bare)
    source = _open(tmp_path)
    assert source.describe("lego")["frames"] == 6
    folders = {view.read().shape for group in _groups(source, "lego") for view in group.views}
    assert folders == {(224, 224, 3)}
    assert len(_groups(source, "lego")) == 4  # two of each folder


def test_folders_whose_pictures_are_called_alike_are_mined_each_for_itself(tmp_path: Path) -> None:
    """Cameras of a rig: the second one's pairs show what the second one saw."""
    for seed, camera in enumerate(("left", "right")):
        names = [f"{camera}/{number}.png" for number in range(2)]
        entries = _frames(tmp_path, names, footage.pan(3 * seed, 2, 80))
        _write(tmp_path / f"transforms_{'train' if seed == 0 else 'val'}.json", entries)
    pairs, _ = truth.mined(_open(tmp_path), ".", packaged().mine)
    assert [(pair.a.key, pair.b.key) for pair in pairs] == [
        (f"{camera}/0.png", f"{camera}/1.png") for camera in ("left", "right")
    ]
    assert np.abs(pairs[0].image_a.astype(int) - pairs[1].image_a).mean() > 20


def test_mined_pairs_overlap_as_far_as_the_camera_moved(tmp_path: Path) -> None:
    names = [f"images/frame_{number:05d}.png" for number in range(4)]
    _write(tmp_path / "transforms.json", _frames(tmp_path, names, footage.pan(3, 4, 80)))
    pairs, _ = truth.mined(_open(tmp_path), ".", packaged().mine)
    assert len(pairs) == 3
    for pair in pairs:
        assert abs(pair.comparison.overlap - (1 - 80 / footage.SIDE_PX)) < 0.1


def test_a_matrix_that_is_no_motion_is_no_pose(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(5)]
    entries = _frames(tmp_path, names, footage.pan(0, 5, 16))
    entries[0]["transform_matrix"] = (2 * np.eye(4)).tolist()
    entries[1]["transform_matrix"] = [[float("nan")] * 4] * 4
    entries[2]["transform_matrix"] = "unknown"
    del entries[3]["transform_matrix"]
    _write(tmp_path / "transforms.json", entries)
    views = [group.views for group in _groups(_open(tmp_path), ".")]
    assert [first.pose is None for first, _ in views] == [True] * 4
    assert views[-1][1].pose is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON object with `frames`"),
        ("[]", "no JSON object with `frames`"),
        ('{"frames": 3}', "`frames` is no list"),
        ('{"frames": [{"file_path": "../secret.png"}]}', "no path inside the folder"),
        ('{"frames": [{"file_path": "/etc/secret.png"}]}', "no path inside the folder"),
        ('{"frames": [{"file_path": null}]}', "no path inside the folder"),
        ('{"frames": ["a.png"]}', "no path inside the folder"),
    ],
)
def test_what_is_no_list_is_one_line_of_the_clip(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "transforms.json").write_text(text)
    error = describe(_open(tmp_path), ".")["error"]
    assert error is not None
    assert error.startswith("transforms.json: ")
    assert why in error


def test_an_image_that_is_missing_is_counted(tmp_path: Path) -> None:
    entries = _frames(tmp_path, ["0.png", "1.png", "2.png"], footage.pan(0, 3, 16))
    (tmp_path / "1.png").unlink()
    _write(tmp_path / "transforms.json", entries)
    error = _open(tmp_path).describe(".")["error"]
    assert error == "1 of 3 images cannot be opened, such as 1.png: No such file or directory"


def test_another_pose_is_another_clip(tmp_path: Path) -> None:
    entries = _frames(tmp_path, ["0.png", "1.png"], footage.pan(0, 2, 16))
    _write(tmp_path / "transforms.json", entries)
    before = _open(tmp_path).describe(".")["digest"]
    entries[1]["transform_matrix"][0][3] = 9.0
    _write(tmp_path / "transforms.json", entries)
    assert _open(tmp_path).describe(".")["digest"] != before


def test_a_root_without_such_a_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(BadInput, match=r"no transforms.json below .*; `reader: images` mines"):
        _open(tmp_path).clips()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_pose_of_a_turned_picture_is_that_of_the_upright_one(
    tmp_path: Path, orientation: int
) -> None:
    """A point that the file shows in one place is seen by the upright camera where it lies now."""
    height, width = 40, 60
    picture = np.zeros((height, width, 3), np.uint8)
    picture[4:8, 6:10] = 255  # above and left of the middle
    entries = _frames(tmp_path / "room", ["0.png", "1.png"], [picture, picture])
    exif = pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for name in ("0.png", "1.png"):
        with pillow.open(tmp_path / "room" / name) as file:
            file.save(tmp_path / "room" / name, exif=exif)
    _write(tmp_path / "room/transforms.json", entries)
    (group,) = _groups(_open(tmp_path), "room")
    view = group.views[0]
    if orientation in (2, 4, 5, 7):
        assert view.pose is None
        return
    seen = np.argwhere(view.read()[..., 0] > 128).mean(axis=0)[::-1] + 0.5  # across, down
    upright = np.array(view.read().shape[1::-1])
    ray = np.append(seen - upright / 2, 30.0)  # of a camera of 30 px
    stored = np.append(np.array([8.0, 6.0]) - np.array([width, height]) / 2, 30.0)
    lying = np.diag([1.0, -1, -1])  # what the file says, y down, z forward
    np.testing.assert_allclose(view.pose[:3, :3] @ ray, lying @ stored, atol=0.6)
