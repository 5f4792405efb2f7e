"""Patch-match recall."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveFloat

from mimic.config.base import Positive
from mimic.tasks.sections import PairTask


def _rising(edges: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"overlap_bins {list(edges)}: edges of bins must rise")
    return edges


Edges = Annotated[tuple[float, ...], AfterValidator(_rising)]


class CorrespondenceTask(PairTask):
    """Patch-match recall between the two views of held-out pairs; needs no training (after
    Probe3D)."""

    task: Literal["correspondence"]
    pairs: Positive
    batch: Positive
    block: (
        int | None
        # the block whose recall is the value, fixed beforehand; null = the last; all blocks are
        # reported
    )
    overlap_bins: Edges


class CrossAttentionTask(PairTask):
    """Correspondence read off the decoder's cross-attention (ZeroCo); needs no training."""

    task: Literal["cross-attention"]
    pairs: Positive
    batch: Positive
    temperature: PositiveFloat  # of the soft-argmax
    reciprocal: bool  # average with the attention from b to a
    overlap_bins: Edges
