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

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mimic import config
from mimic.config.names import seed_of
from mimic.infra import earlier, tracking
from mimic.infra.cluster import run_trainings
from mimic.infra.owner import one_owner
from mimic.infra.progress import say
from mimic.infra.publishing import MARK, Work, entries_of, marked, publish, resolve_target
from mimic.infra.storage import Workspace, file_digest, fingerprint, link, read_json, write_json
from mimic.params import Params, pick
from mimic.params.tracked import tracking_context
from mimic.tasks import over_seeds
from mimic.tasks.checked_before import looked_through
from mimic.tasks.checks import parts
from mimic.tasks.item_files import ITEMS, ONLY, read_items, write_items
from mimic.tasks.measuring import (
    MEASURED,
    RECORD,
    VERSIONS,
    Cell,
    leave_in,
    measure,
    measure_apart,
    write_samples,
)


@one_owner("evaluate")
def main(params: Params, root: Path, run: str, task: str) -> None:
    """Evaluate `run` on `task`: its encoder, or those of all its seeds.

    It is measured where `cluster.executor` says: here, the seeds one after the other, or in a job
    for each; nothing of that changes what is measured.

    Raises:
        BadInput: no such run or task, the checkpoint is missing or does not fit, the task's data
            are missing or wrong.
        Cancelled: a person cancelled a job.
        ItemsFailed: jobs of some seeds failed; the others are done.
    """
    planned = pick({**params.runs, **dict.fromkeys(params.imported)}, run, "run")
    section = pick(params.evaluate, task, "task in evaluate")
    workspace = Workspace(root)
    pictures = workspace.samples(run, task)
    work = Work("samples", f"{run}/{task}")
    resolve_target(pictures, work, recognise=earlier.samples)
    cell = Cell(root, run, run, task, section, params.table.checkpoints, params.cluster.shards)
    done = []
    if planned is not None and planned.seeds is not None:
        seeds = {name: one.only_seed for name, one in planned.encoders(run).items()}
        kept = _kept(params, {name: _of_seed(cell, name, seed) for name, seed in seeds.items()})
        record = over_seeds.merged({name: _record_in(path) for name, path in kept.items()}, section)
        publish(partial(_link_samples, kept), pictures, work, recognise=earlier.samples)
    elif params.cluster.executor == "slurm":
        folder = _kept(params, {run: cell})[run]
        record, _ = _record_in(folder)
        publish(partial(_link_files, folder), pictures, work, recognise=earlier.samples)
        done.append(folder.parent)
    else:
        measured = measure(cell)
        record = measured.record
        publish(partial(write_samples, measured), pictures, work, recognise=earlier.samples)
        done.append(measured.progress)
    write_json(workspace.metrics(run, task), record)
    for progress in done:
        shutil.rmtree(progress)
    print(_summary_line(record))
    tracking.mirror_evaluation(tracking_context(params), root, run, task)


def _of_seed(cell: Cell, encoder: str, seed: int) -> Cell:
    own = over_seeds.section_of(cell.section, seed)
    return replace(cell, encoder=encoder, run=seed_of(encoder)[0], section=own)


def _kept(params: Params, cells: Mapping[str, Cell]) -> dict[str, Path]:
    """The folder of each encoder's finished measurement, made now unless it is there: with a seed
    more, or after a kill, the others are not measured again."""
    folders = {encoder: _folder(cell, params.cluster) for encoder, cell in cells.items()}
    todo = []
    for encoder, folder in folders.items():
        if marked(folder / MEASURED) is None:
            todo.append(encoder)
        else:
            say(f"{cells[encoder].title}: kept, it is measured and nothing of it has changed")
    if params.cluster.executor == "slurm" and todo:
        run_trainings(
            measure_apart,
            {folders[encoder]: cells[encoder].as_json() for encoder in todo},
            params.cluster.evaluate,
            params.cluster,
            {folders[encoder]: cells[encoder].title for encoder in todo},
        )
    else:
        for encoder in todo:
            leave_in(cells[encoder], folders[encoder])
    return {encoder: folder / MEASURED for encoder, folder in folders.items()}


def _folder(cell: Cell, cluster: config.Cluster) -> Path:
    """Of a measurement apart: another one for whatever changes its result."""
    workspace = Workspace(cell.root)
    section = cell.section
    weights = "encoder.safetensors"
    snapshots = [file_digest(snapshot / weights) for snapshot in cell.snapshots()]
    what = fingerprint(
        section.model_dump(mode="json"),
        file_digest(workspace.model(cell.encoder) / weights),
        {"task": section.task, **looked_through(section, cell.task, cell.root, cluster)},
        {name: version(name) for name in VERSIONS},
        parts(section),
        cell.checkpoints,
        *([snapshots] if snapshots else []),
    )
    return workspace.progress("evaluate", f"{cell.encoder}@{cell.task}", what)


def _record_in(folder: Path) -> tuple[dict[str, Any], np.ndarray | None]:
    record = read_json(folder / RECORD)
    assert record is not None
    return record, read_items(folder / ITEMS).get(ONLY)


def _summary_line(record: dict[str, Any]) -> str:
    """The number in one line."""
    error = record["standard_error"]
    spread = "" if error is None else f" ± {error:.2g}"
    tested = f"{record['test_size']:,} tested"
    if record["unscored"]:
        tested += f", {record['unscored']:,} of them without anything to score"
    if record.get("sd") is not None:
        spread = f" ± {record['sd']:.2g}"
        tested = f"mean and deviation of {record['n']} seeds, {tested}"
    return (
        f"{record['run']} {record['task']}: {record['name']} {record['value']:.4g}{spread} "
        f"({tested}); metrics/{record['run']}/{record['task']}.json"
    )


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


def _link_files(measured: Path, out: Path) -> None:
    """The pictures and the items of one encoder."""
    for name in entries_of(measured):
        if name not in (MARK, RECORD):
            link(measured / name, out / name)
