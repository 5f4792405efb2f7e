"""What every task hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Picture:
    """A picture for the report: file stem, image uint8[h, w, 3] RGB, caption in one line."""

    name: str
    image: np.ndarray
    caption: str


@dataclass(frozen=True)
class Result:
    """A task's numbers: `value` is the headline, `metrics` everything, `protocol` one line that says how it was measured."""

    name: str
    value: float
    higher_is_better: bool
    metrics: dict[str, Any]
    protocol: str
    selection: str  # which checkpoint, block or epoch the value belongs to, and who chose it
    test_size: int
    pictures: Sequence[Picture]
