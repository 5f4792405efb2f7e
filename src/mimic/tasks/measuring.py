"""One encoder measured on one task: here, or in a job that leaves its result in a folder.

A `Cell` says all that decides the result, so the same call gives the same bytes wherever it runs.
"""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimic.config import Shards
from mimic.errors import BadInput
from mimic.infra import tracking
from mimic.infra.cluster import Stop
from mimic.infra.publishing import Work, marked, publish
from mimic.infra.storage import Workspace, file_digest, fingerprint, read_json, write_json
from mimic.infra.writing import write_picture
from mimic.tasks import TASKS, run_task
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.checked_before import looked_through
from mimic.tasks.checks import asked_by, parts
from mimic.tasks.engine.saved_weights import has_trained
from mimic.tasks.inspection import lines
from mimic.tasks.item_files import ITEMS, ONLY, write_items
from mimic.tasks.protocols import apart, overrides
from mimic.tasks.sections import TaskSection
from mimic.training.checkpoint import load_encoder
from mimic.training.fit import choose_device

FIRST = {"task": 1}  # what files from before parts bore versions stand for
MEASURED = "measured"  # in the folder of a measurement apart: its result, whole
RECORD = "result.json"  # there; published, it is a file of metrics/
NAME_BYTES = 180  # of a picture's name; disks take 255, ending and check sum included
SWEPT = ("steps", "value", "standard_error")
VERSIONS = ("mimic", "torch", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Cell:
    """What is measured, and all that decides the result."""

    root: Path  # the workspace
    encoder: str  # `run`, or the name of one of its seeds
    run: str
    task: str  # its name in params.yaml
    section: TaskSection
    checkpoints: str  # `table.checkpoints`
    shards: Shards

    @property
    def title(self) -> str:
        return f"evaluate {self.encoder} {self.task}"

    def snapshots(self) -> list[Path]:
        """Folders of the encoders on the way that are measured too, earliest first."""
        folder = Workspace(self.root).model(self.encoder) / "snapshots"
        return sorted(folder.glob("*")) if self.checkpoints == "all" else []

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, for a job on another machine; see `of_json`."""
        return {
            "root": str(self.root.resolve()),
            "encoder": self.encoder,
            "run": self.run,
            "task": self.task,
            "section": self.section.model_dump(mode="json"),
            "checkpoints": self.checkpoints,
            "shards": self.shards.model_dump(mode="json"),
        }

    @staticmethod
    def of_json(stated: Mapping[str, Any]) -> Cell:
        """The inverse of `as_json`."""
        known = {
            "root": Path(stated["root"]),
            "section": TASKS[stated["section"]["task"]].section.model_validate(stated["section"]),
            "shards": Shards.model_validate(stated["shards"]),
        }
        return Cell(**{**stated, **known})


@dataclass(frozen=True)
class Measured:
    """One encoder's result, and what is to lie in samples/."""

    record: dict[str, Any]
    pictures: Sequence[Figure]
    items: np.ndarray | None
    progress: Path  # what may be removed when it is published


def measure_apart(stated: Mapping[str, Any], folder: Path, stop: Stop) -> None:  # noqa: ARG001
    """`measure` a cell that was written down, and leave the result in a folder; once.

    What can be resumed is, after a requeue; a task that saves nothing begins again (the loop asks
    whoever listens for signals, see `training.fit`).
    """
    leave_in(Cell.of_json(stated), folder)


def leave_in(cell: Cell, folder: Path) -> None:
    """Measure, unless the result lies in the folder already."""
    if marked(folder / MEASURED) is None:
        measured = measure(cell)
        work = Work("evaluate", f"{cell.encoder}/{cell.task}")
        publish(partial(_write_result, measured), folder / MEASURED, work)
        shutil.rmtree(measured.progress)


def measure(cell: Cell) -> Measured:
    """
    Raises:
        BadInput: the checkpoint is missing or does not fit, the task's data are missing or wrong.
    """
    workspace = Workspace(cell.root)
    section = cell.section
    folder = workspace.model(cell.encoder)
    subject = _subject(folder)
    try:
        progress, data = _begun(section, subject, workspace, run=cell.encoder, task=cell.task)
    except BadInput as error:
        raise BadInput(f"{cell.title}: {error}") from None
    snapshots = cell.snapshots()
    features = workspace.features(subject.checkpoint)
    paths = EvalPaths(workspace.root, progress, features, cell.shards)
    machine = tracking.record_path(cell.root, cell.encoder, cell.task)
    with (
        _keeping(cell.title, progress, workspace.root),
        tracking.recorded(machine, cell.root, work=progress.name) as ended,
    ):
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
        record = _record(result, section, subject, run=cell.run, task=cell.task)
        record |= {"data_digest": data}
        ended["of"] = tracking.mark(record)
    if sweep:
        record["sweep"] = [*sweep, {key: record[key] for key in SWEPT}]
    return Measured(record, result.pictures, result.items, progress)


def _begun(
    section: TaskSection, subject: EvalModel, workspace: Workspace, *, run: str, task: str
) -> tuple[Path, str]:
    """The folder of this evaluation's unfinished work, once its data are known to do, and a digest
    of the data.

    They are looked through here unless `prepare` did so for these very numbers; in any case before
    going on from unfinished work, which may be of other data.
    """

    def folder(facts: dict[str, Any]) -> Path:
        what = fingerprint(section.model_dump(mode="json"), subject.checkpoint, facts)
        return workspace.progress("evaluate", f"{run}@{task}", what)

    facts = _prepared(workspace.checked(task), section)
    if (
        facts is None
        or any(folder(facts).iterdir())
        or workspace.remembered(task).exists()  # then it takes no time to ask
    ):
        facts = {"task": section.task, **looked_through(section, task, workspace.root)}
    for line in lines(facts):
        print(f"{task}: {line}")
    return folder(facts), _digest_of_data(facts)


def _digest_of_data(facts: Mapping[str, Any]) -> str:
    """Equal for equal test items in the same order."""
    return fingerprint(*(facts.get(key) for key in ("splits", "found", "digest")))


def _prepared(path: Path, section: TaskSection) -> dict[str, Any] | None:
    """What `prepare` has said of a task; None if it said nothing of these numbers."""
    facts = read_json(path) or {}
    same = facts.get("asked") == asked_by(section)
    of_now = facts.get("parts", FIRST) == parts(section)
    return dict(facts) if same and of_now else None


@contextmanager
def _keeping(title: str, progress: Path, root: Path) -> Iterator[None]:
    """Say what is kept, should measuring fail after hours of training."""

    def kept() -> str:
        where = progress.relative_to(root) if progress.is_relative_to(root) else progress
        what = f"what was trained is kept in {where}: the same command measures it again"
        return what if has_trained(progress) else ""

    try:
        yield
    except BadInput as error:
        advice = kept()
        raise BadInput(f"{title}: {error}{'; ' if advice else ''}{advice}") from None
    except Exception as error:
        if kept():
            error.add_note(f"{title}: {kept()}")
        raise


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
        "unscored": 0 if result.items is None else int(np.isnan(result.items).sum()),
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


def _file_name(name: str) -> str:
    """A picture's name as that of one file: of one folder, and of a length that disks take."""
    flat = name.replace("/", "-")
    encoded = flat.encode(errors="surrogateescape")
    if len(encoded) <= NAME_BYTES:
        return flat
    return f"{encoded[:NAME_BYTES].decode(errors='ignore')}-{zlib.crc32(encoded):08x}"


def write_samples(measured: Measured, out: Path) -> None:
    """Pictures, their captions (samples.json) and the score of each test item."""
    listed = []
    for picture in measured.pictures:
        name = f"{_file_name(picture.name)}.png"
        write_picture(out / name, cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR))
        listed.append({"file": name, "caption": picture.caption})
    write_json(out / "samples.json", listed)
    if measured.items is not None:
        write_items(out / ITEMS, {ONLY: measured.items})


def _write_result(measured: Measured, out: Path) -> None:
    write_samples(measured, out)
    write_json(out / RECORD, measured.record)
