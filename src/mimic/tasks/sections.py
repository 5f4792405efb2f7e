"""What the sections of all tasks share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimic.config.base import (
    AboveZero,
    Betas,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Section,
    Share,
)


class TaskSection(Section):
    """One task of `evaluate`."""

    task: str  # which one; see `mimic.tasks.TASKS`
    # DVC checks the data again when this changes: the data themselves, or any small file beside a
    # huge set
    tracked_by: Path
    samples: Count  # pictures written for the report
    seed: Count


class PairTask(TaskSection):
    """A task on held-out pairs of one of our datasets."""

    dataset: str


class TrainedTask(TaskSection):
    """A task whose head is trained, and perhaps the encoder with it."""

    preset: Literal[
        "published", "standard"
    ]  # the protocol this follows; fields that differ from it are listed in the result
    data: Path
    freeze: Literal[
        "none", "blocks", "encoder"
    ]  # blocks: what the peers' flag does; encoder: everything, in eval mode, without gradient
    blocks: (
        tuple[Count, ...] | None
    )  # encoder blocks the head reads, counted from 0; null = evenly spaced, ending with the last
    head_width: Positive
    size_px: Positive
    augment: Literal[
        "none", "flip", "peer"
    ]  # peer: mirroring and whatever else the peers do in this task
    steps: Positive
    batch: Positive
    lr: AboveZero
    weight_decay: NotNegative
    betas: Betas
    layer_decay: Annotated[
        float, Field(gt=0, le=1)
    ]  # learning rate of a layer relative to the next
    drop_path: Share
    warmup: Fraction  # share of the steps
    clip_grad: AboveZero | None
    precision: Literal["fp32", "bf16"]
    save_every: (
        Positive | None
    )  # steps between checkpoints of a long fine-tuning; null = none, a killed one starts again
