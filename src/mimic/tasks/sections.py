"""What the sections of all tasks share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mimic.config.base import (
    AboveZero,
    Betas,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Section,
    Seed,
    Share,
)


class TaskSection(Section):
    """One task of `evaluate`."""

    # Keys that earlier versions did not know, with the value that stands for what these did. It is
    # what a section means that does not state the key, and is not written down, so that results
    # and what DVC compares stay as they were.
    LATER: ClassVar[dict[str, Any]] = {}

    task: str  # which one; see `mimic.tasks.TASKS`
    # DVC checks the data again when this changes: the data themselves, or any small file beside a
    # huge set
    tracked_by: Path
    samples: Count  # pictures written for the report
    seed: Seed

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, entry: Any) -> Any:
        return {**cls.LATER, **entry} if isinstance(entry, dict) else entry

    @model_serializer(mode="wrap")
    def _as_earlier_versions(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = serialise(self)
        same = {key for key, value in self.LATER.items() if written.get(key, value) == value}
        return {key: value for key, value in written.items() if key not in same}


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
