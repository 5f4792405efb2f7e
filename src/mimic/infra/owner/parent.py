"""The dvc that has started this process, and what becomes of its stage when it is killed.

DVC records a stage when its command has ended. A command whose dvc is gone would publish what
nobody records, perhaps over what the next dvc has recorded. So an orphan notices it, and ends as it
does when somebody stops it (SIGTERM): what can be continued is saved, the lock on its folder is
given back, and the next process, which waited for it, goes on from there. Nobody has to kill it:
only the orphan itself knows for certain who its parent was, a number of a process may be another's
by now, and it may be on another machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra.progress import say

STAGE = "DVC_STAGE"  # in the environment of what DVC runs
LOOK_EVERY_S = 1.0
SHELLS = ("sh", "dash", "bash", "zsh", "fish", "ksh")  # between DVC and its command, some stay


@dataclass(frozen=True)
class _Process:
    pid: int
    started: str  # in ticks since this machine's start; "" where there is no /proc


_starters: tuple[_Process, ...] = ()


@contextlib.contextmanager
def ending_with_dvc() -> Iterator[None]:
    """End this process in order (SIGTERM to itself) if the dvc that started it goes away in this
    block; a process that somebody else has started is left alone."""
    global _starters
    _starters = _ancestors() if os.environ.get(STAGE) else ()
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(over,), daemon=True)
    if _starters:
        watch.start()
    try:
        yield
    finally:
        over.set()
        _starters = ()


def refuse_orphan(what: str) -> None:
    """
    Raises:
        BadInput: the dvc that started this process is gone.
    """
    if is_orphan():
        raise BadInput(
            f"{what}: the dvc that started it was killed and would not record its result: nothing "
            "was published; dvc repro goes on from what is kept"
        )


def is_orphan() -> bool:
    """Whether the dvc that started this process is gone; False where it was not started by one."""
    return any(not _lives(process) for process in _starters)


def _watch(over: threading.Event) -> None:
    while not over.wait(LOOK_EVERY_S):
        if is_orphan():
            with contextlib.suppress(OSError):  # whoever read our lines may be gone as well
                say(
                    "mimic: the dvc that started this was killed: it ends here, as its result "
                    "would not be recorded; what can be continued is kept"
                )
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _ancestors() -> tuple[_Process, ...]:
    """Our parent, and its parent where ours is the shell in which DVC runs a command."""
    first = os.getppid()
    processes = [_Process(first, _started(first))]
    words = _words(first)
    if len(words) > 2 and Path(words[0]).name in SHELLS and "-c" in words:
        above = int(_stat(first)[1])
        processes.append(_Process(above, _started(above)))
    return tuple(processes)


def _lives(process: _Process) -> bool:
    if not process.started:
        return process.pid == os.getppid()
    fields = _stat(process.pid)
    return bool(fields) and fields[0] not in "ZX" and _started(process.pid) == process.started


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else ""


def _stat(pid: int) -> list[str]:
    """State, parent and so on of a process; empty where there is none. Its name, in parentheses,
    may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []
