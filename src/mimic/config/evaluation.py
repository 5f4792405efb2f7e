"""Sections `table` and `report`."""

from __future__ import annotations

from mimic.config.base import Count, Positive, Section


class Table(Section):
    """Rows and columns of the results table: what `dvc repro` evaluates."""

    runs: tuple[str, ...]
    tasks: tuple[str, ...]


class Report(Section):
    title: str
    pairs: Count  # pairs in the gallery of each source
    columns: Positive
