"""From the published files to records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mimic.config.names import seed_of, wrong_with
from mimic.errors import BadInput
from mimic.infra.storage import SEED, STAGE_METRICS, Workspace, file_digest, fingerprint, read_json
from mimic.infra.tracking import evaluated, names, trained
from mimic.infra.tracking.names import TrackingContext
from mimic.infra.tracking.records import Record, Times

TAG = 4900  # characters of a tag that every store of MLflow takes


@dataclass(frozen=True)
class PublishedEncoder:
    """One that is published."""

    name: str
    card: dict[str, Any]
    checkpoint: str


@dataclass
class PublishedRecords:
    """A workspace's records, those above before those below them, and the files whose names mimic
    would not give: one of them must not end the mirroring of all."""

    records: list[Record] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)


def everything(workspace: Workspace, context: TrackingContext) -> PublishedRecords:
    """Every published result."""
    published = PublishedRecords()
    models = {path.parent.name for path in workspace.root.glob("models/*/card.json")}
    for path in sorted(workspace.root.glob(f"models/*/{SEED}*/card.json")):
        run = path.parent.parent.name
        name = f"{run}/{path.parent.name}"
        if wrong_with(run) is None and seed_of(name)[1] is None:
            published.misnamed.append(ascii(f"models/{name}"))
        else:
            models.add(run)
    results = set()
    for path in sorted(workspace.root.glob("metrics/*/*.json")):
        run = path.parent.name
        if run in STAGE_METRICS:
            continue
        if wrong_with(run) or wrong_with(path.stem):
            published.misnamed.append(ascii(f"metrics/{run}/{path.name}"))
        else:
            results.add(run)
    for run in sorted(models):
        if wrong_with(run):
            published.misnamed.append(ascii(f"models/{run}"))
    for run in sorted(models | results):
        if not wrong_with(run):
            published.records += of_run(workspace, context, run)
    return published


def of_run(
    workspace: Workspace, context: TrackingContext, run: str, task: str | None = None
) -> list[Record]:
    """The records of one run.

    Args:
        task: leave out the evaluations on others, but for their headlines.
    """
    encoders = [
        PublishedEncoder(
            name, required(folder / "card.json"), file_digest(folder / "encoder.safetensors")
        )
        for name, folder in workspace.encoders(run).items()
    ]
    results = dict(_results(workspace, run))
    pretrainings = [trained.record(workspace, one.name, one.card) for one in encoders]
    held = {one.checkpoint for one in encoders}
    evaluations = [
        replace(record, is_past=bool(held and evaluated.measured_by(record, result) - held))
        for name, result in results.items()
        if task in (None, name)
        for record in evaluated.records(workspace, context, run, name, result)
    ]
    below = [*pretrainings, *evaluations]
    made_by = pretrainings or evaluations
    if not made_by:
        raise BadInput(f"models/{run}: holds no encoder, and metrics/{run} no result")
    run_record = _run_record(run, encoders, results, context, made_by)
    seeds = [
        _of_seed(one, record, results, context)
        for one, record in zip(encoders, pretrainings, strict=True)
        if seed_of(one.name)[1] is not None
    ]
    known = {record.node for record in [run_record, *seeds]}
    return [run_record, *seeds, *(_placed(record, known, run) for record in below)]


def _placed(record: Record, known: set[tuple[str, str]], run: str) -> Record:
    """Below its seed; below the run where the encoder of this seed is not there."""
    if record.above in known:
        return record
    return record.below("run", run)


def _results(workspace: Workspace, run: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(workspace.metrics(run, "any").parent.glob("*.json")):
        if wrong_with(path.stem) is not None:
            continue
        result = required(path)
        try:
            for one in [result, *result.get("seeds", [])]:
                float(one["value"])
            evaluated.checkpoints(result)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"{path}: not a metrics file ({error!r}); run mimic evaluate {run} {path.stem} "
                "again"
            ) from None
        yield path.stem, result


def _run_record(
    run: str,
    encoders: Sequence[PublishedEncoder],
    results: dict[str, dict[str, Any]],
    context: TrackingContext,
    made_by: Sequence[Record],
) -> Record:
    """The run itself: means over its seeds."""
    checkpoints = [one.checkpoint for one in encoders]
    if not checkpoints:  # only numbers are here
        checkpoints = evaluated.checkpoints(next(iter(results.values())))
    fitting = {
        name: result
        for name, result in results.items()
        if evaluated.checkpoints(result) == checkpoints
    }
    first: dict[str, Any] = encoders[0].card if encoders else next(iter(results.values()))
    seeds = [str(one.card.get("seed")) for one in encoders] or evaluated.run_seeds(first)
    return Record(
        level="run",
        subject=run,
        name=label(run, first, len(checkpoints)),
        fingerprint=fingerprint(*checkpoints),
        training=fingerprint(*(one.card.get("progress") for one in encoders)),
        tags=_tags(run, first)
        | {"n": str(len(checkpoints))}
        | ({"seed": " ".join(seeds)} if seeds else {})  # else what MLflow has of it stays
        | _compared(fitting, context),
        times=_span([one.times for one in made_by]),
        user=made_by[0].user,
        params=trained.params(first) if encoders else {},
        headlines=dict(
            pair for result in fitting.values() for pair in names.headlines(result, context)
        ),
        data=trained.data(first),
    )


def label(run: str, card: dict[str, Any], count: int) -> str:
    """What a bar of the chart is called."""
    data = str(card.get("dataset") or "imported")
    if card.get("steps") == 0:
        data = "not pretrained"
    return f"{run} ({data}, {count} seed{'' if count == 1 else 's'})"


def _of_seed(
    encoder: PublishedEncoder,
    pretraining: Record,
    results: dict[str, dict[str, Any]],
    context: TrackingContext,
) -> Record:
    run, seed = seed_of(encoder.name)
    fitting = {
        task: one
        for task, result in results.items()
        for one in evaluated.each_seed(result)
        if one["encoder"] == encoder.name and one["checkpoint"] == encoder.checkpoint
    }
    return Record(
        level="seed",
        subject=encoder.name,
        name=f"{run} seed {seed}",
        fingerprint=encoder.checkpoint,
        training=str(encoder.card.get("progress")),
        tags=_tags(encoder.name, encoder.card)
        | {"seed": str(seed), "checkpoint": encoder.checkpoint}
        | _compared(fitting, context),
        times=pretraining.times,
        user=pretraining.user,
        above=("run", run),
        params=pretraining.params,
        headlines=dict(pair for one in fitting.values() for pair in names.headlines(one, context)),
        data=pretraining.data,
    )


def _tags(encoder: str, card: dict[str, Any]) -> dict[str, str]:
    return {
        "encoder": encoder,
        "objective": str(card.get("objective")),
        "dataset": str(card.get("dataset")),
        **trained.provenance(card, card.get("git_commit")),
    }


def _compared(results: dict[str, dict[str, Any]], context: TrackingContext) -> dict[str, str]:
    """What has to be equal where two of its numbers are compared: the protocol and the data."""
    tags = {}
    for task, result in results.items():
        tags[f"protocol.{task}"] = str(result.get("protocol"))[:TAG]
        digest = result.get("data_digest")
        tags[f"data.{task}"] = names.data_name(result, context) + (f"@{digest}" if digest else "")
    return tags


def _span(times: Sequence[Times]) -> Times:
    return Times(min(one.begun for one in times), max(one.ended for one in times))


def required(path: Path) -> dict[str, Any]:
    """
    Raises:
        BadInput: there is no such file, or it is damaged.
    """
    content = read_json(path)
    if content is None:
        raise BadInput(f"{path}: no such file; run the stage that makes it (dvc repro)")
    return content
