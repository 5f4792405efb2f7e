"""Jobs that are being waited for: whether they still live, and how they ended."""

from __future__ import annotations

import logging
import os
import pickle
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mimic import config
from mimic.infra.cluster import failures
from mimic.infra.cluster.failures import culprit
from mimic.infra.cluster.slurm.queue import Final, Standing, cancel, final_states, queue
from mimic.infra.cluster.slurm.submission import SlurmJob

# Reasons for which a pending job will never start. A job that a person holds, or a partition under
# maintenance, may.
_HOPELESS = re.compile(
    r"launch[ _]fail\w*[ _]\w*[ _]?held|JobHoldMaxRequeue|DependencyNeverSatisfied|BadConstraints|"
    r"PartitionNodeLimit|PartitionTimeLimit|InvalidAccount|InvalidQOS|PartitionInactive|"
    r"(Assoc|QOS)\w*Max\w+PerJob|QOSMax\w+PerJob",
    re.IGNORECASE,
)
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
_HELD_OPEN_S = 60.0  # a job of which a rank failed, and the others do not end, is cancelled after
_LATE = 5  # looks into the queue after which it counts as over that SLURM cannot say how
# What the launcher says of any job that ends badly: echoes of its end, not the cause.
_LAUNCHER = re.compile(r"(srun|slurmstepd|submitit)\b|\*\*\*")
_TAIL = 6  # lines of a log that are shown
_MEANT = {
    "OUT_OF_MEMORY": "ran out of memory; raise mem_gb in `cluster` of params.yaml",
    "TIMEOUT": f"{failures.OUT_OF_TIME}; raise timeout_min in `cluster` of params.yaml",
    "NODE_FAIL": failures.NODE_LOST,
    "BOOT_FAIL": failures.NODE_LOST,
    "PREEMPTED": f"{failures.PREEMPTED}, and not put back into the queue",
}

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Standing] | None], None]


@dataclass(frozen=True)
class Ending:
    """How a job ended: `results` of all ranks, or else `error`, which begins with the cause in one
    line; the traceback of the rank that failed first, or the end of a log, may follow."""

    state: str
    results: list[Any] | None
    error: str | None
    by: str | None = None  # the user who cancelled it


