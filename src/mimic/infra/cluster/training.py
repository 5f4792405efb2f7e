"""One training, on as many nodes as it asks for; the driver may die and come back.

The description is immutable and the progress is on disk, in `run_dir`: starting again, on any
machine and at any world size, is calling the same function with the same description.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic import config
from mimic.infra.cluster import ranks
from mimic.infra.cluster.call import Call, Description, Done, Training
from mimic.infra.cluster.failures import ItemsFailed


def run_training(
    function: Training,
    description: Description,
    run_dir: Path,
    resources: config.Resources,
    cluster: config.Cluster,
    title: str | None = None,
) -> list[Any]:
    """Run `function(description, run_dir, stop)` in every rank, here or as one SLURM job, and wait
    for it.

    Under `executor: slurm` the job outlives this process; calling again re-attaches to it. It is
    requeued when it is preempted, when its time is up or when a node is lost. Ctrl-C cancels it.

    Args:
        function: importable from an installed module. It resumes from what lies in `run_dir`, and
            asks `stop` between steps.
        description: JSON-able and complete: whatever changes the result, so that a job of another
            description is not taken for this one.
        run_dir: on a file system that all nodes see. `job.json` and the logs (`slurm/`) are kept
            here.
        title: of the work, for the lines that say how it stands: `pretrain croco-3m`.

    Returns:
        The result of every rank.

    Raises:
        Cancelled: a person cancelled the job.
        TrainingFailed: with the traceback of the rank that failed first.
        BadInput: the function raised it, sbatch refuses, or SLURM does not answer while a job may
            still be alive.
        Stopped: a signal asked this process to stop, and everything is saved (local executor).
    """
    titles = {run_dir: title} if title else {}
    return run_trainings(function, {run_dir: description}, resources, cluster, titles)[run_dir]


def run_trainings(
    function: Training,
    trainings: Mapping[Path, Description],
    resources: config.Resources,
    cluster: config.Cluster,
    titles: Mapping[Path, str] | None = None,
    done: Done | None = None,
) -> dict[Path, list[Any]]:
    """Several trainings, keyed by their run_dir: a sweep. One SLURM array; one after the other on
    this machine.

    Args:
        done: is given the run_dir and the results of each that ends well, also where another fails.

    Raises:
        Cancelled: a person cancelled some of their jobs; the others have ended.
        ItemsFailed: some of several failed; the others are done.
    """
    for run_dir in trainings:
        run_dir.mkdir(parents=True, exist_ok=True)
    titles = titles or {}
    calls = {
        run_dir: Call(
            function, dict(description), run_dir.resolve(), titles.get(run_dir, str(run_dir))
        )
        for run_dir, description in trainings.items()
    }
    match cluster.executor:
        case "local":
            return _run_here(calls, resources.nodes * resources.tasks_per_node, done)
        case "slurm":
            from mimic.infra.cluster.jobs import run_jobs

            return run_jobs(calls, resources, cluster, done)


def _run_here(calls: Mapping[Path, Call], world: int, done: Done | None) -> dict[Path, list[Any]]:
    results = {}
    failed = {}
    for run_dir, call in calls.items():
        try:
            results[run_dir] = ranks.run_local(call.run, world)
        except Exception as error:
            if len(calls) == 1:
                raise
            failed[str(run_dir)] = "".join(traceback.format_exception(error))
            continue
        if done is not None:
            done(run_dir, results[run_dir])
    if failed:
        raise ItemsFailed(failed)
    return results
