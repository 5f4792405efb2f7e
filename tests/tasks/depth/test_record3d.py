"""Captures of Record3D, in the files that its app writes, compressed by the same method."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.tasks.depth import record3d
from mimic.tasks.depth.config import DepthTask
from mimic.tasks.depth.sets import open_depth
from tests.support.own_labels import open_own_depth, write_photo

lzfse = pytest.importorskip("lzfse", reason="lzfse is not installed (pip install lzfse)")

WIDTH, HEIGHT = 48, 64  # of depth; the photographs have twice that
COUNT = 5


def write_capture(folder: Path, count: int = COUNT, **metadata: int) -> None:
    """Frame n is n centimetres further away than a metre, nothing is known of its first rows, and
    its first columns are not sure."""
    (folder / "rgbd").mkdir(parents=True)
    levels = np.full((HEIGHT, WIDTH), 2, np.uint8)
    levels[:, :8] = 0
    levels[:, 8:16] = 1
    for number in range(count):
        depth = np.full((HEIGHT, WIDTH), 1 + 0.01 * number, np.float32)
        depth[:4] = np.nan
        depth[4:8] = 0
        write_photo(folder / f"rgbd/{number}.jpg", number, 2 * HEIGHT, 2 * WIDTH)
        (folder / f"rgbd/{number}.depth").write_bytes(lzfse.compress(depth.tobytes()))
        (folder / f"rgbd/{number}.conf").write_bytes(lzfse.compress(levels.tobytes()))
    sizes = {"w": 2 * WIDTH, "h": 2 * HEIGHT, **metadata}
    (folder / "metadata").write_text(json.dumps({**sizes, "K": 9 * [1.0], "fps": 60}))


def pack(folder: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder))


@pytest.mark.parametrize("stated", [{}, {"dw": WIDTH, "dh": HEIGHT}])
def test_an_unpacked_capture_is_read_in_metres(
    tmp_path: Path, own_task: DepthTask, stated: dict[str, int]
) -> None:
    write_capture(tmp_path / "own/desk", **stated)
    with open_own_depth(own_task, tmp_path) as capture:
        assert capture.length == COUNT
        assert capture.unit.name == "metres"
        for number in range(COUNT):
            frame = capture.read(number)
            assert frame.image.shape == (2 * HEIGHT, 2 * WIDTH, 3)
            assert frame.depth_m.shape == (2 * HEIGHT, 2 * WIDTH)
            assert not frame.valid[:16].any()  # not a number, and 0
            assert not frame.valid[:, :16].any()  # level 0
            assert frame.valid[16:, 16:].all()  # levels 1 and 2
            assert np.unique(frame.depth_m[frame.valid]) == pytest.approx([1 + 0.01 * number])
        assert "depth of confidence below 1 is unknown, by *.conf" in capture.notes


def test_a_camera_without_confidence_knows_all_its_depth(
    tmp_path: Path, own_task: DepthTask
) -> None:
    write_capture(tmp_path / "own")
    for path in (tmp_path / "own/rgbd").glob("*.conf"):
        path.unlink()
    capture = open_own_depth(own_task, tmp_path)
    assert capture.read(2).valid[16:].all()
    assert not any("confidence" in note for note in capture.notes)


def test_a_photograph_without_depth_is_counted(tmp_path: Path, own_task: DepthTask) -> None:
    write_capture(tmp_path / "own")
    (tmp_path / "own/rgbd/3.depth").unlink()
    capture = open_own_depth(own_task, tmp_path)
    assert capture.length == COUNT - 1
    assert any("1 without depth" in note for note in capture.notes)


def test_a_packed_capture_says_how_it_is_unpacked(tmp_path: Path, own_task: DepthTask) -> None:
    write_capture(tmp_path / "made")
    (tmp_path / "own").mkdir()
    pack(tmp_path / "made", tmp_path / "own/desk.r3d")
    for task in (own_task, own_task.model_copy(update={"layout": "folders"})):
        with pytest.raises(BadInput, match=r"unzip .*/own/desk\.r3d -d .*/own/desk$"):
            open_depth(task, tmp_path)


def test_half_a_capture_is_one_line(tmp_path: Path, own_task: DepthTask) -> None:
    write_capture(tmp_path / "own/desk")
    (tmp_path / "own/desk/metadata").unlink()
    with pytest.raises(BadInput, match=r"0\.depth: of Record3D, and no metadata"):
        open_depth(own_task, tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"nothing", "damaged"),
        (lzfse.compress(bytes(4 * 7)), "7 values are no image of the aspect 96 x 128"),
        (b"bvx$", "0 values are no image|damaged"),
        (bytes(1 << 18), "larger than its photograph"),
    ],
)
def test_damaged_depth_is_one_line(
    tmp_path: Path, own_task: DepthTask, content: bytes, why: str
) -> None:
    write_capture(tmp_path / "own")
    (tmp_path / "own/rgbd/0.depth").write_bytes(content)
    with pytest.raises(BadInput, match=rf"0\.depth: .*{why}"):
        open_own_depth(own_task, tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"w": 3}', '{"w": "wide", "h": 4}', '{"w": 0, "h": 1}']
)
def test_damaged_metadata_is_one_line(tmp_path: Path, own_task: DepthTask, content: str) -> None:
    write_capture(tmp_path / "own")
    (tmp_path / "own/metadata").write_text(content)
    with pytest.raises(BadInput, match="metadata"):
        open_own_depth(own_task, tmp_path)


def test_without_its_library_the_line_says_which(
    tmp_path: Path, own_task: DepthTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_capture(tmp_path / "own")
    monkeypatch.setitem(sys.modules, "lzfse", None)
    with pytest.raises(BadInput, match="which `pip install lzfse` reads"):
        open_own_depth(own_task, tmp_path)


def test_sizes_follow_the_photograph_where_none_are_stated() -> None:
    """Of a LiDAR and of a TrueDepth camera."""
    assert record3d._size({"w": 720, "h": 960}, 192 * 256) == (256, 192)
    assert record3d._size({"w": 720, "h": 960}, 480 * 640) == (640, 480)
    assert record3d._size({"w": 960, "h": 720, "dw": 256, "dh": 192}, 192 * 256) == (192, 256)
