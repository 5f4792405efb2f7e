"""The results table by columns: a task each, the best value marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mimic.infra.conditions import measured_apart
from mimic.reporting.compared.difference import SeedScores, difference, holm
from mimic.reporting.results import RunRow, SavedResult
from mimic.reporting.verdict import number

NOT_RUN = "not run"


@dataclass(frozen=True)
class ResultCell:
    """A value of the table, with deviation and count of its seeds: `best` of its column where that
    is shown over seeds and test items, or `level` with the best as far as can be told."""

    text: str
    best: bool
    level: bool


@dataclass(frozen=True)
class TaskColumn:
    """A task: what is measured, on how much, under which protocol. `apart`: runs that cannot be
    compared with the others, and what of theirs is another; then nothing is marked."""

    task: str
    name: str | None
    higher_is_better: bool
    test_size: int | None
    protocols: list[str]
    apart: dict[str, str]
    cells: list[ResultCell | None]


def table_columns(rows: Sequence[RunRow]) -> list[TaskColumn]:
    """The table by columns; a best value is marked where it is shown to be one."""
    return [_column(task, rows) for task in (rows[0].results if rows else [])]


def _column(task: str, rows: Sequence[RunRow]) -> TaskColumn:
    results = [row.results[task] for row in rows]
    measured = [result for result in results if result is not None]
    first = measured[0] if measured else None
    apart = measured_apart({row.run: result.raw for row in rows if (result := row.results[task])})
    return TaskColumn(
        task=task,
        name=first.name if first else None,
        higher_is_better=first.higher_is_better if first else True,
        test_size=first.test_size if first else None,
        protocols=sorted({result.protocol for result in measured if result.protocol}),
        apart=apart,
        cells=_cells(results, [row.samples[task] for row in rows], comparable=not apart),
    )


def _cells(
    results: Sequence[SavedResult | None],
    samples: Sequence[SeedScores | None],
    *,
    comparable: bool,
) -> list[ResultCell | None]:
    measured = {
        index: (result, one)
        for index, (result, one) in enumerate(zip(results, samples, strict=True))
        if result is not None and one is not None
    }
    if not measured:
        return [None] * len(results)
    top = max(
        measured,
        key=lambda index: (
            measured[index][0].value * (1 if measured[index][0].higher_is_better else -1)
        ),
    )
    others = {
        index: difference(one, measured[top][1])
        for index, (_, one) in measured.items()
        if index != top
    }
    beaten = dict(zip(others, holm([other.p for other in others.values()]), strict=True))
    decided = (
        comparable
        and bool(others)
        and all(beaten[index] and others[index].seeds for index in others)
    )
    cells: list[ResultCell | None] = [None] * len(results)
    for index, (result, _) in measured.items():
        undecided = comparable and bool(others) and not decided
        level = undecided and (index == top or not beaten[index])
        cells[index] = ResultCell(_text(result), best=decided and index == top, level=level)
    return cells


def _text(result: SavedResult) -> str:
    seeds = result.by_seed
    if seeds is None:
        return number(result.value)
    spread = "" if result.deviation is None else f" ± {number(result.deviation)}"
    return f"{number(result.value)}{spread} (n = {len(seeds)})"
