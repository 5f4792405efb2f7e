"""In which unit the depth of a folder is, by what is stated or by the numbers themselves, and how
that was told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput
from mimic.sources.depth_files import in_metres

PER_M = {"m": 1.0, "cm": 100.0, "mm": 1000.0}
NAMES = {1.0: "metres", 100.0: "centimetres", 1000.0: "millimetres"}
PLAUSIBLE_M = (0.05, 100.0)  # median of a set; people measure rooms and streets
ROOM_M = (0.1, 30.0)  # of whole millimetres, which end at 65
APART = 30.0  # times: the median of one image and that of all
EIGHT_BITS = (32, 256)  # values that a copy in 8 bits takes
STEP_M = 0.005  # and what lies between two of them at least
BACKGROUND_SHARE = 0.01  # of the known pixels, at least, that one number beyond all others fills
TELLING = 4096  # known pixels from which the number of values tells
EIGHT = "whole numbers of 8 bits"
WHOLE = "whole numbers"
FRACTIONS = "fractions"
INFO = "info.json"
STATE = "set depth_unit to m, mm, cm, or the units that make a metre"


@dataclass(frozen=True)
class Unit:
    """Units a metre; how that is known; the median in metres of the images looked at, and, of a
    copy of coarser depth, its steps in metres."""

    per_m: float
    because: str
    median_m: float
    step_m: float | None

    @property
    def name(self) -> str:
        return NAMES.get(self.per_m, f"1/{self.per_m:g} m")


def find(where: Path, samples: Sequence[np.ndarray], stated: str | float | None, tum: bool) -> Unit:
    """
    Args:
        where: the folder, which may hold an info.json with `depth_unit`.
        samples: depth images as stored (`depth_files.read_values`), of one kind of number.
        stated: `depth_unit` of the task.
        tum: the folder has TUM's layout, whose unit is 1/5000 m.

    Raises:
        BadInput: the numbers are no depth in that unit, or do not say in which they are.
    """
    known = _of_the_scene(np.concatenate([_known(values) for values in samples]))
    if not len(known):
        raise BadInput(f"{where}: no known depth in {len(samples)} images that were looked at")
    middle = float(np.median(known))
    per_m, because = _stated(where, stated, tum) or _guessed(where, kind_of(samples[0]), middle)
    median_m = middle / per_m
    if not PLAUSIBLE_M[0] <= median_m <= PLAUSIBLE_M[1]:
        raise BadInput(
            f"{where}: median depth {median_m:.3g} m if {middle:g} is in {NAMES.get(per_m, per_m)} "
            f"({because}): not a scene; {STATE}"
        )
    return Unit(per_m, because, median_m, _step(known, per_m))


def require_like_others(path: Path, depth_m: np.ndarray, unit: Unit) -> None:
    """
    Raises:
        BadInput: an image in another unit than the rest.
    """
    known = _of_the_scene(depth_m[depth_m > 0])
    middle = float(np.median(known)) if len(known) else unit.median_m
    if middle > APART * unit.median_m and known.min() == known.max():
        return  # nothing but background
    if not 1 / APART <= middle / unit.median_m <= APART:
        raise BadInput(
            f"{path}: median depth {middle:.3g} m, of the others {unit.median_m:.3g} m: is it in "
            "another unit? Convert it or leave it out"
        )


def kind_of(values: np.ndarray) -> str:
    """Of numbers that one folder may hold together: an image with a depth that does not fit in 16
    bits is of the same kind as the others.

    Args:
        values: as `depth_files.read_values` gives them.
    """
    names = {"uint8": EIGHT, "uint16": WHOLE, "uint32": WHOLE}
    return names.get(str(values.dtype), FRACTIONS)


def _known(values: np.ndarray) -> np.ndarray:
    return values[in_metres(values, 1.0) > 0].ravel()


def _of_the_scene(known: np.ndarray) -> np.ndarray:
    """Without the background: renderers write one number for it, such as 20000 or 1e10, which says
    nothing of the unit and may fill most of an image.

    Args:
        known: known depths of any unit, in any order.
    """
    while len(known):
        farthest = known.max()
        nearer = known[known < farthest]
        is_large = len(known) - len(nearer) >= BACKGROUND_SHARE * len(known)
        if not len(nearer) or not is_large or farthest < APART * np.median(nearer):
            return known
        known = nearer
    return known


def _stated(where: Path, stated: str | float | None, tum: bool) -> tuple[float, str] | None:
    noted = _noted(where / INFO)
    if stated is not None:
        return _per_m(stated, "depth_unit"), "depth_unit says so"
    if noted is not None:
        return _per_m(noted, str(where / INFO)), f"{INFO} says so"
    return (5000.0, "TUM's layout") if tum else None


def _noted(path: Path) -> str | float | None:
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        raise BadInput(f"{path}: not JSON; mend it, or take it away") from None
    return content.get("depth_unit") if isinstance(content, dict) else None


def _per_m(unit: str | float, where: str) -> float:
    if isinstance(unit, str) and unit in PER_M:
        return PER_M[unit]
    if isinstance(unit, int | float) and not isinstance(unit, bool) and unit > 0:
        return float(unit)
    raise BadInput(f"{where}: depth_unit {unit!r} is neither m, cm, mm nor units a metre")


def _guessed(where: Path, kind: str, middle: float) -> tuple[float, str]:
    """Units a metre by the numbers alone."""
    if kind == EIGHT:
        raise BadInput(
            f"{where}: depth of 8 bits, whose unit no number tells (median {middle:g} of 255); set "
            "depth_unit to the units that make a metre: 25.5 if 255 is 10 m"
        )
    if kind == WHOLE:
        if not ROOM_M[0] <= middle / 1000 <= ROOM_M[1]:
            hint = " (6553.6 if 65536 is 10 m)" if middle > 1000 * ROOM_M[1] else ""
            raise BadInput(
                f"{where}: whole numbers with median {middle:g}, as millimetres "
                f"{middle / 1000:.3g} m: not a scene; {STATE}{hint}"
            )
        return 1000.0, WHOLE
    if PLAUSIBLE_M[0] <= middle <= PLAUSIBLE_M[1]:
        return 1.0, f"fractions with median {middle:.3g}"
    if PLAUSIBLE_M[1] < middle <= 1000 * PLAUSIBLE_M[1]:
        return 1000.0, f"fractions with median {middle:.4g}"
    raise BadInput(f"{where}: depths with median {middle:.3g} in no unit of a scene; {STATE}")


def _step(known: np.ndarray, per_m: float) -> float | None:
    """Between neighbouring values in metres, where there are no more of them than 8 bits have."""
    values = np.unique(known).astype(np.float64)
    if len(known) < TELLING or not EIGHT_BITS[0] <= len(values) <= EIGHT_BITS[1]:
        return None
    step_m = float(np.median(np.diff(values))) / per_m
    return step_m if step_m >= STEP_M else None
