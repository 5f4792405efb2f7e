"""What went wrong on other processes, told so that a person can act: the first cause, not its
echoes."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from mimic.errors import BadInput

# What the other ranks say when one of them died.
_BAD_INPUT = "mimic.errors.BadInput: "
_DISK_FULL = re.compile(
    rf"OSError: \[Errno (?P<number>{errno.ENOSPC}|{errno.EDQUOT})\] (?P<what>[^:]*)(: "
    rf"'(?P<file>.*)')?$"
)
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


class TrainingFailed(RuntimeError):
    """A training ended without its results; the message ends in the traceback of the rank that
    failed first."""


class ItemsFailed(RuntimeError):
    """Some items failed for good; all others are done. `failed` maps each item's description to its
    traceback."""

    def __init__(self, failed: dict[str, str]) -> None:
        self.failed = failed
        last = [f"- {name}: {text.strip().splitlines()[-1]}" for name, text in failed.items()]
        first = next(iter(failed.values()))
        super().__init__(
            "\n".join(
                [
                    f"{len(failed)} item(s) failed, the others are done:",
                    *last[:20],
                    "the first one:",
                    first,
                ]
            )
        )

    def __reduce__(self) -> tuple[type[ItemsFailed], tuple[dict[str, str]]]:
        return ItemsFailed, (self.failed,)


def failure(text: str) -> Exception:
    """The exception to raise here for a traceback from elsewhere: what a user can mend, input or a
    full disk, stays one line."""
    last = text.strip().splitlines()[-1]
    if full := _DISK_FULL.match(last):
        return OSError(int(full["number"]), full["what"], full["file"])
    return (
        BadInput(last.removeprefix(_BAD_INPUT))
        if last.startswith(_BAD_INPUT)
        else TrainingFailed(text)
    )
