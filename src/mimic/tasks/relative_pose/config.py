"""Where one camera stands relative to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimic.config.base import Positive
from mimic.tasks.sections import TrainedTask


class RelativePoseTask(TrainedTask):
    """7-Scenes: pose of a query from retrieved neighbours (CroCo, appendix). size_px is the height
    of the input."""

    task: Literal["relative-pose"]
    width_px: Positive
    scenes: Annotated[
        tuple[str, ...], Field(min_length=1)
    ]  # folders of `data`; a scene of an official name must be whole
    every: Positive  # every so many-th frame of a sequence is used, to train and to test
    retrieval: (
        Path | None
        # list of neighbours: lines "frame neighbour", best first; null = by the pretrained
        # encoder's mean patch
    )
    # of a frame: a query is placed by them, training pairs are a frame and one of them
    neighbours: Positive
    gap: Positive  # frames of one sequence nearer in time are no training pair
    estimate: Literal[
        "nearest", "consensus"
    ]  # which is the value: the first neighbour's answer, or all together; both are reported
    eval_batch: Positive  # images described at once

    @model_validator(mode="after")
    def _only_what_is_done(self) -> RelativePoseTask:
        if self.augment != "none":
            raise ValueError("augment: a mirrored image is of another place; set none")
        if self.blocks is not None:
            raise ValueError("blocks: the head reads the decoder's last block; set null")
        if self.drop_path:
            raise ValueError("drop_path: the cross-view model is trained without; set 0")
        if len(set(self.scenes)) < len(self.scenes):
            raise ValueError("scenes: one is named twice, and would count twice in the mean")
        return self
