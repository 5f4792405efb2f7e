"""`mimic compare`: the results table in the terminal, and the paper's tables with our values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mimic.infra.storage import Workspace
from mimic.params import Params
from mimic.reporting import paper
from mimic.reporting.columns import NOT_RUN, ResultCell, TaskColumn, table_columns
from mimic.reporting.compared import comparison, comparison_words
from mimic.reporting.results import RunRow, read_table

PIPED_WIDTH = 160  # characters: whole lines where the output is no terminal
ENCODER_USE = {None: "", True: "frozen", False: "fine-tuned"}  # by whether it is frozen


def print_results(params: Params, root: Path, as_json: bool) -> None:
    """Print the results table: as text, or as JSON, a list of rows with null where nothing was
    run."""
    rows = read_table(params, Workspace(root))
    if as_json:
        print(json.dumps([row.summary() for row in rows], indent=2))
        return
    columns = table_columns(rows)
    console = _console()
    console.print(_results_table(rows, columns))
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


def _results_table(rows: Sequence[RunRow], columns: Sequence[TaskColumn]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    for heading in ("run", "objective", "dataset", "digest", "steps"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "steps" else "left")
    for column in columns:
        table.add_column(_heading(column), justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(
            row.run,
            row.objective or "random",
            row.dataset,
            (row.digest or "–")[:10],
            "–" if row.steps is None else f"{row.steps:,}",
            *(_value(column.cells[index]) for column in columns),
        )
    return table


def _value(cell: ResultCell | None) -> str:
    if cell is None:
        return f"[dim]{NOT_RUN}[/]"
    return f"[bold]{cell.text} *[/]" if cell.best else f"{cell.text}  "


def _console() -> Console:
    return Console(width=None if Console().is_terminal else PIPED_WIDTH)


def print_paper_tables(params: Params, root: Path, as_json: bool) -> None:
    """Print the paper's tables with our values beside the published ones."""
    tables = paper.tables(params, Workspace(root))
    if as_json:
        print(json.dumps([dataclasses.asdict(table) for table in tables], indent=2))
        return
    console = _console()
    for table in tables:
        console.print(_paper_table(table), "")
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
