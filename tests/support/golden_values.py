"""What parts of the code that bear a version make of a tiny input, pinned in tests/golden/.

A golden value holds what no processor and no library changes: names, orders, counts, decisions, and
numbers within a tolerance. `MIMIC_PIN=1 pytest <the test>` pins anew after a version was raised.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden"
PIN = "MIMIC_PIN"


def check(
    part: str,
    said_in: str,
    version: int | list[int],
    value: Any,
    within: float = 1e-3,
    floor: float = 1.0,
) -> None:
    """Compare with what is pinned for this version.

    Args:
        part: the name of the file in tests/golden.
        said_in: where the version stands, for the message.
        value: of JSON; a number with a fraction may differ by `within` times its size, or times
            `floor` where that is more.
    """
    path = FOLDER / f"{part}.json"
    value = json.loads(json.dumps(value))
    if os.environ.get(PIN):
        pinned = json.loads(path.read_text()) if path.exists() else {"version": None}
        if pinned["version"] != version:
            text = json.dumps({"version": version, "value": value}, indent=1, sort_keys=True)
            path.write_text(text + "\n")
    assert path.exists(), f"{path}: nothing is pinned; run this test once with {PIN}=1"
    pinned = json.loads(path.read_text())
    assert pinned["version"] == version, (
        f"{said_in} says {version}, and what is pinned is of version {pinned['version']}; run this "
        f"test once with {PIN}=1 and commit {path.name}"
    )
    differing = differences(pinned["value"], value, (within, floor))
    assert not differing, (
        f"{part} makes something else of the same input, and its version is the same. Is that "
        f"meant? Then raise {said_in} and run this test once with {PIN}=1; results of the old "
        f"version become stale. Else mend the code. Pinned, and found: {'; '.join(differing[:5])}"
    )


def differences(
    pinned: Any, found: Any, within: tuple[float, float], where: str = "value"
) -> list[str]:
    """Where two values of JSON differ, in words.

    Args:
        within: see `check`: the share, and the smallest size that it is taken of.
    """
    share, floor = within
    if isinstance(pinned, dict) and isinstance(found, dict) and pinned.keys() == found.keys():
        parts = [(f"{where}.{key}", pinned[key], found[key]) for key in pinned]
    elif isinstance(pinned, list) and isinstance(found, list) and len(pinned) == len(found):
        parts = [(f"{where}[{i}]", *two) for i, two in enumerate(zip(pinned, found, strict=True))]
    elif isinstance(pinned, float) and isinstance(found, int | float):
        near = abs(pinned - found) <= share * max(floor, abs(pinned))
        return [] if near else [f"{where}: {pinned:.6g}, {found:.6g}"]
    else:
        same = type(pinned) is type(found) and pinned == found
        return [] if same else [f"{where}: {_short(pinned)}, {_short(found)}"]
    return [line for name, one, two in parts for line in differences(one, two, within, name)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def look(image: np.ndarray, cells: int = 4) -> list[Any]:
    """A picture's shape, and the mean of each cell of a grid over it, 0 to 1."""
    rows = np.array_split(image.astype(float) / 255, cells, axis=0)
    means = [part.mean() for row in rows for part in np.array_split(row, cells, axis=1)]
    return [list(image.shape), [round(float(mean), 4) for mean in means]]
