"""The report's pages as HTML text: index.html, and a page for each source that was mined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mimic import licences
from mimic.geometry.overlap import Outcome
from mimic.infra.storage import Workspace
from mimic.params import Params
from mimic.reporting import charts, gallery, mining, paper
from mimic.reporting.columns import NOT_RUN, TaskColumn, table_columns
from mimic.reporting.compared import comparison, comparison_words
from mimic.reporting.environment import page_environment
from mimic.reporting.results import RunRow, SavedResult, read_table
from mimic.reporting.verdict import conclude
from mimic.training import journal

FEW = 6  # runs of which every two are compared
SHOWN_FIRST = 1  # test items of a task shown at once; the others open on demand


def render_pages(params: Params, workspace: Workspace) -> dict[str, str]:
    """Every page by file name."""
    rows = read_table(params, workspace)
    mined = [gallery.mined(workspace, source, params.report.pairs) for source in params.sources]
    datasets = {name: gallery.dataset(workspace, name) for name in params.datasets}
    logs = {row.run: _log(workspace, row.run) for row in rows}
    environment = page_environment()
    compared = _compared(params, workspace)
    columns = table_columns(rows)
    index = environment.get_template("index.html.j2").render(
        title=params.report.title,
        facts=_facts(rows, mined, datasets),
        not_run=NOT_RUN,
        shown_first=SHOWN_FIRST,
        colour_of=_colours(rows),
        gallery_columns=params.report.columns,
        rows=rows,
        columns=columns,
        verdict=conclude(rows, logs),
        differences=comparison_words.table(compared.comparisons),
        apart=compared.apart,
        papers=paper.tables(params, workspace),
        spreads={column.task: _spread(rows, column) for column in columns},
        few_shots={
            task: charts.line_chart(curves)
            for task, curves in paper.few_shot_curves(params, workspace).items()
        },
        sweeps={column.task: _sweep(rows, column) for column in columns},
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
        terms=licences.summary,
        compositions=mining.compositions(params, workspace),
    )
    return {"index.html": index, **mining.pages(params, workspace, mined, environment)}


def _log(workspace: Workspace, run: str) -> list[dict[str, Any]]:
    """The training log of a run; of several seeds the first's."""
    folder = next(iter(workspace.encoders(run).values()), workspace.model(run))
    return journal.read(folder / "log.jsonl")


def _compared(params: Params, workspace: Workspace) -> comparison.Compared:
    """Runs against each other: by what they differ in and, of a small table, every two."""
    small = len(params.table.runs) <= FEW
    factors = [one for one in comparison.FACTORS if one != "run" or small]
    return comparison.compare(params, workspace, factors)


def _colours(rows: Sequence[RunRow]) -> dict[str, str]:
    """Style class of each run, the same in every drawing: grey for random initialisation, then a
    palette of seven, round and round."""
    trained = [row.run for row in rows if row.objective]
    return {
        row.run: f"s{trained.index(row.run) % 7 + 1}" if row.objective else "s0" for row in rows
    }


def _facts(
    rows: Sequence[RunRow],
    mined: Sequence[gallery.MinedSource],
    datasets: Mapping[str, gallery.DatasetCounts | None],
) -> list[tuple[str, str]]:
    """Four numbers at the top of the page, and what each counts."""
    counted = [source.counts for source in mined if source.counts]
    kept = sum(counts["kept"] for counts in counted)
    candidates = sum(counts["candidates"] for counts in counted)
    cells = [result for row in rows for result in row.results.values()]
    return [
        (f"{kept:,}" if counted else NOT_RUN, f"pairs kept of {candidates:,} candidates"),
        (
            str(sum(dataset is not None for dataset in datasets.values())),
            f"of {len(datasets)} datasets assembled",
        ),
        (str(sum(row.card is not None for row in rows)), f"of {len(rows)} runs made"),
        (str(sum(cell is not None for cell in cells)), f"of {len(cells)} measurements made"),
    ]


def _outcomes(mined: Sequence[gallery.MinedSource]) -> list[str]:
    """The outcomes that occur, in the order of the rule."""
    occurring = {
        outcome
        for source in mined
        if source.counts
        for outcome, count in source.counts["outcomes"].items()
        if count
    }
    return [
        outcome.value
        for outcome in Outcome
        if outcome is Outcome.KEPT or outcome.value in occurring
    ]


def _spread(rows: Sequence[RunRow], column: TaskColumn) -> charts.DotChart | None:
    results = _comparable(rows, column)
    stated = [result.floors for _, result in results if result.floors]
    floors = stated[0] if stated and all(one == stated[0] for one in stated) else {}
    return charts.dot_chart([(run, result.value, result.error) for run, result in results], floors)


def _comparable(rows: Sequence[RunRow], column: TaskColumn) -> list[tuple[str, SavedResult]]:
    """The results that belong beside each other in a picture, which has no room to tell others
    apart; below the table they are named."""
    return [
        (row.run, result)
        for row in rows
        if (result := row.results[column.task]) is not None and row.run not in column.apart
    ]


def _sweep(rows: Sequence[RunRow], column: TaskColumn) -> charts.LineChart | None:
    """The value along pretraining, a line a run; None where no snapshots were measured."""
    snapshots = {run: result.raw.get("sweep", []) for run, result in _comparable(rows, column)}
    return charts.line_chart(
        {
            run: [(float(point["steps"]), float(point["value"])) for point in points]
            for run, points in snapshots.items()
        }
    )


def _losses(
    rows: Sequence[RunRow], logs: Mapping[str, list[dict[str, Any]]]
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
