"""Clips in which worker processes die, killed for want of memory or crashed in a decoder: known by
the trace that each attempt leaves.

A trace holds a line ATTEMPT for each process that worked on a shard, with the job and how often
SLURM had started it anew, then a line of JSON for each clip that it entered.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

KILLER = "skipped: worker processes died in it, for want of memory or in a decoder"
ATTEMPT = "attempt"


@contextmanager
def tracing(path: Path) -> Iterator[Callable[[str], None]]:
    """Call what is yielded with each clip that is entered; a process that lives to leave the block
    takes its trace away."""
    with path.open("a") as trace:

        def enter(clip: str) -> None:
            trace.write(json.dumps(clip) + "\n")
            trace.flush()

        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        trace.write(f"{ATTEMPT} {os.environ.get('SLURM_JOB_ID', '')} {restarts}\n")
        trace.flush()
        try:
            yield enter
        finally:
            path.unlink(missing_ok=True)


def killers(path: Path) -> list[str]:
    """The clips in which more than one process died. One whose job SLURM started anew was ended by
    the machine: preempted, or its node was lost."""
    attempts: list[tuple[list[str], list[str]]] = []  # words after ATTEMPT, clips
    for line in path.read_text().splitlines():
        if line.startswith(ATTEMPT):
            attempts.append((line.split()[1:], []))
        elif attempts:
            attempts[-1][1].append(json.loads(line))
    following = [begun for begun, _ in attempts[1:]]
    died = Counter(
        clips[-1]
        for (begun, clips), after in zip_longest(attempts, following)
        if clips and not _anew(begun, after)
    )
    return [clip for clip, times in died.items() if times > 1]


def _anew(begun: list[str], after: list[str] | None) -> bool:
    """Whether the second attempt is the same job, which SLURM started once more."""
    if after is None or len(begun) < 2 or len(after) < 2:
        return False
    return begun[0] == after[0] and begun[1] != after[1]
