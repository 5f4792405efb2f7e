"""The report's numbers for `dvc metrics` and `dvc plots`: small tables that two commits can be
compared by.

    summary/<task>.<metric>.json    the headline number of each run that the table can compare
    plots/results/<task>.<metric>.csv    the same, a row a run
    plots/loss/<run>.csv    the training loss by step
    plots/overlap/<source>.csv    candidate pairs by their overlap

Names are those of params.yaml. No time, identity or digest is in them: equal results are equal
bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mimic.infra.storage import Workspace, read_json
from mimic.params import Params
from mimic.reporting.results import comparable
from mimic.training import journal

POINTS = 2000  # of a curve, at most


def tables(params: Params, workspace: Workspace) -> dict[str, str]:
    """Every file by its path below report/."""
    return {
        **_results(params, workspace),
        **_losses(params, workspace),
        **_overlaps(params, workspace),
    }


def _results(params: Params, workspace: Workspace) -> dict[str, str]:
    columns: dict[str, dict[str, float]] = {}
    for task in params.table.tasks:
        for run, result in comparable(params, workspace, task)[0].items():
            metric = re.sub(r"[^\w-]+", "-", result.name)  # AUC@20
            columns.setdefault(f"{task}.{metric}", {})[run] = result.value
    files = {}
    for name, values in columns.items():
        files[f"summary/{name}.json"] = json.dumps(values, indent=2) + "\n"
        files[f"plots/results/{name}.csv"] = _csv(("run", "value"), values.items())
    return files


def _losses(params: Params, workspace: Workspace) -> dict[str, str]:
    """Of a run with several seeds, the first's."""
    files = {}
    for run in params.table.runs:
        folder = next(iter(workspace.encoders(run).values()), workspace.model(run))
        log = journal.read(folder / "log.jsonl")
        points = [(line["step"], line["loss"]) for line in log if "loss" in line]
        if points:
            stride = -(-len(points) // POINTS)
            files[f"plots/loss/{run}.csv"] = _csv(("step", "loss"), points[::stride])
    return files


def _overlaps(params: Params, workspace: Workspace) -> dict[str, str]:
    files = {}
    for source in params.sources:
        counts = read_json(workspace.metrics("mine", source)) or {}
        if histogram := counts.get("overlap_histogram"):
            bins = sorted((float(edge), count) for edge, count in histogram.items())
            files[f"plots/overlap/{source}.csv"] = _csv(("overlap", "pairs"), bins)
    return files


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
