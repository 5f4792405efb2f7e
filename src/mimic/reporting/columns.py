"""The results table by columns: a task each, the best value marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mimic.reporting.results import RunRow, SavedResult, best, noise
from mimic.reporting.verdict import number

NOT_RUN = "not run"


@dataclass(frozen=True)
class ResultCell:
    """A value of the table: `best` of its column, or `level` with the best as far as the test set
    can tell."""

    text: str
    best: bool
    level: bool


@dataclass(frozen=True)
class TaskColumn:
    """A task: what is measured, on how much, under which protocol; several protocols in one column
    cannot be compared."""

    task: str
    name: str | None
    higher_is_better: bool
    test_size: int | None
    protocols: list[str]
    cells: list[ResultCell | None]


def table_columns(rows: Sequence[RunRow]) -> list[TaskColumn]:
    """The table by columns, the best of each marked."""
    return [
        _column(task, [row.results[task] for row in rows])
        for task in (rows[0].results if rows else [])
    ]


def _column(task: str, results: list[SavedResult | None]) -> TaskColumn:
    measured = [result for result in results if result is not None]
    first = measured[0] if measured else None
    return TaskColumn(
        task=task,
        name=first.name if first else None,
        higher_is_better=first.higher_is_better if first else True,
        test_size=first.test_size if first else None,
        protocols=sorted({result.protocol for result in measured if result.protocol}),
        cells=_cells(results),
    )


def _cells(results: list[SavedResult | None]) -> list[ResultCell | None]:
    top = best(results)
    winner = results[min(top)] if top else None
    cells: list[ResultCell | None] = []
    for index, result in enumerate(results):
        if result is None:
            cells.append(None)
            continue
        is_best = index in top
        level = not is_best and _level(result, winner)
        cells.append(ResultCell(number(result.value), best=is_best, level=level))
    return cells


def _level(result: SavedResult, winner: SavedResult | None) -> bool:
    limit = noise(result, winner) if winner else None
    return winner is not None and limit is not None and abs(result.value - winner.value) <= limit
