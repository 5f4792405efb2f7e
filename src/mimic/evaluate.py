"""Measure an encoder on a task: metrics/<run>/<task>.json, and pictures in samples/<run>/<task>/.

The result says everything needed to judge the number: protocol, preset and what differs from it,
checkpoint, seed, selection rule, test size, versions. It holds no times and no paths of this
machine, so an equal evaluation is an equal file.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

from mimic.errors import BadInput
from mimic.infra import earlier, tracking
from mimic.infra.publishing import Work, place, publish
from mimic.infra.storage import Workspace, file_digest, fingerprint, read_json, write_json
from mimic.params import Params, pick
from mimic.tasks import run_task
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.checked_before import looked_through
from mimic.tasks.checks import asked_by, parts
from mimic.tasks.engine.saved_weights import has_trained
from mimic.tasks.inspection import lines
from mimic.tasks.protocols import apart, overrides
from mimic.tasks.sections import TaskSection
from mimic.training.checkpoint import load_encoder
from mimic.training.fit import choose_device

FIRST = {"task": 1}  # what files from before parts bore versions stand for
SWEPT = ("steps", "value", "standard_error")
VERSIONS = ("mimic", "torch", "numpy", "opencv-python-headless")


def main(params: Params, root: Path, run: str, task: str) -> None:
    """Evaluate `run` on `task`.

    Raises:
        BadInput: no such run or task, the checkpoint is missing or does not fit, the task's data
            are missing or wrong.
    """
    pick({**params.runs, **dict.fromkeys(params.imported)}, run, "run")
    section = pick(params.evaluate, task, "task in evaluate")
    workspace = Workspace(root)
    pictures = workspace.samples(run, task)
    work = Work("samples", f"{run}/{task}")
    place(pictures, work, recognise=earlier.samples)
    folder = workspace.model(run)
    subject = _subject(folder)
    title = f"evaluate {run} {task}"
    try:
        progress = _begun(section, subject, workspace, run=run, task=task)
    except BadInput as error:
        raise BadInput(f"{title}: {error}") from None
    snapshots = (
        sorted((folder / "snapshots").glob("*")) if params.table.checkpoints == "all" else []
    )
    paths = EvalPaths(root, progress, workspace.features(subject.checkpoint), params.cluster.shards)
    with _keeping(title, progress, root):
        sweep = [
            _point(
                section,
                _subject(snapshot),
                replace(paths, progress=progress / snapshot.name),
                workspace,
            )
            for snapshot in snapshots
        ]
        result = _measured(section, subject, paths)
        record = _record(result, section, subject, run=run, task=task)
    if sweep:
        record["sweep"] = [*sweep, {key: record[key] for key in SWEPT}]
    publish(
        lambda out: _write_pictures(result.pictures, out), pictures, work, recognise=earlier.samples
    )
    write_json(workspace.metrics(run, task), record)
    shutil.rmtree(progress)
    print(_said(record))
    tracking.mirror_evaluation(params.tracking, root, run, task)


def _begun(
    section: TaskSection, subject: EvalModel, workspace: Workspace, *, run: str, task: str
) -> Path:
    """The folder of this evaluation's unfinished work, once its data are known to do.

    They are looked through here unless `prepare` did so for these very numbers; in any case before
    going on from unfinished work, which may be of other data.
    """

    def folder(found: dict[str, Any]) -> Path:
        what = fingerprint(section.model_dump(mode="json"), subject.checkpoint, found)
        return workspace.progress("evaluate", f"{run}@{task}", what)

    found = _prepared(workspace.checked(task), section)
    if found is None or any(folder(found).iterdir()):
        found = {"task": section.task, **looked_through(section, task, workspace.root)}
    for line in lines(found["found"]):
        print(f"{task}: {line}")
    return folder(found)


def _prepared(path: Path, section: TaskSection) -> dict[str, Any] | None:
    """What `prepare` has said of a task; None if it said nothing of these numbers."""
    found = read_json(path) or {}
    same = found.get("asked") == asked_by(section)
    of_now = found.get("parts", FIRST) == parts(section)
    return dict(found) if same and of_now else None


@contextmanager
def _keeping(title: str, progress: Path, root: Path) -> Iterator[None]:
    """Say what is kept, should measuring fail after hours of training."""

    def kept() -> str:
        where = progress.relative_to(root)
        what = f"what was trained is kept in {where}: the same command measures it again"
        return what if has_trained(progress) else ""

    try:
        yield
    except BadInput as error:
        said = kept()
        raise BadInput(f"{title}: {error}{'; ' if said else ''}{said}") from None
    except Exception as error:
        if kept():
            error.add_note(f"{title}: {kept()}")
        raise


def _said(record: dict[str, Any]) -> str:
    """The number in one line."""
    error = record["standard_error"]
    spread = "" if error is None else f" ± {error:.2g}"
    return (
        f"{record['run']} {record['task']}: {record['name']} {record['value']:.4g}{spread} "
        f"({record['test_size']:,} tested); metrics/{record['run']}/{record['task']}.json"
    )


def _subject(folder: Path) -> EvalModel:
    encoder, card = load_encoder(folder)
    device = choose_device()
    checkpoint = file_digest(folder / "encoder.safetensors")
    return EvalModel(encoder.to(device), device, card, folder, checkpoint)


def _measured(section: TaskSection, subject: EvalModel, paths: EvalPaths) -> Result:
    """
    Raises:
        BadInput: there was nothing to measure, or whatever the task has against its input.
    """
    result = run_task(section, subject, paths)
    if not math.isfinite(result.value):
        raise BadInput(
            f"{result.name} is {result.value}: there was nothing to measure; run mimic prepare "
            "again"
        )
    return result


def _point(
    section: TaskSection, subject: EvalModel, paths: EvalPaths, workspace: Workspace
) -> dict[str, Any]:
    """The value at a snapshot; measured once, however often the sweep is interrupted."""
    done = paths.progress / "point.json"
    if not done.exists():
        paths.progress.mkdir(exist_ok=True)
        paths = replace(paths, features=workspace.features(subject.checkpoint))
        result = _measured(section, subject, paths)
        point = {
            "steps": subject.card["steps"],
            "value": result.value,
            "standard_error": result.metrics.get("standard_error"),
        }
        write_json(done, point)
    return read_json(done) or {}


def _record(
    result: Result, section: TaskSection, subject: EvalModel, *, run: str, task: str
) -> dict[str, Any]:
    card = subject.card
    metrics, missing = _finite(result.metrics)
    reasons = dict.fromkeys(missing, "nothing to measure")
    changed = overrides(section)
    return {
        "name": result.name,
        "headline": result.headline,
        "value": result.value,
        "higher_is_better": result.higher_is_better,
        "metrics": metrics,
        **({"not_measured": reasons} if reasons else {}),
        "standard_error": metrics.get(
            "standard_error"
        ),  # of the value, over test items or seeds; null = the task states none
        "protocol": result.protocol + apart(changed),
        "kind": section.task,
        "freeze": getattr(section, "freeze", None),
        "preset": getattr(section, "preset", None),
        "overrides": changed,
        "section": section.model_dump(mode="json"),
        "selection": result.selection,
        "test_size": result.test_size,
        "seed": section.seed,
        "task": task,
        "run": run,
        "checkpoint": subject.checkpoint,
        "steps": card.get("steps"),
        "objective": card.get("objective"),
        "dataset": card.get("dataset"),
        "manifest_digest": card.get("manifest_digest"),
        "parts": parts(section),
        "versions": {name: version(name) for name in VERSIONS},
    }


def _finite(value: Any, name: str = "") -> tuple[Any, list[str]]:
    """The same with null for what is no number, and the names of what was none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None, [name]
    if not isinstance(value, dict | list | tuple):
        return value, []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    parts = {key: _finite(part, f"{name}.{key}" if name else str(key)) for key, part in items}
    missing = [one for _, names in parts.values() for one in names]
    if isinstance(value, dict):
        return {key: part for key, (part, _) in parts.items()}, missing
    return [part for part, _ in parts.values()], missing


def _write_pictures(pictures: Sequence[Figure], out: Path) -> None:
    for picture in pictures:
        path = out / f"{picture.name}.png"
        if not cv2.imwrite(str(path), cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path}: cannot be written")
    write_json(
        out / "samples.json",
        [{"file": f"{picture.name}.png", "caption": picture.caption} for picture in pictures],
    )
