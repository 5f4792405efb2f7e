"""DeMoN: real and rendered scenes of two or more views.

Layouts, both accepted below one root:

    <file>.h5      /<scene>/frames/t0/v<i>/image     int8 bytes of a WebP file (attr format=b"webp")
                   /<scene>/frames/t0/v<i>/camera    float64[17] = fx fy skew cx cy, R column-major
                                                     (9), t (3); X_camera = R X + t
                   top-level names that start with "." (/.config) are reserved
    <scene>/0000.jpg 0001.jpg ...  poses.txt         the usual converter: 12 numbers a view, [R|t]
                                                     world to camera

A clip is a scene ("<file>.h5/<scene>", or the folder); its one group holds every pair of views.
Terms: research only.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.sources import images
from mimic.sources.base import (
    Description,
    Group,
    Image,
    Pose,
    Unreadable,
    View,
    camera_to_world,
    content_digest,
    digest_of_digests,
    digest_with,
    files_below,
    files_in,
    numeric_order,
    read_numbers,
    require_folder,
)
from mimic.sources.hdf5 import item

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
CAMERA_NUMBERS = 17
POSES = "poses.txt"
IMAGE_BYTES_MAX = 64 << 20  # a damaged file may announce any size
# the scene that a file which does not open stands for, so that its error is counted
DAMAGED = "(damaged)"


class DemonSource:
    """See `config.Demon` for the numbers."""

    def __init__(self, name: str, section: config.Demon, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}
        self._file_digest = functools.cache(content_digest)  # a file holds thousands of scenes

    def clips(self) -> list[str]:
        root = require_folder(self.name, self.root)
        clips = [
            f"{file}/{scene}"
            for file in files_below(root, frozenset({".h5"}), self.skipped)
            for scene in _scenes(root / file)
        ]
        clips += dict.fromkeys(
            Path(image).parent.as_posix() for image in files_below(root, EXTENSIONS, self.skipped)
        )
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: neither .h5 files nor scene folders with images in "
                f"{root}"
            )
        return sorted(clips, key=numeric_order)

    def describe(self, clip: str) -> Description:
        file, scene = self._container(clip)
        if file is None:
            files = self._files(clip)
            description = images.describe(files, self._too_many(len(files)))
            poses = [self.root / clip / POSES]
            description["digest"] = digest_with(description["digest"], poses)
            return description
        digest = digest_of_digests([(scene, self._file_digest(file))])
        try:
            views, size = _stored_views(file, scene)
        except Unreadable as unreadable:
            return Description(bytes=0, frames=None, digest=digest, error=str(unreadable))
        return Description(
            bytes=size, frames=len(views), digest=digest, error=self._too_many(len(views))
        )

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        file, scene = self._container(clip)
        views = (
            _folder_views(self.root / clip, self._files(clip))
            if file is None
            else _stored_views(file, scene)[0]
        )
        if error := self._too_many(len(views)):
            raise Unreadable(error)
        if pairs := tuple(itertools.combinations(range(len(views)), 2)):
            yield Group(views=tuple(views), pairs=pairs)

    def _too_many(self, views: int) -> str | None:
        if views <= self._section.views_max:
            return None
        return f"{views} views make {views * (views - 1) // 2} pairs; raise views_max"

    def _container(self, clip: str) -> tuple[Path | None, str]:
        """The .h5 file and scene of a clip; no file for a folder."""
        head, separator, scene = clip.rpartition(".h5/")
        return (self.root / f"{head}.h5", scene) if separator else (None, clip)

    def _files(self, clip: str) -> list[Path]:
        return [
            self.root / clip / name for name in files_in(self.root / clip, EXTENSIONS, dead=True)
        ]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(file, "r") as store:
            yield store
    except Unreadable:
        raise
    except Exception as error:  # damaged bytes surface as nearly any exception of the library
        text = " ".join(str(error).strip("'\"").split())
        raise Unreadable(f"damaged HDF5: {text or type(error).__name__}") from None


def _scenes(file: Path) -> list[str]:
    """Top-level groups, reserved names left out."""
    try:
        with _opened(file) as store:
            return [scene for scene in store if not scene.startswith(".") and scene.isprintable()]
    except Unreadable:
        return [DAMAGED]


def _stored_views(file: Path, scene: str) -> tuple[list[View], int]:
    """A scene's views v0, v1, ... in numeric order, and the bytes of their images."""
    with _opened(file) as store:
        frames = item(store, f"{scene}/frames/t0")
        names = sorted(
            (name for name in frames if name[:1] == "v" and name[1:].isdecimal()),
            key=lambda name: int(name[1:]),
        )
        group = f"{scene}/frames/t0"
        views = [
            View(
                name,
                functools.partial(_stored_image, file, f"{group}/{name}"),
                _stored_pose(item(frames, name)),
            )
            for name in names
        ]
        return views, sum(int(item(frames, f"{name}/image").nbytes) for name in names)


def _stored_image(file: Path, group: str) -> Image:
    with _opened(file) as store:
        blob = item(store, f"{group}/image")
        if blob.nbytes > IMAGE_BYTES_MAX:
            raise Unreadable(f"{group}: an image of {blob.nbytes} bytes")
        return images.read(io.BytesIO(np.asarray(blob).tobytes()))


def _stored_pose(view: Any) -> Pose | None:
    camera = item(view, "camera") if "camera" in view else None
    if camera is None or camera.shape != (CAMERA_NUMBERS,):
        return None
    numbers = np.asarray(camera, np.float64)
    return camera_to_world(np.column_stack([numbers[5:14].reshape(3, 3, order="F"), numbers[14:]]))


def _folder_views(folder: Path, files: list[Path]) -> list[View]:
    """A converted scene; poses.txt is used when it has a line for every image."""
    poses: list[Pose | None] = [None] * len(files)
    rows = read_numbers(folder / POSES)
    if rows is not None and rows.shape == (len(files), 12):
        poses = [camera_to_world(row.reshape(3, 4)) for row in rows]
    return [images.view(file, pose) for file, pose in zip(files, poses, strict=True)]
