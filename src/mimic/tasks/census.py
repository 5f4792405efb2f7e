"""What a split holds that can be trained on or scored, counted item by item. Numbers in, numbers and one line out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput


@dataclass(frozen=True)
class Asked:
    """What a kind of task needs, in words."""

    items: str  # what a split consists of, in the plural
    part: str  # what of an item can be trained on or scored, in the plural; "" = the item as such
    value: str  # what the smallest and largest value are of, with its unit
    remedy: str  # for a split that has none of it


@dataclass
class Split:
    """One split, as the task sees it.

    Args:
        name: "train", "validation", "test", ... as in the data.
        use: what it is for, as an infinitive: "train on".
    """

    name: str
    use: str
    asked: Asked
    used: list[int] = field(default_factory=list)  # of each item: how many parts can be used
    whole: int = 0  # parts of all items together
    low: float = math.inf
    high: float = -math.inf

    def add(self, used: int, whole: int, values: Sequence[float] | np.ndarray = ()) -> None:
        """One item: so many of its parts can be used; the values that say in which unit they are."""
        self.used.append(used)
        self.whole += whole
        if len(values):
            self.low = min(self.low, float(np.min(values)))
            self.high = max(self.high, float(np.max(values)))

    def add_masked(self, valid: np.ndarray, values: np.ndarray) -> None:
        """One item with dense labels: `valid` bool[h, w], values [h, w] or [h, w, channels]."""
        self.add(int(valid.sum()), valid.size, values[valid].ravel())

    @property
    def empty(self) -> int:
        """Items without anything that can be used."""
        return sum(not used for used in self.used)

    def require(self, where: Path | str) -> None:
        """
        Raises:
            BadInput: there is nothing that the split could be used for.
        """
        asked = self.asked
        if not self.used:
            raise BadInput(f"{where}: the {self.name} split holds no {asked.items}: nothing to {self.use}")
        if self.empty == len(self.used):
            raise BadInput(
                f"{where}: none of the {len(self.used)} {asked.items} of the {self.name} split "
                f"has {asked.part}: nothing to {self.use}; {asked.remedy}"
            )

    def facts(self) -> dict[str, Any]:
        """JSON-able; `share` is of all parts, `smallest` and `largest` are null where none is known."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return {
            "items": len(self.used),
            "empty": self.empty,
            "share": round(sum(self.used) / self.whole, 6) if self.whole else None,
            "smallest": float(f"{self.low:.6g}") if known else None,
            "largest": float(f"{self.high:.6g}") if known else None,
            "of": {"items": self.asked.items, "part": self.asked.part, "value": self.asked.value},
        }


def lines(splits: dict[str, dict[str, Any]]) -> list[str]:
    """What was found, a line a split: count, share that can be used, range of the values."""
    trained_first = sorted(splits, key=lambda name: (name != "train", name == "test"))
    return [_line(name, splits[name]) for name in trained_first]


def _line(name: str, facts: dict[str, Any]) -> str:
    of = facts["of"]
    said = f"{name}: {facts['items']:,} {of['items']}"
    if facts["share"] is not None and of["part"]:
        said += f", {100 * facts['share']:.1f} % {of['part']}"
    if facts["empty"]:
        said += f" ({facts['empty']:,} of them have none)"
    if facts["smallest"] is not None:
        said += f", {of['value']} {facts['smallest']:.4g} to {facts['largest']:.4g}"
    return said
