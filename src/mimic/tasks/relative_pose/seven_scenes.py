"""7-Scenes as downloaded: RGB-D sequences of a hand-held camera with its poses; train and test
sequences show the same room.

    <folder>/<scene>/{TrainSplit,TestSplit}.txt            a line a sequence: sequence1
    <folder>/<scene>/seq-01/frame-000000.color.png         640 x 480 (.jpg in some copies)
    <folder>/<scene>/seq-01/frame-000000.pose.txt          4 x 4, camera to world, metres, x right,
                                                           y down, z forward
    <folder>/<scene>/seq-01/frame-000000.depth.png         not used here

A scene of one of the seven names is the official one and must be whole; any other name is a scene
of one's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimic.errors import BadInput
from mimic.tasks.engine.image_io import REMEDY
from mimic.tasks.relative_pose.config import RelativePoseTask

OFFICIAL = {  # train sequences, test sequences, frames of each
    "chess": ((1, 2, 4, 6), (3, 5), 1000),
    "fire": ((1, 2), (3, 4), 1000),
    "heads": ((2,), (1,), 1000),
    "office": ((1, 3, 4, 5, 8, 10), (2, 6, 7, 9), 1000),
    "pumpkin": ((2, 3, 6, 8), (1, 7), 1000),
    "redkitchen": ((1, 2, 5, 7, 8, 11, 13), (3, 4, 6, 12, 14), 1000),
    "stairs": ((2, 3, 5, 6), (1, 4), 500),
}
LISTS = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
FAR_M = 50.0  # a camera farther from its room's origin is in another unit
SKEW = 0.02  # of a rotation's products; official poses are printed with seven digits


@dataclass(frozen=True)
class PosedImage:
    """One frame: where it comes from, its image file and pose float64[4, 4]."""

    scene: str
    sequence: int
    frame: int
    image: Path
    pose: np.ndarray

    @property
    def name(self) -> str:
        """Of the image, below the set's folder: how lists of neighbours call it."""
        return f"{self.scene}/{self.image.parent.name}/{self.image.name}"

    @property
    def files(self) -> tuple[Path, Path]:
        """Image and pose."""
        return self.image, self.image.with_name(f"frame-{self.frame:06d}.pose.txt")


@dataclass(frozen=True)
class SevenScenesScene:
    """The frames of a room, those whose poses are known and those that are to be placed."""

    name: str
    train: list[PosedImage]
    test: list[PosedImage]


def read_scene(folder: Path, name: str, every: int) -> SevenScenesScene:
    """Every so many-th frame of a scene's sequences, with its pose, by sequence and time.

    Raises:
        BadInput: a list, sequence, image or pose is missing or wrong, or an official scene is not
            whole.
    """
    listed = {split: _sequences(folder / name / file) for split, file in LISTS.items()}
    both = set(listed["train"]) & set(listed["test"])
    if both:
        raise BadInput(
            f"{folder / name}: sequence{min(both)} is in {LISTS['train']} and in {LISTS['test']}; "
            f"{REMEDY}"
        )
    train, test, frames = OFFICIAL.get(name, (None, None, None))
    for split, expected in (("train", train), ("test", test)):
        if expected is not None and sorted(listed[split]) != sorted(expected):
            raise BadInput(
                f"{folder / name / LISTS[split]}: sequences {sorted(listed[split])}, the official "
                f"{name} has {list(expected)}; "
                f"{REMEDY}, or give a part of it another name"
            )
    views = {
        split: [
            view
            for number in sorted(listed[split])
            for view in _frames(folder, name, number, frames)[::every]
        ]
        for split in LISTS
    }
    return SevenScenesScene(name, views["train"], views["test"])


def too_near(views: list[PosedImage], gap: int) -> np.ndarray:
    """Of each frame, the range [first, last) of places around its own that are less than `gap`
    frames away in its sequence."""
    when = np.array([view.sequence * 10**7 + view.frame for view in views])
    return np.stack(
        [
            np.searchsorted(when, when - gap, side="right"),
            np.searchsorted(when, when + gap, side="left"),
        ],
        axis=1,
    )


