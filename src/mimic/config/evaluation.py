"""Sections `table` and `report`."""

from __future__ import annotations

from typing import Literal

from mimic.config.base import Count, Positive, Section


class Table(Section):
    """Rows and columns of the results table: what `dvc repro` evaluates."""

    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    checkpoints: Literal[
        "last", "all"
    ]  # all: also the snapshots that a run has left on its way, for curves over pretraining


class Report(Section):
    title: str
    pairs: Count  # pairs in the gallery of each source
    columns: Positive
