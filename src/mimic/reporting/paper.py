"""Tables 1, 2a, 2b, 3 of the MIMIC paper, our value beside each published one.

The published numbers lie in published.json, as printed: each is a single run, some were copied from
other papers measured differently. Ours are found among the metrics files by objective, dataset,
task and what was frozen. A cell says whether protocols agree: a value measured otherwise stands
beside the published one, but says nothing about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeAlias

from mimic.infra.conditions import OF_ANOTHER
from mimic.infra.storage import STAGE_METRICS, Workspace, read_json
from mimic.params import Params
from mimic.reporting.results import SavedResult, comparable, result_of
from mimic.tasks.sections import TaskSection

FROZEN = ("encoder", "blocks")
PAPER_MODEL = {"width": 768, "depth": 12, "patch_px": 16}  # ViT-B/16 (MIMIC, section 4.1)
# A task's section, a result on it, and what of its encoder is unlike the published ones.
OwnResult: TypeAlias = tuple[TaskSection, SavedResult, list[str]]


@dataclass(frozen=True)
class OwnValue:
    """A value of ours in the paper's unit, and how its encoder and protocol differ from the
    published ones; empty = not at all.

    A value that a task did not measure is text that says why: "not run: weights".
    """

    run: str
    task: str
    value: float | str
    error: float | None
    differs: str


@dataclass(frozen=True)
class PaperCell:
    published: float | None  # None: the paper has no such number
    ours: tuple[OwnValue, ...]  # several: seeds, presets; empty: not run


@dataclass(frozen=True)
class PaperRow:
    objective: str
    dataset: str
    frozen: bool | None
    origin: str  # of the published numbers
    cells: tuple[PaperCell, ...]


@dataclass(frozen=True)
class PaperColumn:
    label: str
    measure: str
    higher_is_better: bool


@dataclass(frozen=True)
class PaperTable:
    name: str
    title: str
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]

    @property
    def empty(self) -> bool:
        """Whether no cell of ours was run."""
        return not any(cell.ours for row in self.rows for cell in row.cells)


def tables(params: Params, workspace: Workspace) -> list[PaperTable]:
    """The paper's tables, whatever of ours exists filled in."""
    published = json.loads((files("mimic.reporting") / "published.json").read_text())
    results = [
        (section, result, _trained_otherwise(workspace, str(result.raw["run"])))
        for section, result in _results(params, workspace)
    ]
    return [_table(table, published["columns"], results) for table in published["tables"]]


def few_shot_curves(
    params: Params, workspace: Workspace
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Figure 3b: by few-shot task and run of the table, the mean over seeds at each number of
    images."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    few = [name for name, task in params.evaluate.items() if task.task.startswith("few-shot")]
    for task in few:
        for run, result in comparable(params, workspace, task)[0].items():
            by_k = result.raw.get("metrics", {}).get("by_k", {})
            if points := sorted((float(k), float(entry["mean"])) for k, entry in by_k.items()):
                curves.setdefault(task, {})[run] = points
    return curves


def _results(params: Params, workspace: Workspace) -> Iterable[tuple[TaskSection, SavedResult]]:
    """Every metrics file of a task that params still has, imported encoders' too."""
    for path in sorted((workspace.root / "metrics").glob("*/*.json")):
        section = params.evaluate.get(path.stem)
        if (
            section is not None
            and path.parent.name not in STAGE_METRICS
            and (result := result_of(workspace, path.parent.name, path.stem)) is not None
        ):
            yield section, result


def _table(
    table: dict[str, Any],
    columns: dict[str, Any],
    results: Sequence[OwnResult],
) -> PaperTable:
    chosen = [columns[name] for name in table["columns"]]
    rows = tuple(
        PaperRow(
            objective=row["objective"],
            dataset=row["dataset"],
            frozen=row["frozen"],
            origin=row["origin"],
            cells=tuple(
                PaperCell(row["values"].get(name), tuple(_ours(row, column, results)))
                for name, column in zip(table["columns"], chosen, strict=True)
            ),
        )
        for row in table["rows"]
    )
    heads = tuple(
        PaperColumn(column["label"], column["measure"], column["higher_is_better"])
        for column in chosen
    )
    return PaperTable(table["name"], table["title"], heads, rows)


def _ours(
    row: dict[str, Any], column: dict[str, Any], results: Sequence[OwnResult]
) -> Iterable[OwnValue]:
    for section, result, otherwise in results:
        raw = result.raw
        same = (
            raw.get("objective") == row["objective"]
            and raw.get("dataset") == row["dataset"]
            and raw.get("steps") != 0
        )
        # As it was measured: params.yaml may say something else by now.
        stated = raw.get("section") or section.model_dump(mode="json")
        frozen = stated.get("freeze")
        if (
            not same
            or stated.get("task", section.task) != column["kind"]
            or stated.get("target") != column.get("target")
            or (
                row["frozen"] is not None
                and frozen is not None
                and (frozen in FROZEN) != row["frozen"]
            )
        ):
            continue
        value = raw.get("metrics", {}).get(
            column["metric"], result.value if result.name == column["metric"] else None
        )
        if value is None:
            continue
        if isinstance(value, str):
            yield OwnValue(str(raw["run"]), str(raw["task"]), value, None, "")
            continue
        error = result.error if result.states_error and result.name == column["metric"] else None
        scale = column["scale"]
        yield OwnValue(
            str(raw["run"]),
            str(raw["task"]),
            scale * value,
            None if error is None else scale * error,
            ", ".join([*otherwise, *_differs(raw)]),
        )


def _trained_otherwise(workspace: Workspace, run: str) -> list[str]:
    """What of an encoder is unlike the published ones, beside its objective, data and steps."""
    folder = next(iter(workspace.encoders(run).values()), None)
    card = {} if folder is None else read_json(folder / "card.json") or {}
    model = card.get("model") or {}
    unlike = [key for key, value in PAPER_MODEL.items() if model.get(key, value) != value]
    begun = (card.get("init") or {}).get("name")
    return [
        *([f"started from {begun}"] if begun else []),
        *(f"{key} {model[key]} instead of {PAPER_MODEL[key]}" for key in unlike),
    ]


def _differs(raw: dict[str, Any]) -> list[str]:
    """How a result was measured unlike the published one, in a few words."""
    differences = ["of an encoder that is replaced"] if raw.get(OF_ANOTHER) else []
    if "own data" in str(raw.get("protocol")):
        differences.append("own data")
    if raw.get("preset") not in (None, "published", "peer"):
        differences.append(f"preset {raw['preset']}")
    if count := len(raw.get("overrides") or {}):
        differences.append(f"{count} setting{'s' if count > 1 else ''} changed")
    return differences
