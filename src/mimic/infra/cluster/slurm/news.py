"""What a stage says while SLURM works for it: at each change, and about every minute.

    slurm: job 7 of pretrain croco-3m: PENDING (Resources), 12 min
    slurm: job 7 of pretrain croco-3m: RUNNING on n[1-2], step 1200 of 30000, 3.1 steps/s, requeued
    1 time
    slurm: array 12 of mine phone: 12 of 40 shards done, 4 running, 24 pending (Priority), slowest
    shard-00007 for 12:30

How far a job is, is read from the lines that it prints into the log in its run folder; nodes are
not asked.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mimic.infra.cluster.slurm.queue import Standing
from mimic.infra.cluster.slurm.submission import SlurmJob
from mimic.infra.progress import say

EVERY_S = 55.0  # squeue is asked every `poll_s`: so that a minute is not missed
CHANGES_EVERY_S = 5.0  # of an array, where something changes all the time
MANY = 8  # jobs of which each has a line a minute
TAIL_BYTES = 16_384  # of a log, in which the newest line of progress is looked for
# A line of `infra.progress`: title: 40/200 steps, 3.1 steps/s, ...
_PROGRESS = re.compile(
    r"^(?P<title>\S.*?): (?P<done>[\d.]+)/(?P<total>\d+) (?P<unit>[^,]+), (?P<rate>[\d.]+ [^,]+)"
)


@dataclass(frozen=True)
class Progress:
    """How far a job said it was."""

    title: str
    done: float
    total: int
    unit: str
    rate: str  # 3.1 steps/s

    @property
    def share(self) -> float:
        return self.done / max(1, self.total)


class _Due:
    """When a line is due: something changed, or it is long ago."""

    def __init__(self, change_s: float = 0.0) -> None:
        self._change_s = change_s
        self._last: object = None
        self._at = -EVERY_S

    def due(self, now: object) -> bool:
        waited = time.monotonic() - self._at
        if waited < EVERY_S and (now == self._last or waited < self._change_s):
            return False
        self._last = now
        self._at = time.monotonic()
        return True


class JobNews:
    """Of single jobs, and of an array of trainings or evaluations.

    Args:
        titles: what each job does, by its id: `pretrain croco-3m`.
    """

    def __init__(self, jobs: Mapping[str, tuple[str, SlurmJob]]) -> None:
        self._jobs = dict(jobs)
        self._states = {id: _Due() for id in jobs}
        self._summary = _Due()
        self._silence = _Due()

    def tell(self, standings: Mapping[str, Standing] | None) -> None:
        """
        Args:
            standings: of those jobs that are in the queue; None: SLURM does not answer.
        """
        if standings is None:
            tell_silence(self._silence, f"{len(self._jobs)} job(s) may go on")
            return
        if len(standings) > MANY:
            self._tell_summary(standings)
            return
        for id, standing in standings.items():
            state = (standing.state, standing.reason, standing.nodes, standing.restarts)
            if self._states[id].due(state):
                self._say(id, self._described(id, standing))

    def ended(self, id: str, how: str) -> None:
        """A job is over; nothing more is said of it."""
        self._say(id, how)
        del self._jobs[id]

    def _say(self, id: str, text: str) -> None:
        say(f"slurm: job {id} of {self._jobs[id][0]}: {text}")

    def _described(self, id: str, standing: Standing) -> str:
        title, job = self._jobs[id]
        if standing.state == "PENDING":
            parts = [f"PENDING ({standing.reason})", f"{standing.pending_s // 60} min"]
        else:
            parts = [f"{standing.state} on {standing.nodes}"]
            progress = progress_of(job)
            parts += [_step(progress, title)] if progress else [f"for {standing.used}"]
        if standing.restarts:
            parts.append(f"requeued {standing.restarts} time{'s' * (standing.restarts > 1)}")
        return ", ".join(parts)

    def _tell_summary(self, standings: Mapping[str, Standing]) -> None:
        """One line for all, where a line a job would be a flood."""
        running = [id for id, standing in standings.items() if standing.state == "RUNNING"]
        counts = _counted(standings.values())
        done = len(self._states) - len(self._jobs)
        if not self._summary.due((done, *counts)):
            return
        parts = [f"{done} of {len(self._states)} jobs done", *counts]
        known = {id: progress for id in running if (progress := progress_of(self._jobs[id][1]))}
        if known:
            slowest = min(known, key=lambda id: known[id].share)
            title = self._jobs[slowest][0]
            parts.append(f"slowest {title} (job {slowest}), {_step(known[slowest], title)}")
        restarts = sum(standing.restarts for standing in standings.values())
        parts += [f"requeued {restarts} time{'s' * (restarts > 1)}"] if restarts else []
        array = next(iter(standings)).split("_")[0]
        say(f"slurm: array {array}: {', '.join(parts)}")


class ArrayNews:
    """Of an array whose elements work through items, such as shards.

    Args:
        title: of the whole work: `mine phone`.
        unit: what an item is, in the plural.
        total: how many items there were.
        left: how many of them are not done; how many of the others failed.
        item_of: the item that an element is at.
    """

    def __init__(
        self,
        title: str,
        unit: str,
        total: int,
        left: Callable[[], tuple[int, int]],
        item_of: Callable[[str], str],
    ) -> None:
        self._title = title
        self._unit = unit
        self._total = total
        self._left = left
        self._item_of = item_of
        self._clock = _Due(CHANGES_EVERY_S)
        self._silence = _Due()

    def tell(self, standings: Mapping[str, Standing] | None) -> None:
        """As of `JobNews`."""
        if standings is None:
            tell_silence(self._silence, f"the jobs of {self._title} may go on")
            return
        left, failed = self._left()
        counts = _counted(standings.values())
        if not standings or not self._clock.due((left, failed, *counts)):
            return
        parts = [f"{self._total - left} of {self._total} {self._unit} done", *counts]
        parts += [f"{failed} failed"] if failed else []
        running = {id: one for id, one in standings.items() if one.state == "RUNNING"}
        if running:
            id = max(running, key=lambda id: _seconds(running[id].used))
            parts.append(f"slowest {self._item_of(id)} for {running[id].used}")
        restarts = sum(standing.restarts for standing in standings.values())
        parts += [f"requeued {restarts} time{'s' * (restarts > 1)}"] if restarts else []
        arrays = "+".join(sorted({id.split("_")[0] for id in standings}, key=_seconds))
        say(f"slurm: array {arrays} of {self._title}: {', '.join(parts)}")


def tell_silence(clock: _Due, what: str) -> None:
    if clock.due("silence"):
        say(f"slurm: SLURM does not answer; {what}, and are waited for")


def progress_of(job: SlurmJob) -> Progress | None:
    """The newest line of progress in the log of a job's first rank; None before the first."""
    for line in reversed(_tail(job.paths(0).stderr)):
        if match := _PROGRESS.match(line):
            return Progress(
                title=match["title"],
                done=float(match["done"]),
                total=int(match["total"]),
                unit=match["unit"],
                rate=match["rate"],
            )
    return None


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:  # it is not there yet, or the shared disk does not answer just now
        return []


