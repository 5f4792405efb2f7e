"""What went wrong on other processes, told so that a person can act: the first cause, not its
echoes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mimic.errors import BadInput, WorkFailed
from mimic.infra.storage import NO_ROOM

# What the other ranks say when one of them died.
_BAD_INPUT = "mimic.errors.BadInput: "
_NO_ROOM = re.compile(
    rf"OSError: \[Errno (?P<number>{'|'.join(map(str, NO_ROOM))})\] (?P<what>[^:]*)(: "
    rf"'(?P<file>.*)')?$"
)
_RANK = re.compile(r"rank \d+")
# Ends of a job that say nothing of what it did.
OUT_OF_TIME = "ran out of time"
NODE_LOST = "lost its node"
PREEMPTED = "was preempted"
SHOWN = 10  # lines of a traceback whose whole lies in a log
LISTED = 20  # items that failed
_ECHO = re.compile(
    r"UncompletedJobError|Connection (closed|reset) by "
    r"peer|DistBackendError|DistNetworkError|DistStoreError|ProcessGroup|"
    r"NCCL|[Gg]loo|Broken pipe|TCPStore|store->get|Timed out waiting"
)


def culprit(errors: Iterable[tuple[float, str]]) -> str:
    """The error of the rank that failed first; ranks that only lost their connection to it come
    last.

    Args:
        errors: (time, text ending in a traceback) of each rank that failed.
    """

    def order(error: tuple[float, str]) -> tuple[bool, float]:
        message = "\n".join(
            line for line in error[1].splitlines() if not line.startswith("  ")
        )  # frames name these words innocently
        return bool(_ECHO.search(message)), error[0]

    return min(errors, key=order)[1]


def cause(text: str) -> str:
    """In one line, what a text says that may hold a rank's traceback: `rank 3: ValueError: ...`."""
    lines = [line for line in text.strip().splitlines() if line.strip()] or ["no error is known"]
    frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
    if not frames or not any(line.startswith("Traceback (") for line in lines):
        return lines[0]
    error = lines[min(frames[-1] + 1, len(lines) - 1)]
    rank = _RANK.match(lines[0])
    return f"{rank[0]}: {error}" if rank else error


def is_of_the_machine(text: str) -> bool:
    """Whether an error is the end of a job that says nothing of what it did."""
    return any(words in cause(text) for words in (OUT_OF_TIME, NODE_LOST, PREEMPTED))


def is_of_another(text: str) -> bool:
    """Whether it is an end that nothing which the job did can cause."""
    return any(words in cause(text) for words in (NODE_LOST, PREEMPTED))


def as_message(title: str, text: str, logs: str | None) -> str:
    """A message that begins with the cause, then says where the logs lie, then how a text ends."""
    where = [f"logs: {logs}"] if logs else []
    lines = text.strip().splitlines()
    if len(lines) == 1:
        lines = []
    return "\n".join([f"{title}{cause(text)}", *where, *(lines[-SHOWN:] if logs else lines)])


class TrainingFailed(WorkFailed):
    """A training ended without its results; the message begins with the cause in one line, and ends
    in the traceback of the rank that failed first."""


class ItemsFailed(WorkFailed):
    """Some items failed for good; all others are done. `failed` maps each item's description to its
    traceback; `logs` is where more is said."""

    def __init__(self, failed: dict[str, str], logs: str | None = None) -> None:
        self.failed = failed
        self.logs = logs
        name, first = next(iter(failed.items()))
        each = [f"- {name}: {cause(text)}" for name, text in failed.items()]
        title = f"{len(failed)} item(s) failed, the others are done; {name}: "
        super().__init__(
            "\n".join([as_message(title, first, logs), *(each[:LISTED] if len(each) > 1 else [])])
        )

    def __reduce__(self) -> tuple[type[ItemsFailed], tuple[dict[str, str], str | None]]:
        return ItemsFailed, (self.failed, self.logs)


def failure(text: str, title: str = "", logs: str | None = None) -> Exception:
    """The exception to raise here for a traceback from elsewhere: what a user can mend, input or a
    full disk, stays one line.

    Args:
        title: of the work, for the first line of the message.
        logs: where all of it can be read; None = the message holds the whole traceback.
    """
    last = text.strip().splitlines()[-1]
    if full := _NO_ROOM.match(last):
        return OSError(int(full["number"]), full["what"], full["file"])
    if last.startswith(_BAD_INPUT):
        return BadInput(last.removeprefix(_BAD_INPUT))
    return TrainingFailed(as_message(f"{title}: " if title else "", text, logs))
