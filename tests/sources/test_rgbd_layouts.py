"""Which frames lie in a folder of colour images with depth."""

from __future__ import annotations

from pathlib import Path

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
