"""Patch-match recall."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from mimic.config.base import Positive
from mimic.config.tasks.base import PairTask


class CorrespondenceTask(PairTask):
    """Patch-match recall between the two views of held-out pairs; needs no training (after Probe3D)."""

    task: Literal["correspondence"]
    pairs: Positive
    batch: Positive
    block: int | None  # the block whose recall is the value, fixed beforehand; null = the last; all blocks are reported
    overlap_bins: tuple[float, ...]  # edges


class CrossAttentionTask(PairTask):
    """Correspondence read off the decoder's cross-attention (ZeroCo); needs no training."""

    task: Literal["cross-attention"]
    pairs: Positive
    batch: Positive
    temperature: PositiveFloat  # of the soft-argmax
    reciprocal: bool  # average with the attention from b to a
    overlap_bins: tuple[float, ...]  # edges
