"""One worker a workspace, and flow runs that end when the worker that started them is gone.

A worker that is killed leaves its flow runs behind: they would work on beside those of the next
worker. So each of them knows, by an environment variable, during whose shift it was started, and
looks now and then whether that shift is over.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.settings import get_current_settings

from mimic.infra.owner import lock

VARIABLE = "MIMIC_SHIFT"  # <token> <folder>, in the environment of a worker and of what it starts
LEFT = 75  # exit status of a flow run whose worker is gone


def folder() -> Path:
    """Held by the worker of this workspace while it lives."""
    _, _, given = os.environ.get(VARIABLE, "").partition(" ")
    if given:
        return Path(given)
    return get_current_settings().home.absolute() / "worker"


@contextmanager
def begun() -> Iterator[dict[str, str]]:
    """A shift, for whoever holds the folder; the variable that a worker is to be given."""
    token = uuid.uuid4().hex
    file = folder() / "shift"
    file.write_text(token)
    try:
        yield {VARIABLE: f"{token} {folder()}"}
    finally:
        file.write_text("")


def token() -> str:
    """Of the shift in which this process was started; empty: by hand."""
    return os.environ.get(VARIABLE, "").partition(" ")[0]


def is_over() -> bool:
    """Whether the worker that started this process is gone; never for a run started by hand."""
    mine, _, where = os.environ.get(VARIABLE, "").partition(" ")
    if not mine:
        return False
    try:
        if (Path(where) / "shift").read_text() != mine:
            return True
        with (Path(where) / lock.FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:  # it is held; or the file system has no locks, or does not answer just now
        return False
    return True


def leave_if_over() -> None:
    """Without a word to the server: the next worker sees that this process is gone, and a run that
    it may have started again is no longer ours."""
    if is_over():
        os._exit(LEFT)
