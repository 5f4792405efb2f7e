"""Folders of images with a `transforms.json`: what Nerfstudio, instant-ngp and NeRF's synthetic
scenes are passed on as.

Layout, at any depth below the root; a clip is a folder that holds such a file:

    transforms.json                           Nerfstudio (ns-process-data), instant-ngp
    transforms_train.json  _val  _test        NeRF's synthetic scenes; all that are there are read
    images/frame_00001.jpg ...                as `frames[].file_path` says, relative to the folder;
                                              NeRF's lack the ending .png
    images_2/ depths/ masks/ ...              not read: they are not listed

`frames[].transform_matrix` is 4 x 4, camera to world, of an OpenGL camera: x right, y up, z
backward (docs.nerf.studio/quickstart/data_conventions.html); views have their poses with y down,
z forward. It is in no unit, and nothing is judged by it. A matrix that is no motion is no pose.
Images that the file does not list have no camera, because too few of their points were found
again, and are left out. Listed images of one folder follow one another by the numbers in their
names.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.infra.confined import is_below
from mimic.sources import images
from mimic.sources.base import (
    Description,
    Group,
    Pose,
    Unreadable,
    digest_of_digests,
    numeric_order,
    read_text,
    require_folder,
)
from mimic.sources.photos import pictures
from mimic.sources.photos.folders import walk
from mimic.sources.photos.sequences import sequences

FILES = ("transforms.json", "transforms_train.json", "transforms_val.json", "transforms_test.json")
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # of a camera's axes
# Across and down in a file from those of its upright picture, by its orientation.
STORED_FROM_UPRIGHT = {
    1: ((1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    6: ((0, 1), (-1, 0)),
    8: ((0, -1), (1, 0)),
}
SKEW = 1e-3  # of a rotation's products, as far as exporters round


class TransformsSource:
    """See `config.NumberedFrames` for the numbers."""

    def __init__(self, name: str, section: config.NumberedFrames, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        clips = []
        for folder, folders, files in walk(require_folder(self.name, self.root), self.skipped):
            if set(files) & set(FILES):
                clips.append(Path(folder).as_posix())
                folders.clear()  # what is below are this clip's images
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no transforms.json below {self.root}; `reader: images` "
                "mines folders without one"
            )
        return sorted(clips, key=numeric_order)

    def describe(self, clip: str) -> Description:
        poses = self._poses(clip)
        description = images.describe(list(poses), None if poses else "no frames are listed")
        named = [
            (file.name, "" if pose is None else pose.tobytes().hex())
            for file, pose in poses.items()
        ]
        description["digest"] = digest_of_digests([("images", description["digest"]), *named])
        return description

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        """A group for every first frame, with the one `stride` later."""
        section = self._section
        poses = self._poses(clip)
        folders: dict[Path, list[Path]] = defaultdict(list)
        for file in poses:
            folders[file.parent].append(file)
        names = images.view_names(self.root / clip, poses)
        turns = functools.lru_cache(maxsize=None)(pictures.orientation)
        for folder, files in folders.items():
            for sequence in sequences(files):
                for group in images.neighbours(
                    sequence, section.stride, section.retry_strides, section.advance
                ):
                    views = (
                        dataclasses.replace(
                            view, key=names[file], pose=upright(poses[file], turns(file))
                        )
                        for view, file in ((view, folder / view.key) for view in group.views)
                    )
                    yield dataclasses.replace(group, views=tuple(views))

    def _poses(self, clip: str) -> dict[Path, Pose | None]:
        """The listed images and their poses, in numeric order.

        Raises:
            Unreadable: a file is no such list, or lists what lies outside the clip's folder.
        """
        folder = self.root / clip
        poses: dict[Path, Pose | None] = {}
        for name in FILES:
            if (folder / name).is_file():
                poses |= dict(_frame(folder, name, frame) for frame in _frames(folder / name))
        return dict(sorted(poses.items(), key=lambda item: numeric_order(item[0].as_posix())))


def _frames(path: Path) -> list[Any]:
    try:
        frames = json.loads(read_text(path))["frames"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreadable(f"{path.name}: no JSON object with `frames`") from None
    if not isinstance(frames, list):
        raise Unreadable(f"{path.name}: `frames` is no list")
    return frames


def _frame(folder: Path, name: str, frame: Any) -> tuple[Path, Pose | None]:
    """An entry of `frames`: its image and pose."""
    path = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(path, str) or not path or not is_below(path):
        raise Unreadable(f"{name}: file_path {path!r} is no path inside the folder")
    file = folder / path
    if not file.suffix:
        file = file.with_suffix(".png")
    return file, _pose(frame.get("transform_matrix"))


def upright(pose: Pose | None, turned: int) -> Pose | None:
    """The pose of the upright picture, whose camera is turned about its own axis; None of a
    mirrored one, which no camera takes.

    Args:
        turned: the picture's orientation, see `pictures.orientation`.
    """
    if pose is None or turned not in STORED_FROM_UPRIGHT:
        return None
    motion = np.eye(4)
    motion[:2, :2] = STORED_FROM_UPRIGHT[turned]
    return pose @ motion


def _pose(matrix: Any) -> Pose | None:
    """Camera to world, y down, z forward; None where the entry is no motion."""
    try:
        pose = np.array(matrix, np.float64)
    except (ValueError, TypeError):
        return None
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        return None
    is_rotation = np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() < SKEW
    return pose @ OPENCV_FROM_OPENGL if is_rotation else None