def require_neighbours(task: RelativePoseTask, scene: SevenScenesScene) -> None:
    """
    Raises:
        BadInput: a frame has fewer than the task asks for among the train frames.
    """
    barred = too_near(scene.train, task.gap)
    most_barred = int((barred[:, 1] - barred[:, 0]).max(initial=0))
    if len(scene.train) - most_barred < task.neighbours:
        raise BadInput(
            f"{scene.name}: a frame has fewer than {task.neighbours} neighbours among "
            f"{len(scene.train)} train frames (every {task.every}., none within {task.gap} frames "
            "of itself); lower `neighbours`, `gap` or `every`"
        )


def read_pose(path: Path) -> np.ndarray:
    """Camera to world, float64[4, 4].

    Raises:
        BadInput: missing, not 4 x 4, not rigid, or not in metres.
    """
    try:
        pose = np.array(path.read_text().split(), np.float64)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {REMEDY}") from None
    except (ValueError, UnicodeDecodeError):
        raise BadInput(f"{path}: not numbers; {REMEDY}") from None
    if pose.size != 16:
        raise BadInput(f"{path}: {pose.size} numbers, a pose has 16; {REMEDY}")
    pose = pose.reshape(4, 4)
    if not np.isfinite(pose).all():
        raise BadInput(
            f"{path}: not finite, this frame was not tracked; leave it out (all its files) or "
            f"{REMEDY}"
        )
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise BadInput(f"{path}: its last row is not 0 0 0 1; is the matrix transposed?")
    if (
        np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > SKEW
        or np.linalg.det(pose[:3, :3]) < 0
    ):
        raise BadInput(
            f"{path}: its 3 x 3 part is no rotation; a rigid camera-to-world matrix is needed"
        )
    far = np.abs(pose[:3, 3]).max()
    if far > FAR_M:
        raise BadInput(
            f"{path}: {far:.0f} m from the origin; positions are in metres, are these millimetres?"
        )
    return pose


def _frames(folder: Path, scene: str, number: int, expected: int | None) -> list[PosedImage]:
    """All frames of a sequence in order."""
    sequence = folder / scene / f"seq-{number:02d}"
    images = {
        int(match[1]): path
        for path in sequence.glob("frame-*.color.*")
        if (match := _named(path, r"color\.(?:png|jpg)"))
    }
    poses = {
        int(match[1]): path
        for path in sequence.glob("frame-*.pose.txt")
        if (match := _named(path, r"pose\.txt"))
    }
    if not images:
        raise BadInput(f"{sequence}: no frames; unpack {sequence.name}.zip there")
    lonely = sorted(images.keys() ^ poses.keys())
    if lonely:
        has, lacks = ("image", "pose") if lonely[0] in images else ("pose", "image")
        raise BadInput(
            f"{sequence}: frame-{lonely[0]:06d} has its {has} but no {lacks} ({len(lonely)} such); "
            f"unpack {sequence.name}.zip again"
        )
    if expected is not None and len(images) != expected:
        raise BadInput(
            f"{sequence}: {len(images)} frames, the official {scene} has {expected} in each "
            f"sequence; unpack {sequence.name}.zip again, "
            "or give a part of the scene another name"
        )
    return [
        PosedImage(scene, number, frame, images[frame], read_pose(poses[frame]))
        for frame in sorted(images)
    ]


def _named(path: Path, ending: str) -> re.Match[str] | None:
    return re.fullmatch(rf"frame-(\d{{6}})\.{ending}", path.name)


def _sequences(path: Path) -> list[int]:
    """Numbers of the sequences that a split lists."""
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(
            f"{path}: no such list; point `data` at the folder that holds the scenes, or {REMEDY}"
        ) from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not text; {REMEDY}") from None
    numbers = [int(match[1]) for line in lines if (match := re.fullmatch(r"sequence(\d+)", line))]
    if not lines or len(numbers) != len(lines):
        raise BadInput(f"{path}: not lines such as sequence1; {REMEDY}")
    return numbers
