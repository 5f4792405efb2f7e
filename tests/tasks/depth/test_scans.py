"""Scans of phones, in the files that their apps write."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mimic.errors import BadInput
from mimic.tasks.depth.config import DepthTask
from mimic.tasks.depth.scans import ScanVideo
from tests.support.own_labels import open_own_depth, write_photo

HEIGHT, WIDTH = 48, 64  # of depth; the camera has four times that
COUNT = 40
GREY = 5  # from a frame to the next: tells which one was decoded
B_FRAMES = {"g": "12", "bf": "2", "x265-params": "log-level=none"}


def write_scan(folder: Path, count: int = COUNT, depths: int = COUNT, codec: str = "hevc") -> None:
    """As docs.strayrobots.io/apps/scanner/format.html says; frame n is grey 20 + 5 n, and n
    centimetres further away than a metre."""
    for kind in ("depth", "confidence"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "rgb.mp4"), "w") as container:
        stream: Any = container.add_stream(codec, rate=60, options=B_FRAMES)
        stream.width, stream.height, stream.pix_fmt = 4 * WIDTH, 4 * HEIGHT, "yuv420p"
        for number in range(count):
            picture = np.full((4 * HEIGHT, 4 * WIDTH, 3), 20 + GREY * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    levels = np.full((HEIGHT, WIDTH), 2, np.uint8)
    levels[:, :8] = 0
    levels[:, 8:16] = 1
    for number in range(depths):
        depth = np.full((HEIGHT, WIDTH), 1000 + 10 * number, np.uint16)
        Image.fromarray(depth).save(folder / f"depth/{number:06d}.png")
        Image.fromarray(levels).save(folder / f"confidence/{number:06d}.png")
    (folder / "camera_matrix.csv").write_text("50, 0, 32\n0, 50, 24\n0, 0, 1\n")
    (folder / "odometry.csv").write_text("timestamp, frame, x, y, z, qx, qy, qz, qw\n")


@pytest.mark.parametrize("codec", ["hevc", "h264"])
def test_a_frame_of_stray_scanner_meets_its_own_depth(
    tmp_path: Path, own_task: DepthTask, codec: str
) -> None:
    """In any order: forwards, back over a key frame, and the same again."""
    write_scan(tmp_path / "own/71de12f9", codec=codec)
    with open_own_depth(own_task, tmp_path) as found:
        assert found.length == COUNT
        for number in (0, 1, 2, 39, 5, 6, 4, 30, 30, 13):
            frame = found.read(number)
            assert frame.image.shape == (4 * HEIGHT, 4 * WIDTH, 3)
            assert abs(float(frame.image.mean()) - (20 + GREY * number)) < 2, number
            assert np.unique(frame.depth_m[frame.valid]).tolist() == [
                pytest.approx(1 + 0.01 * number)
            ]


def test_depth_without_confidence_is_unknown_and_that_is_said(
    tmp_path: Path, own_task: DepthTask
) -> None:
    write_scan(tmp_path / "own", 5, 5)
    found = open_own_depth(own_task, tmp_path)
    assert not found.read(3).valid[:, :32].any()  # level 0
    assert found.read(3).valid[:, 32:].all()  # levels 1 and 2
    assert "depth of confidence below 1 is unknown, by confidence/" in found.notes
    before = found.digest
    Image.fromarray(np.full((HEIGHT, WIDTH), 1, np.uint8)).save(
        tmp_path / "own/confidence/000000.png"
    )
    assert open_own_depth(own_task, tmp_path).digest != before


def test_each_capture_says_for_itself_whether_it_has_confidence(
    tmp_path: Path, own_task: DepthTask
) -> None:
    """The first of them has none."""
    write_scan(tmp_path / "own/a", 5, 5)
    shutil.rmtree(tmp_path / "own/a/confidence")
    write_scan(tmp_path / "own/b", 5, 5)
    found = open_own_depth(own_task, tmp_path)
    assert found.read(0).valid.all()
    assert not found.read(5).valid[:, :32].any()
    assert (
        "depth of confidence below 1 is unknown, by confidence/; 5 images have no such map"
        in found.notes
    )


def test_confidence_beside_images_counts_where_it_holds_levels(
    tmp_path: Path, own_task: DepthTask
) -> None:
    write_scan(tmp_path / "own", 5, 5)
    for number in range(5):
        write_photo(tmp_path / f"own/color/{number:06d}.png", number, HEIGHT, WIDTH)
    found = open_own_depth(own_task, tmp_path)  # the photographs, not the video
    assert found.read(0).image.shape == (HEIGHT, WIDTH, 3)
    assert not found.read(0).valid[:, :8].any()
    for number in range(5):
        picture = np.full((HEIGHT, WIDTH), 200, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"own/confidence/{number:06d}.png")
    assert open_own_depth(own_task, tmp_path).read(0).valid.all()


def test_what_is_not_of_one_scan_is_one_line(tmp_path: Path, own_task: DepthTask) -> None:
    write_scan(tmp_path / "own", 5, 7)
    with pytest.raises(BadInput, match=r"rgb\.mp4: 5 frames, and depth of frame 6"):
        open_own_depth(own_task, tmp_path).read(6)
    (tmp_path / "own/depth/last.png").write_bytes((tmp_path / "own/depth/000000.png").read_bytes())
    with pytest.raises(BadInput, match=r"last\.png: its name is not the number of a frame"):
        open_own_depth(own_task, tmp_path)
    (tmp_path / "rgb.mp4").write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"rgb\.mp4: .*copy the scan from the phone again"):
        ScanVideo(tmp_path / "rgb.mp4")
