"""How far a clip has been mined, so that another process goes on there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mimic.sources.base import Group, Position


@dataclass
class Bookmark:
    """How far a clip has been mined: what is needed to go on between two of its groups."""

    groups: int = 0  # gone through
    pairs: int = 0  # kept
    skip: int = 0  # groups still to be passed over
    votes: np.random.Generator | None = None
    unreadable: dict[str, str] = field(default_factory=dict)  # view -> why
    locate: Callable[[], Position] | None = None  # of the last group
    share: float = 0.0  # of the clip that lies before the last group, where that is known
    view: str = ""  # the last group's first

    def turn(self, group: Group) -> None:
        """One group further."""
        self.groups += 1
        self.locate = group.locate
        self.share = group.share or 0.0
        self.view = group.views[0].key

    def entry(self) -> dict[str, Any]:
        """Of JSON; see `from_entry`."""
        return {
            "groups": self.groups,
            "pairs": self.pairs,
            "skip": self.skip,
            "votes": None if self.votes is None else self.votes.bit_generator.state,
            "unreadable": self.unreadable,
            "place": None if self.locate is None else self.locate(),
            "share": self.share,
            "view": self.view,
        }

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> Bookmark:
        votes = entry["votes"]
        position = entry["place"]
        others = {key: value for key, value in entry.items() if key != "place"}
        generator = None
        if votes is not None:
            generator = np.random.default_rng()
            generator.bit_generator.state = votes
        locate = None if position is None else lambda: position
        return cls(**{**others, "votes": generator, "locate": locate})
