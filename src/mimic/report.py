"""Report: one self-contained HTML page and the project's figure, from published files only; and the
results table in the terminal.

Whatever is missing is shown as "not run". Equal files give equal bytes: no clock, no path of this
machine gets in.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.table import Table

from mimic.geometry.overlap import Outcome
from mimic.infra import earlier
from mimic.infra.publishing import Work, place, publish
from mimic.infra.storage import Workspace
from mimic.pairs.read import iter_rows, read_image
from mimic.pairs.schema import MANIFEST
from mimic.params import Params
from mimic.reporting import charts, gallery, mining, paper, pictures
from mimic.reporting.results import Result, Row, best, noise, read_table
from mimic.reporting.verdict import conclude, number
from mimic.training import journal

NOT_RUN = "not run"
WORK = Work("report", "")
SHOWN_FIRST = 1  # test items of a task shown at once; the others open on demand


@dataclass(frozen=True)
class Cell:
    """A value of the table: `best` of its column, or `level` with the best as far as the test set
    can tell."""

    text: str
    best: bool
    level: bool


@dataclass(frozen=True)
class Column:
    """A task: what is measured, on how much, under which protocol; several protocols in one column
    cannot be compared."""

    task: str
    name: str | None
    higher_is_better: bool
    test_size: int | None
    protocols: list[str]
    cells: list[Cell | None]


def main(params: Params, root: Path) -> None:
    """Write report/index.html, a page for each source that was mined, and report/figure.png where
    there are pairs."""
    workspace = Workspace(root)
    place(workspace.report, WORK, recognise=earlier.report)
    pages, drawing = _pages(params, workspace), _figure(params, workspace)

    def write(folder: Path) -> None:
        for name, page in pages.items():
            (folder / name).write_text(page, encoding="utf-8")
        if drawing is not None:
            (folder / "figure.png").write_bytes(drawing)

    publish(write, workspace.report, WORK, recognise=earlier.report)
    Console(stderr=True).print(
        f"report: {workspace.report / 'index.html'} ({len(pages['index.html'].encode()) / 1e6:.1f} "
        "MB)",
        highlight=False,
        soft_wrap=True,
    )


def compare(params: Params, root: Path, as_json: bool) -> None:
    """Print the results table: as text, or as JSON, a list of rows with null where nothing was
    run."""
    rows = read_table(params, Workspace(root))
    if as_json:
        print(json.dumps([row.summary() for row in rows], indent=2))
        return
    columns = table_columns(rows)
    table = Table(header_style="bold", box=None, pad_edge=False)
    for heading in ("run", "objective", "dataset", "digest", "steps"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "steps" else "left")
    for column in columns:
        table.add_column(_heading(column), justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        cells = [column.cells[index] for column in columns]
        values = [
            f"[dim]{NOT_RUN}[/]"
            if cell is None
            else f"[bold]{cell.text} *[/]"
            if cell.best
            else f"{cell.text}  "
            for cell in cells
        ]
        table.add_row(
            row.run,
            row.objective or "random",
            row.dataset,
            (row.digest or "–")[:10],
            "–" if row.steps is None else f"{row.steps:,}",
            *values,
        )
    console = Console(width=None if Console().is_terminal else 160)  # piped: whole lines
    console.print(table)
    console.print(
        "* best of its column; whether a difference means anything: see the report", style="dim"
    )
    for column in columns:
        for protocol in column.protocols:
            console.print(f"{column.task}: {protocol}", style="dim", markup=False)


def compare_with_paper(params: Params, root: Path, as_json: bool) -> None:
    """Print the paper's tables with our values beside the published ones."""
    found = paper.tables(params, Workspace(root))
    if as_json:
        print(json.dumps([dataclasses.asdict(table) for table in found], indent=2))
        return
    console = Console(width=None if Console().is_terminal else 160)
    for table in found:
        drawn = Table(
            title=f"{table.name}: {table.title}",
            title_justify="left",
            header_style="bold",
            box=None,
            pad_edge=False,
        )
        for heading in ("objective", "dataset", "encoder"):
            drawn.add_column(heading, no_wrap=True)
        for column in table.columns:
            drawn.add_column(
                f"{column.label}\n{column.measure} {'↑' if column.higher_is_better else '↓'}",
                justify="right",
            )
        for row in table.rows:
            drawn.add_row(row.objective, row.dataset, _trained(row.frozen), *map(_cell, row.cells))
        console.print(drawn, "")
    console.print(
        "published / ours; * measured under another protocol: not comparable", style="dim"
    )


