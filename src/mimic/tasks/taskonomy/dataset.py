"""Taskonomy's tree as the tools of its release lay it out, read point by point.

    <folder>/<domain>/<building>/point_<P>_view_<V>_domain_<domain>.png
    <folder>/mask_valid/<building>/point_<P>_view_<V>_domain_depth_zbuffer.png
            (or ..._domain_mask_valid.png): 255 = valid
    <splits>/<variant>_{train,val,test}.csv
            building,point,view

Images are 512 x 512. Targets here are in [0, 1]: 8 bits over 255, 16 bits over 65535, then what the
peers do to each (`TARGETS`). Of "tiny" the lists have 54,514 test images of 5 buildings and 35,774
to validate; the published runs train on the first 800 of the train list and validate on the first
200.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from mimic.errors import BadInput
from mimic.infra import confined
from mimic.infra.storage import Workspace
from mimic.tasks.engine.dense_transforms import pillow_nearest
from mimic.tasks.engine.image_io import extent, read_labels, read_photo
from mimic.tasks.taskonomy.config import TaskonomyTask

SPLITS = ("train", "val", "test")
HEADER = ["building", "point", "view"]


@dataclass(frozen=True)
class Target:
    """How a domain is stored and what becomes of it."""

    channels: int  # the first so many of the file's
    bits: int
    top: float | None  # clamped to [0, top], then over top
    blur: bool  # 3 x 3 Gaussian, sigma 1


TARGETS = {
    "normal": Target(3, 8, None, False),  # stored as (n + 1) / 2, kept so
    "principal_curvature": Target(2, 8, None, False),
    "reshading": Target(1, 8, None, False),
    "depth_zbuffer": Target(1, 16, 8000 / 65535, False),  # 1/512 m
    "edge_texture": Target(1, 16, 0.25, False),
    "edge_occlusion": Target(1, 16, None, True),
    "keypoints2d": Target(1, 16, None, False),
    "keypoints3d": Target(1, 16, None, False),
}


@dataclass(frozen=True)
class TaskonomyImage:
    """image uint8[h, w, 3] RGB, stored target uint8 or uint16 [h, w, channels], valid bool[h, w] as
    stored."""

    image: np.ndarray
    target: np.ndarray
    valid: np.ndarray


class Taskonomy:
    """A listed set: `train`, `validation`, `test` hold numbers counted from 0; `read` gives one
    point's image, target and mask.

    Args:
        counts: how many of each list are used, from its beginning; None = all.

    Raises:
        BadInput: a list or a folder is missing, a list is not one, or is shorter than asked for.
    """

    def __init__(
        self, folder: Path, splits: Path, variant: str, target: str, counts: Sequence[int | None]
    ) -> None:
        self.folder = folder
        self.target = target
        self.kind = TARGETS[target]
        for domain in ("rgb", target, "mask_valid"):
            if not (folder / domain).is_dir():
                raise BadInput(
                    f"{folder / domain}: no such folder; download this domain, or point `data` at "
                    "the folder that holds rgb/"
                )
        lists = [
            _listed(splits / f"{variant}_{name}.csv", count)
            for name, count in zip(SPLITS, counts, strict=True)
        ]
        self._points = [point for points in lists for point in points]
        edges = np.cumsum([0, *map(len, lists)])
        self.train, self.validation, self.test = (
            np.arange(first, last) for first, last in pairwise(edges)
        )

    def __len__(self) -> int:
        return len(self._points)

    def stem(self, index: int) -> str:
        building, point, view = self._points[index]
        return f"{building}-point_{point}_view_{view}"

    def read(self, index: int) -> TaskonomyImage:
        """Number `index`, counted from 0: the train list first, then validation, then test.

        Raises:
            BadInput: a file is not what it should be, or its size is not the image's.
        """
        image_path, target_path, mask_path = self.files(index)
        image = read_photo(image_path)
        target = read_labels(target_path)
        mask = read_labels(mask_path)
        target = target[..., None] if target.ndim == 2 else target
        bits = 8 * target.dtype.itemsize
        if bits != self.kind.bits or target.shape[2] < self.kind.channels:
            expected = f"{self.kind.channels} of {self.kind.bits} bits"
            raise BadInput(
                f"{target_path}: {target.shape[2]} channels of {bits} bits, expected {expected}; "
                f"is it {self.target}?"
            )
        mask = mask if mask.ndim == 2 else mask[..., 0]
        for path, array in ((target_path, target), (mask_path, mask)):
            if array.shape[:2] != image.shape[:2]:
                raise BadInput(
                    f"{path}: {array.shape[1]} x {array.shape[0]} but its image is "
                    f"{image.shape[1]} x {image.shape[0]}"
                )
        if mask.dtype != np.uint8 or not np.isin(mask, (0, 255)).all():
            raise BadInput(
                f"{mask_path}: not a mask of 0 and 255; a mask_valid file is needed here, not a "
                "depth map"
            )
        return TaskonomyImage(image, target[..., : self.kind.channels], mask == 255)

    def files(self, index: int) -> tuple[Path, Path, Path]:
        """Image, target, mask."""
        building, point, view = self._points[index]

        def path(domain: str, named: str) -> Path:
            return self.folder / domain / building / f"point_{point}_view_{view}_domain_{named}.png"

        mask = path(
            "mask_valid", "depth_zbuffer"
        )  # masks come under the name of the depth they were made from
        return (
            path("rgb", "rgb"),
            path(self.target, self.target),
            mask if mask.is_file() else path("mask_valid", "mask_valid"),
        )

    def extent(self) -> dict[str, int | str]:
        """Bytes and digest of all files that the lists name."""
        return extent(
            {path for index in range(len(self)) for path in self.files(index)}, self.folder
        )


def scaled(stored: np.ndarray, kind: Target) -> np.ndarray:
    """float32[h, w, channels] in [0, 1], what the peers regress, of a target in the file's numbers.

    A target is made the input's size first: edges are blurred by pixels of the input, not of the
    file.
    """
    values = stored.astype(np.float32) / (2**kind.bits - 1)
    if kind.blur:
        values = cv2.GaussianBlur(values, (3, 3), 1.0, borderType=cv2.BORDER_REFLECT_101).reshape(
            values.shape
        )
    return values if kind.top is None else np.clip(values, 0, kind.top) / np.float32(kind.top)


def labels_seen(
    stored: np.ndarray, valid: np.ndarray, kind: Target, side_px: int, cell: int
) -> tuple[np.ndarray, np.ndarray]:
    """Target float32[side, side, channels] in [0, 1] and eroded mask bool[side, side] of a
    square."""
    size = (side_px, side_px)
    shown = pillow_nearest(valid[..., None].astype(np.uint8), size)[..., 0].astype(bool)
    return scaled(pillow_nearest(stored, size), kind), eroded(shown, cell)


def eroded(valid: np.ndarray, cell: int) -> np.ndarray:
    """bool[h, w]: valid where the whole cell x cell block is; what is left over at the right and
    bottom follows its nearest block."""
    height, width = valid.shape
    rows = height // cell
    columns = width // cell
    cells = valid[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
    blocks = np.logical_and.reduce(cells, axis=(1, 3))
    return blocks[np.ix_(np.arange(height) * rows // height, np.arange(width) * columns // width)]


def _listed(path: Path, count: int | None) -> list[tuple[str, int, int]]:
    if not path.is_file():
        raise BadInput(
            f"{path}: no such list; point `splits` at the folder of Taskonomy's split lists "
            "(building,point,view)"
        )
    rows = [row for row in csv.reader(path.read_text().splitlines()) if row]
    if not rows or [cell.strip() for cell in rows[0]] != HEADER:
        raise BadInput(f"{path}: its first line is not building,point,view")
    points = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 3 or not (row[1].strip().isdigit() and row[2].strip().isdigit()):
            raise BadInput(f"{path}: line {number} is not building,point,view; is the file whole?")
        building = row[0].strip()
        if "/" in building or not confined.is_below(building):
            raise confined.refused(path, building, "is no name of a building")
        points.append((building, int(row[1]), int(row[2])))
    if count is not None and len(points) < count:
        raise BadInput(f"{path}: {len(points)} points, {count} are asked for; is the file whole?")
    return points[:count]


def open_taskonomy(task: TaskonomyTask, root: Path) -> Taskonomy:
    """The set that a task names, in its workspace; see `Taskonomy` for the errors."""
    workspace = Workspace(root)
    return Taskonomy(
        workspace.resolve(task.data),
        workspace.resolve(task.splits),
        task.variant,
        task.target,
        task.images,
    )
