"""What SLURM's programs say of jobs: those in the queue, and how the others ended."""

from __future__ import annotations

import logging
import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

log = logging.getLogger(__name__)

FIELDS = ("JobArrayID", "State", "Reason", "NodeList", "PendingTime", "TimeUsed", "RestartCnt")
# How a job can be over; whatever else accounting says is not its last word yet.
FINAL = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"),
    *("PREEMPTED", "NODE_FAIL", "BOOT_FAIL"),
}
SOMEBODY = "somebody"


@dataclass(frozen=True)
class Standing:
    """A job of the queue, as squeue shows it."""

    state: str
    reason: str  # for which it is pending; "None" of one that runs
    nodes: str
    pending_s: int  # since it was submitted, or put back
    used: str  # time that it has been running: 1-02:03:04
    restarts: int


@dataclass(frozen=True)
class Final:
    """How a job ended; `by` is the user who cancelled it, or `SOMEBODY`."""

    state: str
    by: str | None = None


def ask(*command: str, quiet: bool = False) -> str | None:
    """What a SLURM program prints; None when it fails, because the daemons may be busy or away."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(getattr(error, "stderr", "") or error).split())
        log.log(logging.DEBUG if quiet else logging.WARNING, "%s: %s", command[0], reason)
        return None


def queue() -> dict[str, Standing] | None:
    """Every job of this user that is not over, by id. None when SLURM does not answer: no news at
    all.

    The queue decides: after a requeue sacct says PREEMPTED or NODE_FAIL while the job is pending
    again.
    """
    shown = ",".join(f"{name}:|" for name in FIELDS)
    text = ask("squeue", "--noheader", "--array", "--me", f"--Format={shown}", quiet=True)
    if text is None:
        return None
    return dict(_standing(line) for line in text.splitlines())


def _standing(line: str) -> tuple[str, Standing]:
    fields = line.split("|") + [""] * 7  # a line that was cut short is no error
    id, state, reason, nodes, pending, used, restarts = fields[:7]
    return id.strip(), Standing(state, reason, nodes, _number(pending), used, _number(restarts))


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0


def final_states(ids: Iterable[str]) -> dict[str, Final]:
    """How jobs that left the queue ended; those of which that is not known yet are missing.

    Accounting says who cancelled a job, but it may be late, or there is none; the controller knows
    a job for some minutes.
    """
    wanted = set(ids)
    if not wanted:
        return {}
    arrays = sorted({id.split("_")[0] for id in wanted})
    text = ask(
        *("sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State"),
        f"--jobs={','.join(arrays)}",
        quiet=True,
    )
    accounted = _accounted(text or "")
    known = {id: end for id, end in accounted.items() if id in wanted}
    late = text is not None  # then who cancelled a job will be known
    for id in wanted - known.keys():
        state = _of_controller(id)
        if state in FINAL and not (state == "CANCELLED" and late):
            known[id] = Final(state, SOMEBODY if state == "CANCELLED" else None)
    return known


def _accounted(text: str) -> dict[str, Final]:
    finals = {}
    for line in text.splitlines():
        id, _, state = line.partition("|")
        first, *rest = state.split()
        if first in FINAL:
            by = _user(rest) if first == "CANCELLED" else None
            finals.update(dict.fromkeys(_elements(id), Final(first, by)))
    return finals


def _user(words: list[str]) -> str:
    """The name of `by 1000`."""
    uid = words[-1] if words else ""
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (ValueError, KeyError):
        return f"user {uid}" if uid else SOMEBODY


def _elements(id: str) -> Iterator[str]:
    """The jobs of `4_[0,2-5%2]`, those of an array that never started."""
    job, bracket, inside = id.partition("_[")
    if not bracket:
        yield id
        return
    for part in re.sub(r"[%\]].*", "", inside).split(","):
        first, _, last = part.partition("-")
        for index in range(_number(first), _number(last or first) + 1):
            yield f"{job}_{index}"


def _of_controller(id: str) -> str:
    match = re.search(r"\bJobState=(\w+)", _shown(id))
    return match.group(1) if match else ""


def _shown(id: str) -> str:
    return ask("scontrol", "--oneliner", "show", "job", id, quiet=True) or ""


def cancel(ids: Iterable[str]) -> None:
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), 500):
        ask("scancel", *ordered[start : start + 500])


def cancel_named(name: str) -> bool:
    """Cancel the jobs of this name, of which there may be none; whether SLURM answers."""
    return ask("scancel", "--me", f"--name={name}") is not None


def array_limit() -> int:
    """Largest number of elements that an array may have here."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(match.group(1)) - 1 if match else 1000


def preempted() -> bool:
    """Inside a job: was SIGTERM sent because another job wants the nodes (it will be put back in
    the queue, not cancelled)?"""
    when = ask(
        "squeue", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--Format=PreemptTime"
    )
    return when is not None and when.strip()[:2].isdigit()