def _trained(frozen: bool | None) -> str:
    return "" if frozen is None else "frozen" if frozen else "fine-tuned"


def _cell(cell: paper.Cell) -> str:
    published = "–" if cell.published is None else f"{cell.published:g}"
    values = [
        value.value
        if isinstance(value.value, str)
        else f"{value.value:.4g}{'*' if value.differs else ''}"
        for value in cell.ours
    ]
    return f"{published} / {', '.join(values) or NOT_RUN}"


# ---------------------------------------------------------------------------- the table


def table_columns(rows: Sequence[Row]) -> list[Column]:
    """The table by columns, the best of each marked."""
    return [
        _column(task, [row.results[task] for row in rows])
        for task in (rows[0].results if rows else [])
    ]


def _column(task: str, results: list[Result | None]) -> Column:
    found = [result for result in results if result is not None]
    top = best(results)
    winner = results[min(top)] if top else None
    return Column(
        task=task,
        name=found[0].name if found else None,
        higher_is_better=found[0].higher_is_better if found else True,
        test_size=found[0].test_size if found else None,
        protocols=sorted({result.protocol for result in found if result.protocol}),
        cells=[
            None
            if result is None
            else Cell(
                number(result.value),
                best=index in top,
                level=index not in top and _level(result, winner),
            )
            for index, result in enumerate(results)
        ],
    )


def _level(result: Result, winner: Result | None) -> bool:
    limit = noise(result, winner) if winner else None
    return winner is not None and limit is not None and abs(result.value - winner.value) <= limit


def _heading(column: Column) -> str:
    return (
        f"{column.task}\n{column.name} {'↑' if column.higher_is_better else '↓'}"
        if column.name
        else column.task
    )


# ---------------------------------------------------------------------------- the page


