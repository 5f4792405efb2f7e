"""DVC's record of which process reads and writes what, where a process that was killed left it.

DVC writes it in place. Killed in that very moment it leaves half a file, and every later command
on any stage of the workspace fails, until somebody removes it. Killed at any other moment it leaves
its entries, which DVC takes away once no process has their number; after a restart of the machine,
or of a container, another one may have it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import LockError, make_lock
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

SHOWN = 80  # characters of a command
TORN = "Unable to read RWLock-file"  # how DVC says it


def mend() -> bool:
    """Remove the record if it is torn; whether it was. Whoever writes it holds DVC's guard of it,
    and so does this: what is torn then, nobody will finish."""
    with Repo() as repository, suppress(LockError), _guard(repository):
        return _remove_torn(Path(str(repository.tmp_dir), RWLOCK_FILE))
    return False  # somebody writes it now


def release() -> list[str]:
    """Remove the entries of processes that are gone although another has their number; of each,
    which process that is."""
    with Repo() as repository, suppress(LockError), _guard(repository):
        return _remove_gone(Path(str(repository.tmp_dir), RWLOCK_FILE))
    return []


def _guard(repository: Repo) -> Any:
    folder = str(repository.tmp_dir)
    hardlink = bool(repository.config["core"].get("hardlink_lock", False))
    return make_lock(str(Path(folder, RWLOCK_LOCK)), tmp_dir=folder, hardlink_lock=hardlink)


def _remove_gone(record: Path) -> list[str]:
    try:
        locks = json.loads(record.read_text())
    except (OSError, ValueError):
        return []
    others: dict[int, str] = {}
    kept: dict[str, dict[str, Any]] = {}
    for mode, paths in locks.items():
        for path, holders in paths.items():
            living = []
            for holder in holders if isinstance(holders, list) else [holders]:
                other = _another(holder)
                if other is None:
                    living.append(holder)
                else:
                    others[int(holder["pid"])] = other
            if living:  # of "read" a list, of "write" one
                kept.setdefault(mode, {})[path] = living if isinstance(holders, list) else living[0]
    if others:
        record.write_text(json.dumps(kept))
    return [f"{pid} ({command})" for pid, command in sorted(others.items())]


def _another(holder: Any) -> str | None:
    """The command of a process that has the number of this entry and did not make it: its arguments
    are others than those that DVC was called with. Of an entry that some other program made by
    DVC's own functions the arguments say nothing; times, of machines that share the workspace, do
    not either."""
    try:
        process = psutil.Process(int(holder["pid"]))
        command = " ".join(process.cmdline())
        program, _, arguments = str(holder["cmd"]).partition(" ")
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None  # it is gone, which DVC sees itself; or nothing can be said of it
    by_command = "dvc" in (Path(program).name, Path(program).parent.name)
    return command[:SHOWN] if by_command and not command.endswith(arguments) else None


def _remove_torn(record: Path) -> bool:
    try:
        json.loads(record.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        record.unlink()
        return True
    return False
