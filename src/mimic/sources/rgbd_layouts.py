"""Which frames lie in a folder of colour images with depth and camera poses: see `sources.rgbd`,
which mines them, and `tasks.own`, which measures on them.

Names are compared as text, so that an accent written as one or two characters is one name, and an
ending may be in capitals.
"""

from __future__ import annotations

import bisect
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from mimic.infra.confined import is_below
from mimic.sources.base import (
    Pose,
    Unreadable,
    files_below,
    files_in,
    numeric_order,
    read_numbers,
)
from mimic.sources.depth_files import ARRAYS, DEPTH, FLOATS
from mimic.sources.photos.folders import walk

COLOUR = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic"})
COLOUR_FOLDERS = ("color", "colour", "rgb", "images", "image")
DEPTH_FOLDERS = ("depth", "depths")
POSE_FOLDERS = ("pose", "poses")
OWN_FOLDERS = (COLOUR_FOLDERS, DEPTH_FOLDERS, POSE_FOLDERS)
WORD = r"(?:^|(?<=[^a-zA-Z]))(?:{})(?=[^a-zA-Z]|$)"
COLOUR_WORD = re.compile(WORD.format("rgb|color|colour|image|img"), re.IGNORECASE)
DEPTH_WORD = re.compile(WORD.format("depth|sync_depth"), re.IGNORECASE)
MARKS = " ._-"  # around such a word
SKEW = 0.02  # of a rotation's products
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Frame:
    """A colour image; its depth and the camera's pose, where there are any; the folder below the
    colour images' that it lies in, for frames of two folders show two places."""

    colour: Path
    depth: Path | None
    pose: Pose | None
    scene: str = ""

    @property
    def is_whole(self) -> bool:
        return self.depth is not None and self.pose is not None


def layout_of(folders: set[str], files: list[str]) -> Callable[[Path, float], list[Frame]] | None:
    """What reads the frames of a folder that holds these."""
    if {"rgb.txt", "depth.txt"} <= set(files):
        return _tum
    if any(_is_suffixed(name) for name in files):
        return _suffixed
    if one_of(COLOUR_FOLDERS, folders) and one_of(DEPTH_FOLDERS, folders):
        return _parted_and_flat if _flat_pairs(files) else _parted
    if _flat_pairs(files):
        return _flat
    return None


def folders_below(root: Path, skipped: dict[str, str], each_path: bool = False) -> Iterator[str]:
    """Every folder with frames, below the root; its folders of images, thousands of them, are not
    looked into.

    Args:
        each_path: see `photos.folders`.
    """
    for folder, folders, files in walk(root, skipped, each_path):
        if layout_of(set(folders), files) is not None:
            yield Path(folder).as_posix()
            own = {one_of(names, folders) for names in OWN_FOLDERS}
            folders[:] = [name for name in folders if name not in own]


def frames_in(folder: Path, time_s: float) -> list[Frame]:
    """Every path of an image, links too, is a frame.

    Raises:
        Unreadable: no longer a folder of colour images with depth.
    """
    inside = list(folder.iterdir())
    folders = {path.name for path in inside if path.is_dir()}
    layout = layout_of(folders, [path.name for path in inside if path.is_file()])
    if layout is None:
        raise Unreadable("no longer a folder of colour images with depth")
    return layout(folder, time_s)


def one_of(wanted: tuple[str, ...], folders: Iterable[str]) -> str | None:
    """The first wanted folder that is there, whatever its capitals."""
    by_lower = {name.lower(): name for name in sorted(folders, reverse=True)}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def _suffixed(folder: Path, _: float) -> list[Frame]:
    names = [
        name for name in files_in(folder, COLOUR, dead=True, each_path=True) if _is_suffixed(name)
    ]
    stems = [name[: name.rindex(".color.")] for name in names]
    depths = by_stem(folder, DEPTH)
    return [
        Frame(
            folder / name,
            _only(depths, same_name(f"{stem}.depth")),
            _pose(folder / f"{stem}.pose.txt"),
        )
        for name, stem in zip(names, stems, strict=True)
    ]


def _parted(folder: Path, _: float) -> list[Frame]:
    folders = [path.name for path in folder.iterdir() if path.is_dir()]
    colour = folder / (one_of(COLOUR_FOLDERS, folders) or "")
    depth = folder / (one_of(DEPTH_FOLDERS, folders) or "")
    poses = folder / (one_of(POSE_FOLDERS, folders) or "")
    return [
        frame
        for scene in scenes_in(colour)
        for frame in _of_scene(scene, colour / scene, depth / scene, poses / scene)
    ]


