"""A task's data before anything is trained on them: what each split holds that can be trained on or
scored, counted item by item."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mimic.errors import BadInput
from mimic.infra.progress import counted

READERS = 4  # threads: decoders release the interpreter
AHEAD = 1024  # files that are asked for at once
TRAIN = "train on"
CHOOSE = "choose a step by"
TEST = "score"
Item = TypeVar("Item")
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Needs:
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
    needs: Needs
    used: list[int] = field(default_factory=list)  # of each item: how many parts can be used
    total: int = 0  # parts of all items together
    low: float = math.inf
    high: float = -math.inf

    def add(self, used: int, total: int, values: Sequence[float] | np.ndarray = ()) -> None:
        """One item: so many of its parts can be used; the values that say in which unit they
        are."""
        self.used.append(used)
        self.total += total
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
        needs = self.needs
        if not self.used:
            raise BadInput(
                f"{where}: the {self.name} split holds no {needs.items}: nothing to {self.use}"
            )
        if self.empty == len(self.used):
            raise BadInput(
                f"{where}: none of the {len(self.used)} {needs.items} of the {self.name} split "
                f"has {needs.part}: nothing to {self.use}; {needs.remedy}"
            )

    def facts(self) -> dict[str, Any]:
        """JSON-able; `share` is of all parts, `smallest` and `largest` are null where none is
        known."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return {
            "items": len(self.used),
            "empty": self.empty,
            "share": round(sum(self.used) / self.total, 6) if self.total else None,
            "smallest": float(f"{self.low:.6g}") if known else None,
            "largest": float(f"{self.high:.6g}") if known else None,
            "of": {"items": self.needs.items, "part": self.needs.part, "value": self.needs.value},
        }


@dataclass(frozen=True)
class DataFound:
    """Of a task's data: where they lie, its splits (the one trained on first), more facts."""

    where: Path
    splits: list[Split]
    facts: dict[str, Any]


def each(
    split: Split, look: Callable[[Item], Seen], items: Sequence[Item]
) -> Iterator[tuple[Item, Seen]]:
    """Items with what was seen of them, in order, several at a time; an exception ends it."""
    title = f"look through the {split.name} split"
    yield from counted(_ahead(look, items), title, len(items), split.needs.items)


def _ahead(look: Callable[[Item], Seen], items: Sequence[Item]) -> Iterator[tuple[Item, Seen]]:
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(items), AHEAD):
            part = items[start : start + AHEAD]
            yield from zip(part, pool.map(look, part), strict=True)


def lines(facts: dict[str, Any]) -> list[str]:
    """What `checks.check` found, a line a split: count, share that can be used, range of the
    values; then what the set says of itself."""
    splits = facts["found"]
    trained_first = sorted(splits, key=lambda name: (name != "train", name == "test"))
    return [*(_line(name, splits[name]) for name in trained_first), *facts.get("said", [])]


def _line(name: str, facts: dict[str, Any]) -> str:
    of = facts["of"]
    line = f"{name}: {facts['items']:,} {of['items']}"
    if facts["share"] is not None and of["part"]:
        line += f", {100 * facts['share']:.1f} % {of['part']}"
    if facts["empty"]:
        line += f" ({facts['empty']:,} of them have none)"
    if facts["smallest"] is not None:
        line += f", {of['value']} {facts['smallest']:.4g} to {facts['largest']:.4g}"
    return line
