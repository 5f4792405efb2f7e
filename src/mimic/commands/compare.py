"""`mimic compare`: the results table in the terminal, and the paper's tables with our values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mimic.commands import printed
from mimic.infra.storage import Workspace
from mimic.params import Params
from mimic.reporting import paper
from mimic.reporting.columns import NOT_RUN, ResultCell, TaskColumn, table_columns
from mimic.reporting.compared import comparison, comparison_words
from mimic.reporting.results import RunRow, read_table

ENCODER_USE = {None: "", True: "frozen", False: "fine-tuned"}  # by whether it is frozen


def print_results(params: Params, root: Path, as_json: bool) -> None:
    """Print the results table: as text, or as JSON, a list of rows with null where nothing was
    run."""
    rows = read_table(params, Workspace(root))
    columns = table_columns(rows)
    if as_json:
        print(json.dumps([_as_json(index, rows, columns) for index in range(len(rows))], indent=2))
        return
    console = printed.console()
    for table in _in_width(console, rows, columns):
        printed.print_whole(console, table)
    console.print(
        "± deviation over n seeds; * better than every other of its column by more than other "
        "seeds and test items would change; --by says how far runs are apart",
        style="dim",
    )
    for column in columns:
        for protocol in column.protocols:
            console.print(f"{column.task}: {protocol}", style="dim", markup=False)
        for run, what in column.apart.items():
            line = f"not comparable: {column.task} of {run}, measured with another {what}"
            console.print(line, markup=False)


def print_differences(params: Params, root: Path, by: Sequence[str], as_json: bool) -> None:
    """Print what these settings change on every task, and how sure that is.

    Raises:
        BadInput: no such setting.
    """
    compared = comparison.compare(params, Workspace(root), by)
    if as_json:
        print(json.dumps(comparison_words.as_json(compared), indent=2))
        return
    for line in comparison_words.table(compared.comparisons):
        print(line)
    if not compared.comparisons:
        print(f"nothing to compare by {', '.join(by)}: no two measured runs of table.runs differ")
    for line in compared.apart:
        print(line)


def _as_json(index: int, rows: Sequence[RunRow], columns: Sequence[TaskColumn]) -> dict[str, Any]:
    """A row, with all that the table says of its values."""
    row = rows[index]
    measured: dict[str, Any] = {}
    for column in columns:
        result = row.results[column.task]
        cell = column.cells[index]
        measured[column.task] = result and {
            "metric": result.name,
            "higher_is_better": result.higher_is_better,
            "standard_error": result.error,
            "test_size": result.test_size,
            "protocol": result.protocol,
            "measured_with_another": column.apart.get(row.run),
            "best": cell is not None and cell.best,
            "level_with_best": cell is not None and cell.level,
        }
    return row.summary() | {"measured": measured}


def _in_width(
    console: Console, rows: Sequence[RunRow], columns: Sequence[TaskColumn]
) -> Iterator[Table]:
    """The table, or several one below the other, each with as many tasks as there is room for."""
    begun = 0
    for end in range(1, len(columns) + 1):
        wider = _results_table(rows, columns[begun : end + 1], describes_runs=begun == 0)
        if end == len(columns) or printed.width(console, wider) > console.width:
            yield _results_table(rows, columns[begun:end], describes_runs=begun == 0)
            begun = end
    if not columns:
        yield _results_table(rows, columns, describes_runs=True)


def _results_table(
    rows: Sequence[RunRow], columns: Sequence[TaskColumn], *, describes_runs: bool
) -> Table:
    """
    Args:
        describes_runs: with what is known of each run, beside its name.
    """
    table = Table(header_style="bold", box=None, pad_edge=False)
    headings = ("run", "objective", "dataset", "digest", "steps") if describes_runs else ("run",)
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="right" if heading == "steps" else "left")
    for column in columns:
        table.add_column(_heading(column), justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        known = (
            row.run,
            row.objective or "random",
            row.dataset,
            (row.digest or "–")[:10],
            "–" if row.steps is None else f"{row.steps:,}",
        )
        table.add_row(*known[: len(headings)], *(_value(column.cells[index]) for column in columns))
    return table


def _value(cell: ResultCell | None) -> str:
    if cell is None:
        return f"[dim]{NOT_RUN}[/]"
    return f"[bold]{cell.text} *[/]" if cell.best else f"{cell.text}  "


def print_paper_tables(params: Params, root: Path, as_json: bool) -> None:
    """Print the paper's tables with our values beside the published ones."""
    tables = paper.tables(params, Workspace(root))
    if as_json:
        print(json.dumps([dataclasses.asdict(table) for table in tables], indent=2))
        return
    console = printed.console()
    for table in tables:
        printed.print_whole(console, _paper_table(table))
        console.print()
    console.print(
        "published / ours; * measured under another protocol: not comparable", style="dim"
    )


def _paper_table(table: paper.PaperTable) -> Table:
    shown = Table(
        title=f"{table.name}: {table.title}",
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for heading in ("objective", "dataset", "encoder"):
        shown.add_column(heading, no_wrap=True)
    for column in table.columns:
        arrow = "↑" if column.higher_is_better else "↓"
        shown.add_column(f"{column.label}\n{column.measure} {arrow}", justify="right")
    for row in table.rows:
        encoder = ENCODER_USE[row.frozen]
        shown.add_row(row.objective, row.dataset, encoder, *map(_paper_cell, row.cells))
    return shown


def _paper_cell(cell: paper.PaperCell) -> str:
    published = "–" if cell.published is None else f"{cell.published:g}"
    ours = ", ".join(_own_value(value) for value in cell.ours)
    return f"{published} / {ours or NOT_RUN}"


def _own_value(value: paper.OwnValue) -> str:
    if isinstance(value.value, str):
        return value.value
    return f"{value.value:.4g}{'*' if value.differs else ''}"


def _heading(column: TaskColumn) -> str:
    if not column.name:
        return column.task
    return f"{column.task}\n{column.name} {'↑' if column.higher_is_better else '↓'}"
