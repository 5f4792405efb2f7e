"""Which frames lie in a folder of colour images with depth."""

from __future__ import annotations

from pathlib import Path

from mimic.sources import rgbd
from mimic.sources.rgbd_layouts import folders_below, frames_in
from tests.support.own_labels import write_folder


def test_frames_of_two_folders_are_two_scenes(tmp_path: Path) -> None:
    """They show two places, which no pair may join."""
    for scene in ("a", "b"):
        write_folder(
            tmp_path / "own",
            f"RGB/{scene}/{{}}.PNG".format,
            f"depth/{scene}/{{}}.npy".format,
            ("0", "1"),
        )
    (tmp_path / "other").mkdir()
    assert list(folders_below(tmp_path, {})) == ["own"]
    frames = frames_in(tmp_path / "own", 0.02)
    found = [(frame.scene, frame.colour.name, frame.depth) for frame in frames]
    depth = tmp_path / "own/depth"
    assert found == [
        (scene, f"{name}.PNG", depth / scene / f"{name}.npy") for scene in "ab" for name in "01"
    ]
    assert not any(frame.is_whole for frame in frames)


def test_an_image_and_links_to_it_are_mined_once(tmp_path: Path) -> None:
    """The one that lies there itself, wherever its name stands in the order."""
    for number in range(3):
        for kind in ("color", "depth"):
            path = tmp_path / f"{kind}/b/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            linked = tmp_path / f"{kind}/a/{number}.png"
            linked.parent.mkdir(parents=True, exist_ok=True)
            linked.symlink_to(f"../b/{number}.png")
    frames = frames_in(tmp_path, 0.02)
    assert len(frames) == 6
    once = rgbd._each_once(tmp_path, frames)
    assert [frame.colour.relative_to(tmp_path).as_posix() for frame in once] == [
        f"color/b/{number}.png" for number in range(3)
    ]
    assert all(frame.depth is not None for frame in once)