def _parted_and_flat(folder: Path, time_s: float) -> list[Frame]:
    return [*_parted(folder, time_s), *_flat(folder, time_s)]


def scenes_in(folder: Path) -> list[str]:
    """Folders below a folder that hold images, "" for itself."""
    below = {path.rpartition("/")[0] for path in files_below(folder, COLOUR, each_path=True)}
    if files_in(folder, COLOUR, dead=True, each_path=True):
        below.add("")
    return sorted(below, key=numeric_order)


def _of_scene(scene: str, colour: Path, depth: Path, poses: Path) -> list[Frame]:
    depths = by_stem(depth, DEPTH) if depth.is_dir() else {}
    frames = []
    for name in files_in(colour, COLOUR, dead=True, each_path=True):
        stem = Path(name).stem
        depth_file = _only(depths, same_name(stem)) or _only(depths, _without(COLOUR_WORD, stem))
        frames.append(Frame(colour / name, depth_file, _pose(poses / f"{stem}.txt"), scene))
    return frames


def by_stem(folder: Path, endings: Iterable[str]) -> dict[str, list[Path]]:
    """Files of a folder by `same_name` of their stems, and by these without the word `depth`."""
    files: dict[str, list[Path]] = {}
    for name in files_in(folder, frozenset(endings), each_path=True):
        stem = Path(name).stem
        for key in {same_name(stem), _without(DEPTH_WORD, stem)}:
            files.setdefault(key, []).append(folder / name)
    return files


def _only(files: dict[str, list[Path]], key: str) -> Path | None:
    """
    Raises:
        Unreadable: several files are the depth of one image.
    """
    candidates = files.get(key, [])
    if len(candidates) > 1:
        names = f"{candidates[0].name} and {candidates[1].name}"
        raise Unreadable(f"{names} are both the depth of {key}; keep one")
    return candidates[0] if candidates else None


def same_name(name: str) -> str:
    """A name under which two spellings of one text are one."""
    return unicodedata.normalize("NFC", name)


def _without(word: re.Pattern[str], stem: str) -> str:
    return same_name(word.sub("", stem).strip(MARKS))


def _flat(folder: Path, _: float) -> list[Frame]:
    names = files_in(folder, COLOUR | set(DEPTH), each_path=True)
    _refuse_several(names)
    return [
        Frame(folder / colour, folder / depth, _pose(folder / f"{Path(colour).stem}.txt"))
        for colour, depth in _flat_pairs(names)
    ]


def _flat_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Colour images and their depth beside them: `x_rgb.png` and `x_depth.png`, `x.jpg` and
    `x.npy`."""
    colours, depths = _flat_parts(names)
    return [(colours[key][-1], depths[key][-1]) for key in colours if key in depths]


def _refuse_several(names: Iterable[str]) -> None:
    colours, depths = _flat_parts(names)
    for key in [key for key in colours if key in depths]:
        for what, files in (("image", colours[key]), ("depth", depths[key])):
            if len(files) > 1:
                raise Unreadable(
                    f"{files[0]} and {files[1]} are both the {what} of {key}; keep one"
                )


def _flat_parts(names: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Colour images and depth by the name that they share."""
    colours: dict[str, list[str]] = {}
    depths: dict[str, list[str]] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if DEPTH_WORD.search(stem) or ending.lower() in (*ARRAYS, *FLOATS):
            if ending.lower() in DEPTH:
                depths.setdefault(_without(DEPTH_WORD, stem), []).append(name)
        elif ending.lower() in COLOUR:
            colours.setdefault(_without(COLOUR_WORD, stem), []).append(name)
    return colours, depths


def _is_suffixed(name: str) -> bool:
    return Path(name).suffix.lower() in COLOUR and Path(name).stem.endswith(".color")


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
    files = {}
    for number, line in enumerate(_lines(path), 1):
        match line.split(maxsplit=1):
            case [time, name] if re.fullmatch(r"[0-9]+\.?[0-9]*", time) and is_below(name):
                files[float(time)] = path.parent / name
            case _:
                raise Unreadable(f"{path.name}: line {number} is not 'time path': {line[:80]!r}")
    return files


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
    sentence = (
        f"of {len(frames)} frames {depths} have no depth and {poses} no pose; they are left out"
    )
    return sentence if poses < len(frames) else f"{sentence}; reader images needs neither"