def _step(progress: Progress, title: str) -> str:
    """`step 1200 of 30000, 3.1 steps/s`; what the job calls it where it is a part of the whole."""
    is_integer = progress.done.is_integer()
    count = f"{progress.done:.{0 if is_integer else 2}f} of {progress.total}"
    done = f"step {count}" if progress.unit == "steps" else f"{count} {progress.unit}"
    part = "" if progress.title.startswith(title) else f" ({progress.title})"
    return f"{done}{part}, {progress.rate}"


def _counted(standings: Iterable[Standing]) -> list[str]:
    """`4 running`, `24 pending (Priority)`, and so on."""
    seen = list(standings)
    lines = []
    for state, count in Counter(standing.state for standing in seen).most_common():
        reasons = Counter(one.reason for one in seen if one.state == state == "PENDING")
        why = f" ({reasons.most_common(1)[0][0]})" if reasons else ""
        lines.append(f"{count} {state.lower()}{why}")
    return sorted(lines, key=lambda text: text.split()[1] != "running")


def _seconds(used: str) -> int:
    """Of 1-02:03:04; of 02:03 as well. Of anything else 0: squeue says INVALID of a job that began
    after now, by the clock of this machine."""
    days, _, clock = used.rpartition("-")
    seconds = 0
    try:
        for part in clock.split(":"):
            seconds = 60 * seconds + int(part or 0)
        return seconds + 86_400 * int(days or 0)
    except ValueError:
        return 0
