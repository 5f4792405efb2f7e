"""What every task is given and hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic.models import Pretraining
from mimic.models.encoder import VisionTransformer
from mimic.training.checkpoint import load_model


@dataclass(frozen=True)
class Subject:
    """What is measured: an encoder, what its card says, and models/<run>, where the rest of the pretrained model lies."""

    encoder: VisionTransformer
    card: dict[str, Any]
    folder: Path
    checkpoint: str  # sha256 of encoder.safetensors

    def model(self) -> Pretraining:
        """The whole pretrained model, decoder included, on the CPU in eval mode.

        Raises:
            BadInput: only an encoder was published or imported.
        """
        return load_model(self.folder)


@dataclass(frozen=True)
class Folders:
    """Where a task reads and writes."""

    root: Path  # the workspace
    progress: Path  # unfinished work of this evaluation; removed when it is done
    features: Path  # features of this encoder, kept for the other tasks; may be removed at any time


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
