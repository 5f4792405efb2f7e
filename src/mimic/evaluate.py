"""Measure an encoder on a task: metrics/<run>/<task>.json, and pictures in samples/<run>/<task>/.

The result says everything needed to judge the number: protocol, preset and what differs from it, checkpoint, seed, selection rule, test
size, versions. It holds no times and no paths of this machine, so an equal evaluation is an equal file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

from mimic import config
from mimic.errors import BadInput
from mimic.infra import tracking
from mimic.infra.storage import Workspace, file_digest, fingerprint, publish, write_json
from mimic.tasks import measure
from mimic.tasks.base import Folders, Picture, Result, Subject
from mimic.tasks.presets import overrides
from mimic.training.checkpoint import load_encoder

SWEPT = ("steps", "value", "standard_error")
VERSIONS = ("mimic", "torch", "numpy", "opencv-python-headless")


def main(params: config.Params, root: Path, run: str, task: str) -> None:
    """Evaluate `run` on `task`.

    Raises:
        BadInput: no such run or task, the checkpoint is missing or does not fit, the task's data are missing or wrong.
    """
    config.pick({**params.runs, **dict.fromkeys(params.imported)}, run, "run")
    section = config.pick(params.evaluate, task, "task in evaluate")
    workspace = Workspace(root)
    folder = workspace.model(run)
    subject = _subject(folder)
    progress = workspace.progress("evaluate", f"{run}-{task}", fingerprint(section.model_dump(mode="json"), subject.checkpoint))
    snapshots = sorted((folder / "snapshots").glob("*")) if params.table.checkpoints == "all" else []
    try:
        sweep = [_point(section, _subject(snapshot), workspace, progress / snapshot.name) for snapshot in snapshots]
        result = measure(section, subject, Folders(root, progress, workspace.features(subject.checkpoint)))
    except BadInput as error:
        raise BadInput(f"evaluate {run} {task}: {error}") from None
    record = _record(result, section, subject, run=run, task=task)
    if sweep:
        record["sweep"] = [*sweep, {key: record[key] for key in SWEPT}]
    publish(lambda out: _write_pictures(result.pictures, out), _made(workspace.samples(run, task)))
    write_json(workspace.metrics(run, task), record)
    shutil.rmtree(progress)
    tracking.mirror_evaluation(params.tracking, root, run, task)


def _subject(folder: Path) -> Subject:
    encoder, card = load_encoder(folder)
    return Subject(encoder, card, folder, checkpoint=file_digest(folder / "encoder.safetensors"))


def _point(section: config.Task, subject: Subject, workspace: Workspace, progress: Path) -> dict[str, Any]:
    """The value at a snapshot; measured once, however often the sweep is interrupted."""
    done = progress / "point.json"
    if not done.exists():
        progress.mkdir(exist_ok=True)
        result = measure(section, subject, Folders(workspace.root, progress, workspace.features(subject.checkpoint)))
        point = {"steps": subject.card["steps"], "value": result.value, "standard_error": result.metrics.get("standard_error")}
        write_json(done, point)
    return dict(json.loads(done.read_text()))


def _record(result: Result, section: config.Task, subject: Subject, *, run: str, task: str) -> dict[str, Any]:
    card = subject.card
    return {
        "name": result.name,
        "value": result.value,
        "higher_is_better": result.higher_is_better,
        "metrics": result.metrics,
        "standard_error": result.metrics.get("standard_error"),  # of the value, over test items or seeds; null = the task states none
        "protocol": result.protocol,
        "kind": section.task,
        "freeze": getattr(section, "freeze", None),
        "preset": getattr(section, "preset", None),
        "overrides": overrides(section),
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
        "versions": {name: version(name) for name in VERSIONS},
    }


def _write_pictures(pictures: Sequence[Picture], out: Path) -> None:
    for picture in pictures:
        path = out / f"{picture.name}.png"
        if not cv2.imwrite(str(path), cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path}: cannot be written")
    write_json(out / "samples.json", [{"file": f"{picture.name}.png", "caption": picture.caption} for picture in pictures])


def _made(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder
