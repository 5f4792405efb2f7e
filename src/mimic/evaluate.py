"""Measure an encoder on a task: metrics/<run>/<task>.json, and pictures and the scores of single
test items in samples/<run>/<task>/.

Every encoder of a run with several seeds is measured, and the result is their mean, with the
results of each in it (`tasks/over_seeds.py`); the pictures of each lie in a folder of its own,
samples/<run>/<task>/seed-<k>/.

The result says everything needed to judge the number: protocol, preset and what differs from it,
checkpoint, seed, selection rule, test size, versions. It holds no times and no paths of this
machine, so an equal evaluation is an equal file.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra import earlier, tracking
from mimic.infra.owner import one_owner
from mimic.infra.progress import say
from mimic.infra.publishing import Work, marked, place, publish
from mimic.infra.storage import Workspace, file_digest, fingerprint, link, read_json, write_json
from mimic.params import Params, pick
from mimic.tasks import over_seeds, run_task
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.checked_before import looked_through
from mimic.tasks.checks import asked_by, parts
from mimic.tasks.engine.saved_weights import has_trained
from mimic.tasks.inspection import lines
from mimic.tasks.item_files import ITEMS, ONLY, read_items, write_items
from mimic.tasks.protocols import apart, overrides
from mimic.tasks.sections import TaskSection
from mimic.training.checkpoint import load_encoder
from mimic.training.fit import choose_device

FIRST = {"task": 1}  # what files from before parts bore versions stand for
RECORD = "result.json"  # of one seed, until those of all are one file of metrics/
SWEPT = ("steps", "value", "standard_error")
VERSIONS = ("mimic", "torch", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class _Measured:
    """One encoder's result, and what is to lie in samples/."""

    record: dict[str, Any]
    pictures: Sequence[Figure]
    items: np.ndarray | None
    progress: Path  # what may be removed when it is published


@one_owner("evaluate")
def main(params: Params, root: Path, run: str, task: str) -> None:
    """Evaluate `run` on `task`: its encoder, or one after the other those of all its seeds.

    Raises:
        BadInput: no such run or task, the checkpoint is missing or does not fit, the task's data
            are missing or wrong.
    """
    planned = pick({**params.runs, **dict.fromkeys(params.imported)}, run, "run")
    section = pick(params.evaluate, task, "task in evaluate")
    workspace = Workspace(root)
    pictures = workspace.samples(run, task)
    work = Work("samples", f"{run}/{task}")
    place(pictures, work, recognise=earlier.samples)
    if planned is None or planned.seeds is None:
        measured = _measured_encoder(params, workspace, section, run, run, task)
        record = measured.record
        done = [measured.progress]
        publish(partial(_write_samples, measured), pictures, work, recognise=earlier.samples)
    else:
        kept = {
            name: _kept(params, workspace, section, name, task, one.only_seed)
            for name, one in planned.encoders(run).items()
        }
        record = over_seeds.merged({name: _record_in(path) for name, path in kept.items()}, section)
        done = []
        publish(partial(_link_samples, kept), pictures, work, recognise=earlier.samples)
    write_json(workspace.metrics(run, task), record)
    for progress in done:
        shutil.rmtree(progress)
    print(_said(record))
    tracking.mirror_evaluation(params.tracking, root, run, task)


def _measured_encoder(
    params: Params,
    workspace: Workspace,
    section: TaskSection,
    encoder: str,
    run: str,
    task: str,
) -> _Measured:
    """
    Args:
        encoder: `run`, or the name of one of its seeds.
    """
    folder = workspace.model(encoder)
    subject = _subject(folder)
    title = f"evaluate {encoder} {task}"
    try:
        progress, data = _begun(section, subject, workspace, run=encoder, task=task)
    except BadInput as error:
        raise BadInput(f"{title}: {error}") from None
    snapshots = (
        sorted((folder / "snapshots").glob("*")) if params.table.checkpoints == "all" else []
    )
    paths = EvalPaths(
        workspace.root, progress, workspace.features(subject.checkpoint), params.cluster.shards
    )
    with _keeping(title, progress, workspace.root):
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
        record = _record(result, section, subject, run=run, task=task) | {"data_digest": data}
    if sweep:
        record["sweep"] = [*sweep, {key: record[key] for key in SWEPT}]
    return _Measured(record, result.pictures, result.items, progress)


