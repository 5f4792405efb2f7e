"""Trainings as SLURM jobs that outlive their driver: submitted once, waited for, found again
through job.json."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mimic import config
from mimic.errors import BadInput, Cancelled
from mimic.infra import storage
from mimic.infra.cluster import notes, slurm, task
from mimic.infra.cluster.call import Call, Done
from mimic.infra.cluster.failures import ItemsFailed, failure
from mimic.infra.progress import say

_LOST = {
    "PREEMPTED",
    "NODE_FAIL",
    "BOOT_FAIL",
}  # not the training's fault: when SLURM does not requeue it, it is submitted again


def run_jobs(
    calls: Mapping[Path, Call],
    resources: config.Resources,
    cluster: config.Cluster,
    done: Done | None = None,
) -> dict[Path, list[Any]]:
    """The results of all ranks of each training, keyed by run_dir; see `run_trainings`."""
    results: dict[Path, list[Any]] = {}
    bad = _Bad(calls)
    todo = dict(calls)
    jobs = {run_dir: job for run_dir, call in calls.items() if (job := _living(call))}
    for _ in range(resources.max_timeouts + 1):
        fresh = {run_dir: call for run_dir, call in todo.items() if run_dir not in jobs}
        if fresh:
            _refuse_earlier(fresh, calls)
            jobs |= _submit(fresh, resources, cluster)
        for run_dir, ending in _endings(jobs, calls, cluster):
            if ending.results is not None:
                results[run_dir] = ending.results
                if done is not None:
                    done(run_dir, ending.results)
                _write_note(todo.pop(run_dir), job=None)  # collected: it is history
            elif ending.by or ending.state not in _LOST:
                bad.add(run_dir, jobs[run_dir], ending)
                del todo[run_dir]
        jobs.clear()
        if not todo:
            break
    bad.lost(todo, resources.max_timeouts + 1)
    bad.conclude()
    return {run_dir: results[run_dir] for run_dir in calls}


def _refuse_earlier(fresh: Iterable[Path], calls: Iterable[Path]) -> None:
    """Other numbers, pairs or code make another folder beside; nobody looks into the earlier one
    any more, and its job would go on unseen.

    Raises:
        BadInput: one is alive there, or SLURM does not answer.
    """
    own = set(calls)
    beside = sorted({note.parent for one in fresh for note in one.parent.glob(f"*/{notes.JOB}")})
    for id, folder in notes.alive(folder for folder in beside if folder not in own):
        raise BadInput(
            f"job {id} is still at work in {folder}, by earlier numbers, pairs or code; wait for "
            f"it, or `scancel {id}`, and run the same command again"
        )


class _Bad:
    """Trainings that ended without results, and which error says so."""

    def __init__(self, calls: Mapping[Path, Call]) -> None:
        self._calls = calls
        self._failed: dict[str, str] = {}
        self._cancelled: list[str] = []
        self._logs: str | None = None

    def add(self, run_dir: Path, job: slurm.SlurmJob, ending: slurm.Ending) -> None:
        self._logs = self._logs or job.folder
        if ending.by:
            title = self._calls[run_dir].title
            self._cancelled.append(f"job {job.id} of {title} was cancelled by {ending.by}")
        else:
            self._failed[str(run_dir)] = str(ending.error)

    def lost(self, run_dirs: Iterable[Path], times: int) -> None:
        self._failed |= {str(run_dir): f"its job was lost {times} times" for run_dir in run_dirs}

    def conclude(self) -> None:
        """
        Raises:
            Cancelled, ItemsFailed, or of a single training what `failure` makes of it.
        """
        if self._cancelled:
            others = f"; {len(self._failed)} others failed" if self._failed else ""
            raise Cancelled(
                f"{'; '.join(self._cancelled)}{others}; it is not tried again: the same command "
                "goes on from what was saved"
            )
        if self._failed and len(self._calls) > 1:
            raise ItemsFailed(self._failed, self._logs)
        if self._failed:
            (call,) = self._calls.values()
            (text,) = self._failed.values()
            raise failure(text, call.title, self._logs)


def _submit(
    calls: Mapping[Path, Call], resources: config.Resources, cluster: config.Cluster
) -> dict[Path, slurm.SlurmJob]:
    name = slurm.new_name("train")
    for call in calls.values():
        _write_note(
            call, job=None, name=name
        )  # before: a driver that dies in the next second leaves a name to cancel by
    folder = next(iter(calls.values())).run_dir / "slurm" / name
    submitted = slurm.submit(
        [task.Task(call.run) for call in calls.values()], resources, cluster, folder, name
    )
    jobs = dict(zip(calls, submitted, strict=True))
    for run_dir, job in jobs.items():
        _write_note(calls[run_dir], job=job)
        log = job.paths(0).stderr
        say(f"slurm: job {job.id} of {calls[run_dir].title}: submitted; its log: {log}")
    return jobs


def _endings(
    jobs: Mapping[Path, slurm.SlurmJob], calls: Mapping[Path, Call], cluster: config.Cluster
) -> Iterator[tuple[Path, slurm.Ending]]:
    """Each job's run_dir and ending, as they end. Ctrl-C cancels all; a driver that is killed
    leaves them running."""
    news = slurm.JobNews({job.id: (calls[run_dir].title, job) for run_dir, job in jobs.items()})
    monitor = slurm.JobMonitor(jobs.values(), cluster, news.tell)
    where = {job: run_dir for run_dir, job in jobs.items()}
    try:
        while monitor.jobs:
            for job, ending in monitor.look():
                news.ended(job.id, _how(ending))
                yield where[job], ending
            if monitor.jobs:
                time.sleep(min(1.0, cluster.poll_s))
    except BaseException:
        slurm.cancel(monitor.jobs)
        raise


def _how(ending: slurm.Ending) -> str:
    by = f" by {ending.by}" if ending.by else ""
    again = ", is submitted again" if ending.state in _LOST and ending.results is None else ""
    return f"{ending.state}{by}{again}"


# ---------------------------------------------------------------------------- job.json: what a
# later driver must know


def _write_note(call: Call, job: slurm.SlurmJob | None, name: str | None = None) -> None:
    note = {"description": call.fingerprint(), "name": name, "job": asdict(job) if job else None}
    storage.write_json(call.run_dir / notes.JOB, note)


def _living(call: Call) -> slurm.SlurmJob | None:
    """The job that an earlier driver submitted for this run_dir, if it is alive or its results were
    never collected."""
    path = call.run_dir / notes.JOB
    note = json.loads(path.read_text()) if path.exists() else {"name": None, "job": None}
    if note["name"] and not slurm.cancel_named(note["name"]):
        raise BadInput(
            f"SLURM does not answer, and a job named {note['name']} of {call.run_dir} may be alive "
            "(whether it was submitted is not known): no second copy is submitted; try again later"
        )
    if not note["job"]:
        return None
    job = slurm.SlurmJob(**note["job"])
    alive = slurm.queue()
    if alive is None:
        raise BadInput(
            f"SLURM does not answer, and job {job.id} of {call.run_dir} may be alive: no second "
            "copy is submitted; try again later"
        )
    same = note["description"] == call.fingerprint()
    if job.id in alive and not same:
        raise BadInput(
            f"job {job.id} is training in {call.run_dir} with another description; wait for it, or "
            f"scancel {job.id}"
        )
    ending = slurm.read(job)
    if same and (job.id in alive or (ending and ending.results is not None)):
        say(f"slurm: job {job.id} of {call.title}: re-attached to job {job.id}")
        return job
    return None
