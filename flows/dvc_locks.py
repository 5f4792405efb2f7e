"""DVC's record of which process reads and writes what, torn by a process that was killed.

DVC writes it in place. Killed in that very moment it leaves half a file, and every later command
on any stage of the workspace fails, until somebody removes it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from dvc.lock import LockError, make_lock
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

TORN = "Unable to read RWLock-file"  # how DVC says it


def mend() -> bool:
    """Remove the record if it is torn; whether it was. Whoever writes it holds DVC's guard of it,
    and so does this: what is torn then, nobody will finish."""
    with Repo() as repository, suppress(LockError):
        folder = str(repository.tmp_dir)
        hardlink = bool(repository.config["core"].get("hardlink_lock", False))
        guard = make_lock(str(Path(folder, RWLOCK_LOCK)), tmp_dir=folder, hardlink_lock=hardlink)
        with guard:
            return _remove_torn(Path(folder, RWLOCK_FILE))
    return False  # somebody writes it now


def _remove_torn(record: Path) -> bool:
    try:
        json.loads(record.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        record.unlink()
        return True
    return False