def _pages(params: Params, workspace: Workspace) -> dict[str, str]:
    """Every page by file name."""
    rows = read_table(params, workspace)
    mined = [gallery.mined(workspace, source, params.report.pairs) for source in params.sources]
    datasets = {name: gallery.dataset(workspace, name) for name in params.datasets}
    logs = {row.run: journal.read(workspace.model(row.run) / "log.jsonl") for row in rows}
    environment = Environment(
        loader=PackageLoader("mimic.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    index = environment.get_template("index.html.j2").render(
        title=params.report.title,
        facts=_facts(rows, mined, datasets),
        not_run=NOT_RUN,
        shown_first=SHOWN_FIRST,
        colour_of=_colours(rows),
        gallery_columns=params.report.columns,
        rows=rows,
        columns=table_columns(rows),
        verdict=conclude(rows, logs),
        papers=paper.tables(params, workspace),
        spreads={task: _spread(rows, task) for task in params.table.tasks},
        few_shots={
            task: charts.line_chart(curves)
            for task, curves in paper.few_shot_curves(params, workspace).items()
        },
        sweeps={task: _sweep(rows, task) for task in params.table.tasks},
        mined=mined,
        band=(params.mine.overlap_min, params.mine.overlap_max),
        outcomes=_outcomes(mined),
        datasets=datasets,
        losses=_losses(rows, logs),
        reconstructions={
            row.run: gallery.reconstruction(workspace, row.run) for row in rows if row.steps
        },
        samples={task: gallery.samples(params, workspace, task) for task in params.table.tasks},
        source_pages=[
            mining.page_name(number, source.source) for number, source in enumerate(mined)
        ],
        compositions=mining.compositions(params, workspace),
    )
    return {"index.html": index, **mining.pages(params, workspace, mined, environment)}


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    """Style class of each run, the same in every drawing: grey for random initialisation, then a
    palette of seven, round and round."""
    trained = [row.run for row in rows if row.objective]
    return {
        row.run: f"s{trained.index(row.run) % 7 + 1}" if row.objective else "s0" for row in rows
    }


def _facts(
    rows: Sequence[Row],
    mined: Sequence[gallery.Mined],
    datasets: Mapping[str, gallery.Dataset | None],
) -> list[tuple[str, str]]:
    """The page in four numbers."""
    counted = [source.counts for source in mined if source.counts]
    kept, candidates = (
        sum(counts["kept"] for counts in counted),
        sum(counts["candidates"] for counts in counted),
    )
    cells = [result for row in rows for result in row.results.values()]
    return [
        (f"{kept:,}" if counted else NOT_RUN, f"pairs kept of {candidates:,} candidates"),
        (
            str(sum(dataset is not None for dataset in datasets.values())),
            f"of {len(datasets)} datasets assembled",
        ),
        (str(sum(row.card is not None for row in rows)), f"of {len(rows)} encoders made"),
        (str(sum(cell is not None for cell in cells)), f"of {len(cells)} measurements made"),
    ]


def _outcomes(mined: Sequence[gallery.Mined]) -> list[str]:
    """The outcomes that occur, in the order of the rule."""
    seen = {
        outcome
        for source in mined
        if source.counts
        for outcome, count in source.counts["outcomes"].items()
        if count
    }
    return [
        outcome.value for outcome in Outcome if outcome is Outcome.KEPT or outcome.value in seen
    ]


def _spread(rows: Sequence[Row], task: str) -> charts.DotChart | None:
    found = [(row.run, result) for row in rows if (result := row.results[task]) is not None]
    floors = next((result.floors for _, result in found if result.floors), {})
    return charts.dot_chart([(run, result.value, result.error) for run, result in found], floors)


def _sweep(rows: Sequence[Row], task: str) -> charts.LineChart | None:
    """The value along pretraining, a line a run; None where no snapshots were measured."""
    found = {
        row.run: result.raw.get("sweep", [])
        for row in rows
        if (result := row.results[task]) is not None
    }
    return charts.line_chart(
        {
            run: [(float(point["steps"]), float(point["value"])) for point in points]
            for run, points in found.items()
        }
    )


def _losses(
    rows: Sequence[Row], logs: Mapping[str, list[dict[str, Any]]]
) -> dict[str, charts.LineChart | None]:
    """One chart an objective: losses of different objectives are not comparable."""
    by_objective: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.objective:
            points = [
                (float(line["step"]), float(line["loss"]))
                for line in logs[row.run]
                if line.get("loss") is not None
            ]
            by_objective.setdefault(row.objective, {})[row.run] = points
    return {objective: charts.line_chart(series) for objective, series in by_objective.items()}


# ---------------------------------------------------------------------------- the figure


def _figure(params: Params, workspace: Workspace) -> bytes | None:
    """Two views with matched patches and, once a cross-view model is trained, view a masked and
    completed; None without pairs."""
    tried = [_reconstructed(params, workspace, run) for run in params.table.runs]
    for found in filter(None, tried):
        row, masked, reconstruction, hidden = found
        seen = _matched(workspace.root / row["shard"], row)
        masking = [
            (f"view a, {100 * hidden:.0f} % hidden", masked),
            ("view a, completed with the help of b", reconstruction),
        ]
        return pictures.figure([*seen, *masking])
    for source in params.sources:
        for tar, row in gallery.select(workspace.pairs(source), 1):
            return pictures.figure(_matched(tar, row))
    return None


def _matched(tar: Path, row: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    a = read_image(tar, row["offset_a"], row["size_a"])
    b = read_image(tar, row["offset_b"], row["size_b"])
    tinted = pictures.matched_patches(a, b, np.asarray(row["correspondences"]))
    return [("view a", tinted[0]), ("view b: matching patches, matching colours", tinted[1])]


def _reconstructed(
    params: Params, workspace: Workspace, run: str
) -> tuple[dict[str, Any], np.ndarray, np.ndarray, float] | None:
    """Manifest row, masked view, reconstruction and masked share of a cross-view run's first
    held-out pair."""
    if run in params.imported:
        return None
    recipe = params.pretrain[params.runs[run].recipe]
    path, manifest = (
        workspace.model(run) / "reconstruction.npz",
        workspace.manifest(params.runs[run].dataset),
    )
    if (
        recipe.objective != "croco"
        or params.runs[run].steps == 0
        or not path.exists()
        or not manifest.exists()
    ):
        return None
    with np.load(path) as saved:
        key, masked, reconstruction = (
            str(saved["keys"][0]),
            saved["masked"][0],
            saved["reconstruction"][0],
        )
    row = next((row for row in iter_rows(manifest, MANIFEST) if row["key"] == key), None)
    if row is None or not (workspace.root / row["shard"]).exists():
        return None
    return row, masked, reconstruction, recipe.mask_ratio
