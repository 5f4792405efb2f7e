"""Which frames lie in a folder of colour images with depth and camera poses: see `sources.rgbd`."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from mimic.sources.base import (
    Pose,
    Unreadable,
    files_in,
    is_below,
    read_numbers,
)

COLOUR = frozenset({".png", ".jpg", ".jpeg"})
DEPTH = (".png", ".pgm", ".tif", ".tiff")
COLOUR_FOLDERS = ("color", "rgb")
POSE_FOLDERS = ("pose", "poses")
SKEW = 0.02  # of a rotation's products
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Frame:
    """A colour image; its depth and the camera's pose, where there are any."""

    colour: Path
    depth: Path | None
    pose: Pose | None

    @property
    def is_whole(self) -> bool:
        return self.depth is not None and self.pose is not None


def layout_of(folders: set[str], files: list[str]) -> Callable[[Path, float], list[Frame]] | None:
    """What reads the frames of a folder that holds these."""
    if {"rgb.txt", "depth.txt"} <= set(files):
        return _tum
    if any(_is_suffixed(name) for name in files):
        return _suffixed
    if "depth" in folders and folders.intersection(COLOUR_FOLDERS):
        return _parted
    return None


def _suffixed(folder: Path, _: float) -> list[Frame]:
    names = [name for name in files_in(folder, COLOUR, dead=True) if _is_suffixed(name)]
    stems = [name[: name.rindex(".color.")] for name in names]
    return [
        _frame(folder / name, folder / f"{stem}.depth", folder / f"{stem}.pose.txt")
        for name, stem in zip(names, stems, strict=True)
    ]


def _parted(folder: Path, _: float) -> list[Frame]:
    colour = next(folder / name for name in COLOUR_FOLDERS if (folder / name).is_dir())
    poses = next((folder / name for name in POSE_FOLDERS if (folder / name).is_dir()), folder)
    names = files_in(colour, COLOUR, dead=True)
    stems = [Path(name).stem for name in names]
    return [
        _frame(colour / name, folder / "depth" / stem, poses / f"{stem}.txt")
        for name, stem in zip(names, stems, strict=True)
    ]


def _is_suffixed(name: str) -> bool:
    return Path(name).suffix.lower() in COLOUR and Path(name).stem.endswith(".color")


def _frame(colour: Path, depth: Path, pose: Path) -> Frame:
    """`depth` without its ending."""
    candidates = (depth.with_name(depth.name + ending) for ending in DEPTH)
    return Frame(colour, next((path for path in candidates if path.is_file()), None), _pose(pose))


def _pose(path: Path) -> Pose | None:
    """4 x 4, camera to world; None where there is none, or tracking was lost."""
    pose = read_numbers(path)
    if pose is None or pose.shape != (4, 4) or not np.isfinite(pose).all():
        return None
    return pose if np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() < SKEW else None


def _tum(folder: Path, time_s: float) -> list[Frame]:
    colour = _listed(folder / "rgb.txt")
    depth = _listed(folder / "depth.txt")
    poses = _trajectory(folder / "groundtruth.txt")
    return [
        Frame(path, _nearest(depth, time, time_s), _nearest(poses, time, time_s))
        for time, path in sorted(colour.items())
    ]


def _nearest(timed: dict[float, T], time: float, time_s: float) -> T | None:
    """What is nearest in time, if it is at most so many seconds away."""
    times = sorted(timed)
    at = bisect.bisect(times, time)
    near = min(times[max(0, at - 1) : at + 1], key=lambda other: abs(other - time), default=None)
    return None if near is None or abs(near - time) > time_s else timed[near]


def _listed(path: Path) -> dict[float, Path]:
    """Files by time; Unreadable: another line, or a path that leaves the folder."""
    found = {}
    for number, line in enumerate(_lines(path), 1):
        match line.split(maxsplit=1):
            case [time, name] if re.fullmatch(r"[0-9]+\.?[0-9]*", time) and is_below(name):
                found[float(time)] = path.parent / name
            case _:
                raise Unreadable(f"{path.name}: line {number} is not 'time path': {line[:80]!r}")
    return found


def _trajectory(path: Path) -> dict[float, Pose]:
    """Camera to world by time; empty without the file."""
    if not path.exists():
        return {}
    try:
        rows = np.array([line.split() for line in _lines(path)], np.float64)
    except ValueError:
        rows = np.empty((0, 0))
    if rows.ndim != 2 or rows.shape[1] != 8:
        raise Unreadable(f"{path.name}: lines are not 'time tx ty tz qx qy qz qw'")
    known = rows[np.isfinite(rows).all(axis=1) & (np.linalg.norm(rows[:, 4:], axis=1) > 0.5)]
    poses = np.tile(np.eye(4), (len(known), 1, 1))
    if len(known):
        poses[:, :3, :3] = Rotation.from_quat(known[:, 4:]).as_matrix()
        poses[:, :3, 3] = known[:, 1:4]
    return dict(zip(known[:, 0].tolist(), poses, strict=True))


def _lines(path: Path) -> list[str]:
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def camera_matrix(numbers: np.ndarray, path: Path) -> np.ndarray:
    """K from 3 x 3, 4 x 4, or fx fy cx cy."""
    matrix = np.eye(3)
    if numbers.shape in ((3, 3), (4, 4)):
        matrix = numbers[:3, :3]
    elif numbers.size == 4:
        matrix[[0, 1, 0, 1], [0, 1, 2, 2]] = numbers.ravel()
    else:
        raise Unreadable(f"{path.name}: neither 3 x 3, 4 x 4 nor fx fy cx cy")
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise Unreadable(f"{path.name}: focal lengths are not positive")
    return matrix


def say_what_lacks(frames: list[Frame]) -> str:
    """How many frames have no depth, and how many no pose."""
    depths = sum(frame.depth is None for frame in frames)
    poses = sum(frame.pose is None for frame in frames)
    said = f"of {len(frames)} frames {depths} have no depth and {poses} no pose; they are left out"
    return said if poses < len(frames) else f"{said}; reader images needs neither"
