"""The lock of a living flow run: whoever sees its file sees it held."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from mimic.flows import janitor, shift

TIMES = 3000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with temporary_settings({PREFECT_HOME: tmp_path}):
        yield tmp_path


def _begin_and_end(home: Path, times: int) -> None:
    with temporary_settings({PREFECT_HOME: home}):
        for _ in range(times):
            with janitor.alive(str(uuid.uuid4())):
                pass


def test_no_sweep_finds_the_file_of_a_run_that_has_just_begun_free(home: Path) -> None:
    """A run that is taken for dead is started a second time beside the first."""
    alive = home / "alive"
    alive.mkdir()
    begun = multiprocessing.get_context("spawn").Process(target=_begin_and_end, args=(home, TIMES))
    begun.start()
    seen = free = 0
    while begun.is_alive():
        for path in alive.glob(f"*.{os.uname().nodename}"):
            held, linked = _look(path)
            seen += held or linked
            free += linked and not held
    begun.join()
    assert begun.exitcode == 0
    assert seen > 0
    assert free == 0
    assert not list(alive.iterdir())


def _look(path: Path) -> tuple[bool, bool]:
    """Whether somebody holds the file, and whether it still had its name after that was asked."""
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True, True
            return False, os.fstat(file.fileno()).st_nlink > 0
    except FileNotFoundError:
        return False, False


def test_a_run_is_claimed_although_a_sweep_looks_at_its_old_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is left from before a restart; a sweep that asks whether it is free holds it for a
    moment."""
    run = str(uuid.uuid4())
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run)
    monkeypatch.setenv(shift.VARIABLE, f"token {home / 'worker'}")
    old = janitor._lock(run)
    old.parent.mkdir()
    old.touch()
    with old.open() as sweep:
        fcntl.flock(sweep, fcntl.LOCK_SH)
        janitor.claim()
    try:
        assert janitor.left_behind() == [run]
    finally:
        while janitor._claimed:
            janitor._claimed.pop().close()
    assert janitor.left_behind() == []


def test_a_run_begins_where_the_file_system_has_no_locks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Lustre without `flock`; its file would be one that nobody holds."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with janitor.alive(str(uuid.uuid4())):
        assert list((home / "alive").iterdir()) == []


def test_a_disk_that_does_not_answer_ends_no_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker may well be there; only a file that says so, or is gone, ends its runs."""
    monkeypatch.setenv(shift.VARIABLE, f"token {home}")
    assert shift.is_over(), "the worker's files are gone"
    (home / "shift").symlink_to("shift")  # too many levels of links: a disk's own errors are rare
    assert not shift.is_over()
