"""Clips in which worker processes die, killed for want of memory or crashed in a decoder: known by
the trace that each attempt leaves.

A trace holds a line ATTEMPT for each process that worked on a shard, then a line of JSON for each
clip that it entered.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KILLER = "skipped: worker processes died in it, for want of memory or in a decoder"
ATTEMPT = "attempt\n"


@contextmanager
def tracing(path: Path) -> Iterator[Callable[[str], None]]:
    """Call what is yielded with each clip that is entered; a process that lives to leave the block
    takes its trace away."""
    with path.open("a") as trace:

        def enter(clip: str) -> None:
            trace.write(json.dumps(clip) + "\n")
            trace.flush()

        trace.write(ATTEMPT)
        trace.flush()
        try:
            yield enter
        finally:
            path.unlink(missing_ok=True)


def killers(path: Path) -> list[str]:
    """The clips in which more than one process died."""
    attempts = path.read_text().split(ATTEMPT)[1:]
    last = Counter(json.loads(attempt.splitlines()[-1]) for attempt in attempts if attempt.strip())
    return [clip for clip, died in last.items() if died > 1]