def _kept(
    params: Params, workspace: Workspace, section: TaskSection, encoder: str, task: str, seed: int
) -> Path:
    """The folder of one seed's finished measurement, made now unless it is there: with a seed more,
    or after a kill, the others are not measured again."""
    own = over_seeds.section_of(section, seed)
    run, _ = seed_of(encoder)
    subject = Workspace(workspace.root).model(encoder) / "encoder.safetensors"
    what = fingerprint(
        own.model_dump(mode="json"),
        file_digest(subject),
        {"task": own.task, **looked_through(own, task, workspace.root)},
        {name: version(name) for name in VERSIONS},
        parts(own),
        params.table.checkpoints,
    )
    folder = workspace.progress("evaluate", f"{encoder}@{task}", what) / "measured"
    if marked(folder) is None:
        measured = _measured_encoder(params, workspace, own, encoder, run, task)
        publish(partial(_write_seed, measured), folder, Work("evaluate", f"{encoder}/{task}"))
        shutil.rmtree(measured.progress)
    else:
        say(f"evaluate {encoder} {task}: kept, it is measured and nothing of it has changed")
    return folder


def _record_in(folder: Path) -> tuple[dict[str, Any], np.ndarray | None]:
    record = read_json(folder / RECORD)
    assert record is not None
    return record, read_items(folder / ITEMS).get(ONLY)


def _begun(
    section: TaskSection, subject: EvalModel, workspace: Workspace, *, run: str, task: str
) -> tuple[Path, str]:
    """The folder of this evaluation's unfinished work, once its data are known to do, and a digest
    of the data.

    They are looked through here unless `prepare` did so for these very numbers; in any case before
    going on from unfinished work, which may be of other data.
    """

    def folder(found: dict[str, Any]) -> Path:
        what = fingerprint(section.model_dump(mode="json"), subject.checkpoint, found)
        return workspace.progress("evaluate", f"{run}@{task}", what)

    found = _prepared(workspace.checked(task), section)
    if (
        found is None
        or any(folder(found).iterdir())
        or workspace.remembered(task).exists()  # then it takes no time to ask
    ):
        found = {"task": section.task, **looked_through(section, task, workspace.root)}
    for line in lines(found):
        print(f"{task}: {line}")
    return folder(found), _digest_of_data(found)


def _digest_of_data(found: Mapping[str, Any]) -> str:
    """Equal for equal test items in the same order."""
    return fingerprint(*(found.get(key) for key in ("splits", "found", "digest")))


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
    tested = f"{record['test_size']:,} tested"
    if record.get("sd") is not None:
        spread = f" ± {record['sd']:.2g}"
        tested = f"mean and deviation of {record['n']} seeds, {tested}"
    return (
        f"{record['run']} {record['task']}: {record['name']} {record['value']:.4g}{spread} "
        f"({tested}); metrics/{record['run']}/{record['task']}.json"
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


def _write_samples(measured: _Measured, out: Path) -> None:
    for picture in measured.pictures:
        path = out / f"{picture.name}.png"
        if not cv2.imwrite(str(path), cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path}: cannot be written")
    write_json(
        out / "samples.json",
        [{"file": f"{one.name}.png", "caption": one.caption} for one in measured.pictures],
    )
    if measured.items is not None:
        write_items(out / ITEMS, {ONLY: measured.items})


def _write_seed(measured: _Measured, out: Path) -> None:
    _write_samples(measured, out)
    write_json(out / RECORD, measured.record)


def _link_samples(measured: Mapping[str, Path], out: Path) -> None:
    """The pictures of every seed in a folder of its own, and the items of all in one file."""
    items = {}
    for encoder, folder in measured.items():
        own = out / encoder.rpartition("/")[2]
        own.mkdir()
        for path in (*folder.glob("*.png"), folder / "samples.json"):
            link(path, own / path.name)
        for array in read_items(folder / ITEMS).values():
            items[own.name] = array
    if items:
        write_items(out / ITEMS, items)