class JobMonitor:
    """Jobs that are being waited for. Each `look` costs a directory listing, and every `poll_s` one
    squeue for all of them.

    Args:
        tell: is given what squeue says of the jobs, each time it is asked; None: it said nothing.
    """

    def __init__(self, jobs: Iterable[SlurmJob], cluster: config.Cluster, tell: Tell) -> None:
        self.jobs = {job.id: job for job in jobs}
        self._cluster = cluster
        self._tell = tell
        self._asked = -cluster.poll_s
        self._missed: dict[str, int] = {}
        self._pending_since: dict[str, float] = {}
        self._held_since: dict[str, float] = {}

    def look(self) -> list[tuple[SlurmJob, Ending]]:
        """The jobs that ended since the last look; they are not watched any more."""
        endings = {
            job.id: ending for job in self.jobs.values() if (ending := read(job)) is not None
        }
        ended = {id: ending for id, ending in endings.items() if ending.results is not None}
        # An error counts once SLURM does not run the job again; in the queue it may wait for hours.
        failed = endings.keys() - ended.keys() - self._pending_since.keys()
        hurry = 1.0 if failed else self._cluster.poll_s
        if time.monotonic() - self._asked >= min(hurry, self._cluster.poll_s) and len(ended) < len(
            self.jobs
        ):
            ended |= self._consult(
                {id: job for id, job in self.jobs.items() if id not in ended}, endings
            )
            self._asked = time.monotonic()
        return [(self.jobs.pop(id), ending) for id, ending in ended.items()]

    def _consult(self, jobs: dict[str, SlurmJob], endings: dict[str, Ending]) -> dict[str, Ending]:
        """The jobs that SLURM runs no more, or never will."""
        alive = queue()
        if alive is None:
            self._tell(None)
            return {}
        try:
            self._tell({id: alive[id] for id in jobs if id in alive})
        except Exception:  # a line that cannot be said is no reason to end the jobs
            log.warning("slurm: what squeue says cannot be shown", exc_info=True)
        ended = {}
        for id in jobs:
            self._missed[id] = 0 if id in alive else self._missed.get(id, 0) + 1
            if id in alive and (why := self._hopeless(id, alive[id], id in endings)):
                cancel([id])
                ended[id] = endings.get(
                    id, Ending("CANCELLED", None, f"job {id} was cancelled: {why}")
                )
        gone = [
            id for id in jobs if self._missed[id] >= (1 if id in endings else 2)
        ]  # files may arrive after the news
        finals = final_states(gone)
        for id in gone:
            if id in finals or self._missed[id] >= _LATE:
                ended[id] = _ending(jobs[id], finals.get(id, Final("UNKNOWN")))
        return ended

    def _hopeless(self, id: str, standing: Standing, failed: bool) -> str | None:
        """Why a job in the queue is not worth waiting for; None when it is."""
        state = standing.state
        reason = standing.reason
        waits = state in _WAITING
        pending_s = _lasting(self._pending_since, id, waits)
        held_s = _lasting(self._held_since, id, failed and state == "RUNNING")
        limit = self._cluster.pending_limit_min
        if waits and _HOPELESS.search(reason):
            return f"it would never start ({reason})"
        if limit is not None and pending_s > limit * 60:
            return f"it was pending for more than {limit} minutes ({reason})"
        return "a rank failed and the others do not end" if held_s > _HELD_OPEN_S else None


def read(job: SlurmJob) -> Ending | None:
    """Results or errors from the job's files, without waiting; None when there are neither, or the
    shared disk does not answer just now."""
    results = []
    errors = []
    try:
        os.scandir(job.folder).close()  # NFS looks again
        for rank in range(job.tasks):
            path = job.paths(rank).result_pickle
            if not path.exists():
                continue
            written = path.stat().st_mtime
            kind, value = pickle.loads(path.read_bytes())
            if kind == "success":
                results.append(value)
            else:
                errors.append((written, f"rank {rank} of job {job.id}:\n{value}"))
    except (OSError, EOFError, pickle.UnpicklingError):
        return None  # a job that runs again removes what it said before
    if errors:
        return Ending("", None, culprit(errors))
    return Ending("COMPLETED", results, None) if len(results) == job.tasks else None


def _ending(job: SlurmJob, final: Final) -> Ending:
    """Of a job that left the queue. What a rank said counts, unless a person cancelled the job:
    then that is the cause of whatever was said."""
    ending = read(job)
    if ending is not None and (ending.results is not None or final.by is None):
        return replace(ending, state=final.state)
    if final.by is not None:
        return Ending(final.state, None, f"job {job.id} was cancelled by {final.by}", final.by)
    what = _MEANT.get(final.state, f"ended without a result, state {final.state}")
    return Ending(final.state, None, f"job {job.id} {what}\n{_log_tail(job)}")


def _log_tail(job: SlurmJob) -> str:
    """The end of what the job printed, for a job that died without a result."""
    for path in (job.paths(0).stderr, job.paths(0).stdout):
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        lines = [line for line in lines if line.strip()]
        own = [line for line in lines if not _LAUNCHER.match(line)] or lines[-1:]
        if own:
            return "\n".join([f"the end of {path}:", *own[-_TAIL:]])
    return f"no log in {job.folder}; do the nodes see this folder?"


def _lasting(since: dict[str, float], id: str, condition: bool) -> float:
    """For how many seconds the condition has held."""
    if not condition:
        since.pop(id, None)
        return 0.0
    return time.monotonic() - since.setdefault(id, time.monotonic())
