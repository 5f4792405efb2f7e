"""An evaluation as records: one an encoder, and that of their mean where a run has several."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra import confined
from mimic.infra.storage import Workspace, file_digest, fingerprint
from mimic.infra.tracking import names, recorder, trained
from mimic.infra.tracking.identity import owner_name
from mimic.infra.tracking.names import TrackingContext, clean, metric_name
from mimic.infra.tracking.recorder import Recorded
from mimic.infra.tracking.records import Curves, Data, Record, Times

NOT_PARAMS = {
    "metrics",
    "value",
    "checkpoint",
    "manifest_digest",
    "parts",
    "versions",
    "higher_is_better",
    "seeds",
    "sd",
    "protocol",
    "data_digest",
    "sweep",
}
OF_ALL = ("seeds", "sd", "n")  # of a result, and of none of its seeds


def record_path(root: Path, encoder: str, task: str) -> Path:
    """Where the machine's record of an evaluation lies; DVC never sees it."""
    return root / "runs/recorded" / f"{encoder}@{task}.jsonl"


def mark(result: dict[str, Any]) -> str:
    """What ties such a record to the result that it is of."""
    return fingerprint(result["checkpoint"], result["value"])


def checkpoints(result: dict[str, Any]) -> list[str]:
    """Of the encoders that were measured, in the order of their seeds."""
    return [str(one["checkpoint"]) for one in _by_seed(result) or [result]]


def measured_by(record: Record, result: dict[str, Any]) -> set[str]:
    """sha256 of the encoders that a record of a result is of: one, or all for that of the mean."""
    every = checkpoints(result)
    own = record.tags["checkpoint"]
    return {own} if own in every else set(every)


def run_seeds(result: dict[str, Any]) -> list[str]:
    """Of the encoders that were measured; none of a run with one, whose result does not say it."""
    return [str(one["run_seed"]) for one in _by_seed(result)]


def _by_seed(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured of each seed, in their order; a result lists them as params.yaml does."""
    return sorted(result.get("seeds", []), key=lambda one: int(one["run_seed"]))


def each_seed(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Whole results of the encoders of a run with several."""
    shared = {key: value for key, value in result.items() if key not in OF_ALL}
    return [shared | one | {"sweep": one.get("sweep", [])} for one in result.get("seeds", [])]


def records(
    workspace: Workspace, context: TrackingContext, run: str, task: str, result: dict[str, Any]
) -> list[Record]:
    """One of a run with one seed; of one with several one a seed, and that of their mean."""
    path = workspace.metrics(run, task)
    digest = file_digest(path)[:16]
    result = result | {"task": task}
    for one in result.get("seeds", []):
        if seed_of(str(one["encoder"]))[0] != run:  # its name becomes a path
            raise BadInput(
                f"{path}: {one['encoder']!r} is no seed of {run}; remove the file, and evaluate "
                "the run again"
            )
    each = [
        _record(workspace, context, one, fingerprint(told_once, digest), str(one["encoder"]))
        for one, told_once in zip(each_seed(result), result.get("seeds", []), strict=True)
    ]
    recorded = [_recorded(workspace, one, str(one["encoder"])) for one in each_seed(result)]
    mean = _record(workspace, context, result, digest, run)
    known = [time for one in recorded for time in (one.begun, one.ended) if time is not None]
    return [*each, replace(mean, times=trained.times(known, path)) if each else mean]


def _record(
    workspace: Workspace,
    context: TrackingContext,
    result: dict[str, Any],
    digest: str,
    encoder: str,
) -> Record:
    task = str(result["task"])
    run, seed = seed_of(encoder)
    path = workspace.metrics(run, task)
    recorded = _recorded(workspace, result, encoder)
    numbers = dict(_numbers("", result["metrics"]))
    return Record(
        level="evaluate",
        subject=f"{encoder}@{task}",
        name=f"{task} {encoder.replace('/', ' ')}",
        fingerprint=digest,
        tags={
            "task": task,
            "encoder": encoder,
            "checkpoint": str(result["checkpoint"]),
            "objective": str(result.get("objective")),
            "dataset": str(result.get("dataset")),
            "protocol": str(result.get("protocol")),
            **({} if seed is None else {"seed": str(seed)}),
            **trained.provenance(result, recorded.commit),
        },
        times=_times(recorded, path),
        user=owner_name(path),
        above=("run", run) if seed is None else ("seed", encoder),
        params=trained.flat({key: value for key, value in result.items() if key not in NOT_PARAMS})
        | {f"metrics.{name}": str(value) for name, value in numbers.items() if _counts(value)},
        headlines=dict(names.headlines(result, context)),
        curves=_curves(result, context, numbers) | trained.system_curves(recorded),
        data=_data(result, context),
        images={
            (f"{task}/{picture.stem}", 0): picture
            for picture in sorted(_pictures(workspace, encoder, task).glob("*.png"))
        },
        files=(path,),
    )


def _pictures(workspace: Workspace, encoder: str, task: str) -> Path:
    run, seed = seed_of(encoder)
    confined.below(workspace.root / "samples", run, workspace.metrics(run, task))
    folder = workspace.samples(run, task)
    return folder if seed is None else folder / encoder.rpartition("/")[2]


def _recorded(workspace: Workspace, result: dict[str, Any], encoder: str) -> Recorded:
    """The machine's record, if it is of this very result."""
    if result["checkpoint"] is None:  # a mean
        return Recorded()
    recorded = recorder.read(record_path(workspace.root, encoder, str(result["task"])))
    return recorded if recorded.of == mark(result) else Recorded()


def _times(recorded: Recorded, path: Path) -> Times:
    known = [time for time in (recorded.begun, recorded.ended) if time is not None]
    return trained.times(known, path)


def _curves(result: dict[str, Any], context: TrackingContext, numbers: dict[str, float]) -> Curves:
    """Every measured number but the counts, and the headline of each snapshot."""
    headline = metric_name(result, context, str(result["name"]).lower())
    curves: Curves = {
        (metric_name(result, context, name), 0): (float(value), None)
        for name, value in numbers.items()
        if not _counts(value)
    }
    if result.get("sd") is not None:
        curves[f"{headline} deviation over seeds", 0] = (float(result["sd"]), None)
    for point in result.get("sweep", []):
        step = int(point["steps"])
        curves[f"{headline} by pretraining step", step] = (float(point["value"]), None)
    for pair in names.headlines(result, context):
        curves.pop((pair[0], 0), None)
    return curves


def _counts(value: float) -> bool:
    """Whether a number counts something, and measures nothing."""
    return isinstance(value, int)


def _data(result: dict[str, Any], context: TrackingContext) -> tuple[Data, ...]:
    digest = result.get("data_digest")
    if not digest:
        return ()  # a result from before they said
    section = result.get("section", {})
    where = section.get("data") or section.get("dataset")
    source = json.dumps({"uri": str(where), "digest": digest})
    return (Data(names.data_name(result, context), str(digest), source, "evaluate"),)


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """delta1 = 0.5, averages image delta1 = 0.5, ...: a slash would be one more section of charts.
    Lists (one number a block, a class) stay in the file that is logged beside them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(f"{name} {key}" if name else str(key), inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield clean(name).replace("/", " "), value
