"""Two-view pose: its section, and its list of pairs.

Pairs come from a text list, a line a pair, in the forms that ScanNet-1500 and MegaDepth-1500 are
passed on in; K is of the images as stored, 1_from_0 takes points of camera 0 to camera 1:

    name0 name1 rot0 rot1 K0 K1 1_from_0      38 fields (SuperGlue): 3 x 3, 3 x 3 and 4 x 4 numbers
                                              row by row
    name0 name1 K0 K1 R t                     32 fields (glue-factory, pairs_calibrated.txt)
    name0 name1 K0 K1 1_from_0                36 fields (glue-factory)

Names are files below `data`. Lines that begin with # are comments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mimic.config.base import AboveZero, Positive
from mimic.errors import BadInput
from mimic.infra import confined
from mimic.tasks.sections import TaskSection

SKEW = 0.02  # of a rotation's products; official lists are printed with five digits


class TwoViewPoseTask(TaskSection):
    """AUC of the pose error at 5, 10 and 20 degrees."""

    task: Literal["two-view-pose"]
    data: Path  # folder of the images
    pairs: Path  # the list
    size_px: Positive  # longer side of an image as the encoder sees it
    block: int | None  # the block whose patches are matched, fixed beforehand; null = the last
    refine: bool  # places between patches, by the similarities around a match
    ransac_px: AboveZero  # from an epipolar line, in pixels of the image as the encoder sees it


@dataclass(frozen=True, eq=False)
class PosedPair:
    """Two images with K of each, float64[3, 3], and the motion float64[4, 4] from camera a to b."""

    names: tuple[str, str]
    intrinsics: tuple[np.ndarray, np.ndarray]
    b_from_a: np.ndarray

    @property
    def rotation_deg(self) -> float:
        cosine = (np.trace(self.b_from_a[:3, :3]) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def read_pairs(path: Path) -> list[PosedPair]:
    """The pairs of a list, in its order.

    Raises:
        BadInput: no such file, or a line that is of none of the forms, by its number.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no readable list of pairs ({error})") from None
    numbered = [(number, line.split()) for number, line in enumerate(lines, 1)]
    pairs = [
        _pair(fields, f"{path}: line {number}")
        for number, fields in numbered
        if fields and not fields[0].startswith("#")
    ]
    if not pairs:
        raise BadInput(f"{path}: holds no pair")
    return pairs


def _pair(fields: list[str], where: str) -> PosedPair:
    if len(fields) not in (32, 36, 38):
        raise BadInput(
            f"{where} has {len(fields)} fields; a pair has 38 (SuperGlue), 36 or 32 (glue-factory)"
        )
    if len(fields) == 38 and fields[2:4] != ["0", "0"]:
        raise BadInput(f"{where}: rotated images are not read; turn them upright first")
    for name in fields[:2]:
        if why := confined.wrong_with(name):
            raise confined.refused(where, name, why)
    try:
        numbers = np.array(fields[4 if len(fields) == 38 else 2 :], np.float64)
    except ValueError:
        raise BadInput(f"{where}: not all fields after the names are numbers") from None
    first = numbers[:9].reshape(3, 3)
    second = numbers[9:18].reshape(3, 3)
    motion = np.eye(4)
    if len(fields) == 32:
        motion[:3, :3] = numbers[18:27].reshape(3, 3)
        motion[:3, 3] = numbers[27:]
    else:
        motion = numbers[18:].reshape(4, 4)
    _require_rigid(motion, where)
    if not all(np.isfinite(k).all() and k[0, 0] > 0 and k[1, 1] > 0 for k in (first, second)):
        raise BadInput(f"{where}: focal lengths are not positive")
    return PosedPair((fields[0], fields[1]), (first, second), motion)


def _require_rigid(motion: np.ndarray, where: str) -> None:
    rotation = motion[:3, :3]
    if (
        not np.isfinite(motion).all()
        or np.abs(rotation @ rotation.T - np.eye(3)).max() > SKEW
        or np.linalg.det(rotation) < 0
        or np.abs(motion[3] - [0, 0, 0, 1]).max() > 1e-6
    ):
        raise BadInput(f"{where}: the motion is no rotation and translation, row by row")
