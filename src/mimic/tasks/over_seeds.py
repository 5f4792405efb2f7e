"""The results of a run's seeds as one: mean, deviation, and how many.

Each encoder of a run with `seeds` is measured by itself. Where a task trains something, the number
that draws its head and its batches moves with the encoder's seed (`section_of`): the deviation over
seeds is then that of the whole procedure, and seed k of two runs, which start from the same
numbers, is a pair. Where a task trains nothing its seed only chooses the test items, which stay
the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mimic.config.names import seed_of
from mimic.tasks.sections import TaskSection

TRAINING = ("steps", "epochs")  # a section that has one of them trains a head
# What seeds of one run differ in: the rest of a record is said once.
OWN = ("value", "standard_error", "metrics", "not_measured", "seed", "section", "checkpoint")
TOLD = ("value", "standard_error", "metrics", "not_measured", "seed", "checkpoint", "sweep")

Record = dict[str, Any]


def section_of(section: TaskSection, seed: int) -> TaskSection:
    """The task as the encoder of one seed is measured: of seed 0 as a run with one seed is."""
    if not any(name in type(section).model_fields for name in TRAINING):
        return section
    draws = getattr(section, "seeds", 1)  # few-shot tasks use so many numbers from theirs on
    return section.model_copy(update={"seed": section.seed + seed * draws})


def merged(
    measured: Mapping[str, tuple[Record, np.ndarray | None]], section: TaskSection
) -> Record:
    """One record of a run, of the records and items of its encoders by name.

    `value` is the mean, `sd` the deviation over seeds (n - 1; None of a single one), `n` how many,
    `standard_error` that of the mean over the test items; `seeds` holds what each measured.
    """
    records = [record for record, _ in measured.values()]
    values = [record["value"] for record in records]
    shared = {key: value for key, value in records[0].items() if key not in OWN}
    for key in ("protocol", "selection"):
        shared[key] = "; or: ".join(dict.fromkeys(record[key] for record in records))
    reasons = {
        key: why for record in records for key, why in record.get("not_measured", {}).items()
    }
    if all("sweep" in record for record in records):
        shared["sweep"] = [_swept(points) for points in _by_step(records)]
    return {
        **shared,
        "value": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "standard_error": _error(records, [items for _, items in measured.values()]),
        "metrics": _mean([record["metrics"] for record in records]),
        **({"not_measured": reasons} if reasons else {}),
        "seed": section.seed,
        "section": section.model_dump(mode="json"),
        "checkpoint": None,  # each has its own
        "seeds": [
            {"encoder": name, "run_seed": seed_of(name)[1]}
            | {key: record[key] for key in TOLD if key in record}
            for name, (record, _) in measured.items()
        ],
    }


def _error(records: Sequence[Record], items: Sequence[np.ndarray | None]) -> float | None:
    """Standard error over test items of the mean of several encoders; the root of their mean
    variance, which it does not exceed, where single items are not known."""
    known = [one for one in items if one is not None]
    if len(known) == len(items) and len({len(one) for one in known}) == 1:
        each = np.mean(known, axis=0)
        scored = each[~np.isnan(each)]
        if len(scored) > 1:
            return float(scored.std(ddof=1) / math.sqrt(len(scored)))
    errors = [record["standard_error"] for record in records]
    if any(error is None for error in errors):
        return None
    return math.sqrt(statistics.fmean(error**2 for error in errors))


def _by_step(records: Sequence[Record]) -> list[list[Record]]:
    """The points of all seeds at each step that all have."""
    steps = [{point["steps"]: point for point in record["sweep"]} for record in records]
    return [
        [points[step] for points in steps]
        for step in steps[0]
        if all(step in points for points in steps)
    ]


def _swept(points: Sequence[Record]) -> Record:
    errors = [point["standard_error"] for point in points]
    known = [error for error in errors if error is not None]
    error = math.sqrt(statistics.fmean(one**2 for one in known)) if len(known) == len(errors) else 0
    return {
        "steps": points[0]["steps"],
        "value": statistics.fmean(point["value"] for point in points),
        "standard_error": error or None,
    }


def _mean(values: Sequence[Any]) -> Any:
    """Means of numbers, place by place; what is equal stays as it is, what has no mean is None."""
    first = values[0]
    if all(value == first for value in values):
        return first
    if all(isinstance(value, dict) for value in values):
        shared = [key for key in first if all(key in value for value in values)]
        return {key: _mean([value[key] for value in values]) for key in shared}
    if all(isinstance(value, list) and len(value) == len(first) for value in values):
        return [_mean(list(elements)) for elements in zip(*values, strict=True)]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return statistics.fmean(values)
    return None
