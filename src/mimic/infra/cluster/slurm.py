"""SLURM, through submitit: submit, ask, wait, cancel. No other file knows either of them.

submitit writes the batch script and pickles calls and results; waiting is done here, because
submitit asks sacct once per job and more and more rarely, and never sees the end of some states
(docs/slurm.md).
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, JobPaths

from mimic import config
from mimic.errors import BadInput
from mimic.infra.cluster.failures import culprit

log = logging.getLogger(__name__)
_environment = threading.Lock()  # submitting edits os.environ, which all threads of a flow share

# Reasons for which a pending job will never start. A job that a person holds, or a partition under
# maintenance, may.
_HOPELESS = re.compile(
    r"launch failed requeued held|JobHoldMaxRequeue|DependencyNeverSatisfied|BadConstraints|"
    r"PartitionNodeLimit|PartitionTimeLimit|InvalidAccount|InvalidQOS|PartitionInactive|"
    r"(Assoc|QOS)\w*Max\w+PerJob|QOSMax\w+PerJob",
    re.IGNORECASE,
)
_BUSY = re.compile(
    r"Socket timed out|Unable to contact|Connection (refused|timed out)|temporarily "
    r"un(able|available)",
    re.IGNORECASE,
)
_HELD_OPEN_S = (
    60.0  # a job whose results are all there but whose processes do not end is cancelled after this
)


@dataclass(frozen=True)
class SlurmJob:
    """A job of SLURM, or an element of an array (`123_4`). All there is to know, so any process can
    wait for it."""

    id: str
    folder: str  # pickles and logs; on a file system that all nodes see
    tasks: int

    def paths(self, rank: int) -> JobPaths:
        return JobPaths(self.folder, job_id=self.id, task_id=rank)


@dataclass(frozen=True)
class Ending:
    """How a job ended: `results` of all ranks, or else `error`, the traceback of the rank that
    failed first (or a log)."""

    state: str
    results: list[Any] | None
    error: str | None


# ---------------------------------------------------------------------------- submitting


def new_name(kind: str) -> str:
    """A job name that no other submission has: by it a job is found whose id was never learnt."""
    return f"mimic-{kind}-{uuid.uuid4().hex[:8]}"


def submit(
    calls: Sequence[Callable[[], Any]],
    resources: config.Resources,
    cluster: config.Cluster,
    folder: Path,
    name: str,
) -> list[SlurmJob]:
    """Submit one job, or one array of jobs, and return at once.

    Args:
        folder: new folder for pickles and logs.
        name: from `new_name`.

    Raises:
        BadInput: sbatch refuses; the line says why.
    """
    if shutil.which("sbatch") is None:
        raise BadInput(
            "cluster.executor is slurm, but there is no sbatch here; run on a login node, or set "
            "it to local"
        )
    executor = submitit.SlurmExecutor(
        folder=folder.resolve(), max_num_timeout=resources.max_timeouts
    )
    executor.update_parameters(job_name=name, **_parameters(resources, cluster))
    for attempt in range(4):
        try:
            with _environment, _outside_any_job():
                jobs = executor.submit_array(calls)
            return [SlurmJob(job.job_id, str(folder.resolve()), job.num_tasks) for job in jobs]
        except (FailedJobError, subprocess.CalledProcessError, OSError, RuntimeError) as error:
            text = " ".join(str(error).split()) or repr(error)
            cancel_named(name)  # sbatch may have timed out after the job was accepted
            if attempt == 3 or not _BUSY.search(text):
                raise BadInput(
                    f"SLURM refused the job: {text}; see `cluster` in params.yaml"
                ) from error
            time.sleep(2.0**attempt * 5)
    raise AssertionError


def _parameters(resources: config.Resources, cluster: config.Cluster) -> dict[str, Any]:
    """Resources in the words of submitit; None is `not set`."""
    setup = ["export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"]
    if cluster.export_cpus_per_task:
        setup.append("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    same = (
        "partition",
        "account",
        "qos",
        "constraint",
        "exclude",
        "gres",
        "nodes",
        "cpus_per_task",
        "array_parallelism",
        "signal_delay_s",
    )
    return {
        **{name: getattr(resources, name) for name in same if getattr(resources, name) is not None},
        **({"gpus_per_node": resources.gpus_per_node} if resources.gpus_per_node else {}),
        "ntasks_per_node": resources.tasks_per_node,
        "mem": f"{round(resources.mem_gb * 1024)}M",
        "time": resources.timeout_min,
        "setup": [*setup, *resources.setup],
        "srun_args": ["--kill-on-bad-exit=1", *resources.srun_args],
        "additional_parameters": {
            "requeue": True,
            **{name: value for name, value in resources.sbatch.items() if value is not False},
        },
    }


@contextmanager
def _outside_any_job() -> Iterator[None]:
    """Without the SLURM_* variables of an enclosing job, but with those that say where SLURM is."""
    where = {
        name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CLUSTERS") if name in os.environ
    }
    with submitit.helpers.clean_env():
        os.environ.update(where)
        yield


# ---------------------------------------------------------------------------- asking


def _ask(*command: str) -> str | None:
    """What a SLURM program prints; None when it fails, because the daemons may be busy or away."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(
            "%s: %s", command[0], " ".join(str(getattr(error, "stderr", "") or error).split())
        )
        return None


def queue() -> dict[str, tuple[str, str]] | None:
    """Every job of this user that is not over: id -> (state, reason). None when SLURM does not
    answer: no news at all.

    The queue decides: after a requeue sacct says PREEMPTED or NODE_FAIL while the job is pending
    again.
    """
    text = _ask("squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r")
    if text is None:
        return None
    rows = (line.split("|", 2) for line in text.splitlines())
    return {job: (state, reason) for job, state, reason in rows}


def _final_states(ids: Iterable[str]) -> dict[str, str]:
    """What accounting says of jobs that left the queue; empty without accounting."""
    text = _ask(
        "sacct",
        "-X",
        "--noheader",
        "--parsable2",
        "--format=JobID,State",
        f"--jobs={','.join(sorted(ids))}",
    )
    rows = (line.split("|") for line in (text or "").splitlines())
    return {job: state.split()[0] for job, state in rows}


def cancel(jobs: Iterable[SlurmJob]) -> None:
    ids = sorted({job.id for job in jobs})
    for start in range(0, len(ids), 500):
        _ask("scancel", *ids[start : start + 500])


def cancel_named(name: str) -> None:
    _ask("scancel", "--me", f"--name={name}")


def array_limit() -> int:
    """Largest number of elements that an array may have here."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "")
    return int(match.group(1)) - 1 if match else 1000


def preempted() -> bool:
    """Inside a job: was SIGTERM sent because another job wants the nodes (it will be put back in
    the queue, not cancelled)?"""
    when = _ask(
        "squeue", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--Format=PreemptTime"
    )
    return when is not None and when.strip()[:2].isdigit()


def read(job: SlurmJob) -> Ending | None:
    """Results or errors from the job's files, without waiting; None when there are neither."""
    os.scandir(job.folder).close()  # NFS looks again
    results = []
    errors = []
    for rank in range(job.tasks):
        path = job.paths(rank).result_pickle
        if path.exists():
            kind, value = pickle.loads(path.read_bytes())
            if kind == "success":
                results.append(value)
            else:
                errors.append((path.stat().st_mtime, f"rank {rank} of job {job.id}:\n{value}"))
    if errors:
        return Ending("", None, culprit(errors))
    return Ending("COMPLETED", results, None) if len(results) == job.tasks else None


def _log_tail(job: SlurmJob) -> str:
    """The end of what the job printed, for a job that died without a result."""
    for path in (job.paths(0).stderr, job.paths(0).stdout):
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            return f"the end of {path}:\n{text[-2000:]}"
    return f"no log in {job.folder}; do the nodes see this folder?"


# ---------------------------------------------------------------------------- waiting


class JobMonitor:
    """Jobs that are being waited for. Each `look` costs a directory listing, and every `poll_s` one
    squeue for all of them."""

    def __init__(self, jobs: Iterable[SlurmJob], cluster: config.Cluster) -> None:
        self.jobs = {job.id: job for job in jobs}
        self._cluster = cluster
        self._asked = 0.0
        self._missed: dict[str, int] = {}
        self._pending_since: dict[str, float] = {}
        self._held_since: dict[str, float] = {}

    def look(self) -> list[tuple[SlurmJob, Ending]]:
        """The jobs that ended since the last look; they are not watched any more."""
        found = {job.id: ending for job in self.jobs.values() if (ending := read(job)) is not None}
        ended = {id: ending for id, ending in found.items() if ending.results is not None}
        hurry = (
            1.0 if len(found) > len(ended) else self._cluster.poll_s
        )  # an error counts once SLURM does not run the job again
        if time.monotonic() - self._asked >= min(hurry, self._cluster.poll_s) and len(ended) < len(
            self.jobs
        ):
            ended |= self._consult(
                {id: job for id, job in self.jobs.items() if id not in ended}, found
            )
            self._asked = time.monotonic()
        return [(self.jobs.pop(id), ending) for id, ending in ended.items()]

    def _consult(self, jobs: dict[str, SlurmJob], found: dict[str, Ending]) -> dict[str, Ending]:
        """The jobs that SLURM runs no more, or never will."""
        alive = queue()
        if alive is None:
            return {}
        ended = {}
        for id in jobs:
            self._missed[id] = 0 if id in alive else self._missed.get(id, 0) + 1
            if id in alive and (why := self._hopeless(id, *alive[id], id in found)):
                cancel([jobs[id]])
                ended[id] = found.get(
                    id, Ending("CANCELLED", None, f"job {id} was cancelled: {why}")
                )
        gone = [
            id for id in jobs if self._missed[id] >= (1 if id in found else 2)
        ]  # files may arrive after the news
        states = _final_states({id.split("_")[0] for id in gone}) if gone else {}
        for id in gone:
            state = states.get(id, "UNKNOWN")
            ending = read(jobs[id]) or Ending(
                state,
                None,
                f"job {id} ended without a result, state {state}; {_log_tail(jobs[id])}",
            )
            ended[id] = replace(ending, state=state)
        return ended

    def _hopeless(self, id: str, state: str, reason: str, failed: bool) -> str | None:
        """Why a job in the queue is not worth waiting for; None when it is."""
        pending_s = _lasting(self._pending_since, id, state == "PENDING")
        held_s = _lasting(self._held_since, id, failed and state == "RUNNING")
        limit = self._cluster.pending_limit_min
        if state == "PENDING" and _HOPELESS.search(reason):
            return f"it would never start ({reason})"
        if limit is not None and pending_s > limit * 60:
            return f"it was pending for more than {limit} minutes ({reason})"
        return "a rank failed and the others do not end" if held_s > _HELD_OPEN_S else None


def _lasting(since: dict[str, float], id: str, condition: bool) -> float:
    """For how many seconds the condition has held."""
    if not condition:
        since.pop(id, None)
        return 0.0
    return time.monotonic() - since.setdefault(id, time.monotonic())
