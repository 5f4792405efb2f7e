"""One owner a folder: real processes that wait for each other, are killed, fork."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mimic.errors import BadInput
from mimic.infra.owner import all_owned, owned
from mimic.infra.owner.lock import FILE

HOLD = """
import sys, time
from pathlib import Path
from mimic.infra.owner import owned
with owned(Path(sys.argv[1]), "pretrain held"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
print("let go", flush=True)
"""
FORK = """
import os, sys, time
from pathlib import Path
from mimic.infra.owner import owned
with owned(Path(sys.argv[1]), "pretrain held"):
    if os.fork() == 0:
        print("held", flush=True)  # by the child: it is at work when the parent is killed
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    time.sleep(60)
"""
Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """Starts a process that holds tmp_path/work, and is back when it does."""
    started: list[subprocess.Popen[str]] = []

    def start(seconds: float = 60, program: str = HOLD) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(tmp_path / "work"), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(
    tmp_path: Path, holder: Holder
) -> None:
    process = holder()
    said = rf"pretrain mine: pretrain held \(pid {process.pid} on \S+, since \d{{4}}-.* UTC\) works"
    with pytest.raises(BadInput, match=said), owned(tmp_path / "work", "pretrain mine", 0):
        pytest.fail("two owners")


def test_a_second_process_waits_and_says_for_whom(
    tmp_path: Path, holder: Holder, capfd: pytest.CaptureFixture[str]
) -> None:
    process = holder(1)
    with owned(tmp_path / "work", "pretrain mine"):
        assert process.stdout is not None
        assert process.stdout.read() == "let go\n"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(rf"pretrain mine: waits for pretrain held \(pid {process.pid} on ", lines[0])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_dies_with_its_holder(tmp_path: Path, holder: Holder, how: signal.Signals) -> None:
    process = holder()
    process.send_signal(how)
    process.wait()
    with owned(tmp_path / "work", "pretrain mine", 0):
        pass


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(
    tmp_path: Path, holder: Holder
) -> None:
    process = holder(3, FORK)
    process.kill()
    process.wait()
    with owned(tmp_path / "work", "pretrain mine", 0):
        pass


def test_nothing_is_left_behind_and_the_folder_may_be_removed_by_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with owned(folder, "evaluate a b"):
        assert (folder / FILE).exists()
    assert list(folder.iterdir()) == []
    with owned(folder, "evaluate a b"):
        shutil.rmtree(folder)
    assert not folder.exists()


@pytest.mark.parametrize("below", ["", "pretrain/a"])
def test_a_folder_below_a_dangling_link_is_one_line(tmp_path: Path, below: str) -> None:
    """A scratch disk that is not mounted: nothing is made in its place."""
    link = tmp_path / "runs"
    link.symlink_to(tmp_path / "scratch")
    says = f"{re.escape(str(link))} is a link to .*scratch, which is not there"
    with pytest.raises(BadInput, match=says) as caught, owned(link / below, "pretrain a", 0):
        pytest.fail("owned")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [link]


def test_a_block_in_a_block_goes_on(tmp_path: Path) -> None:
    with owned(tmp_path, "pretrain a") as outer, owned(tmp_path, "pretrain a", 0) as inner:
        assert inner is outer
    with owned(tmp_path, "pretrain a", 0) as again:
        assert again is not outer


def test_what_lost_its_lock_publishes_nothing(tmp_path: Path) -> None:
    with owned(tmp_path / "work", "pretrain a") as mine:
        mine.confirm()
        shutil.rmtree(tmp_path / "work")
        with owned(tmp_path / "other", "x"), pytest.raises(BadInput, match="removed or replaced"):
            mine.confirm()


def test_waiting_ends_when_asked_to(tmp_path: Path, holder: Holder) -> None:
    holder()
    begun = time.monotonic()
    with pytest.raises(BadInput), owned(tmp_path / "work", "x", leave=lambda: True):
        pass
    assert time.monotonic() - begun < 30, "as long as it is held"


def test_several_folders_are_taken_in_one_order(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("b", "a")]
    with all_owned(folders, "sweep") as held:
        assert list(held) == sorted(folders)
        assert all((folder / FILE).exists() for folder in folders)


def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with owned(tmp_path, "pretrain a") as mine:
        mine.confirm()
    assert "knows no locks" in capfd.readouterr().err


def test_a_lock_that_cannot_be_asked_for_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFSv4: another user's file opens for reading only, and is then locked for nobody."""
    (tmp_path / FILE).write_text('{"what": "pretrain a", "pid": 1, "host": "other"}')
    opened = os.open

    def open_to_read(path: Any, flags: int, *mode: Any) -> int:
        if Path(path).name == FILE and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *mode)

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(os, "open", open_to_read)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(BadInput, match="another process works"), owned(tmp_path, "pretrain b", 0.0):
        pass
    assert (tmp_path / FILE).exists(), "it may be at work"


# uid 0 without capabilities is an ordinary user to the kernel, in the group of its files.
AS_ANOTHER = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
MAY_CHANGE_USER = os.geteuid() == 0 and shutil.which("setpriv") is not None
ANOTHER = 65534


@pytest.mark.skipif(not MAY_CHANGE_USER, reason="needs root and setpriv, to be two users")
def test_what_another_users_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    left = work / FILE
    left.write_text("{}")
    left.chmod(0o644)
    os.chown(left, ANOTHER, 0)
    work.chmod(0o777)
    command = [*AS_ANOTHER, sys.executable, "-c", HOLD, str(work), "0"]
    held = os.open(left, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)  # it is at work still
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)
    os.close(held)
    assert waiting.communicate(timeout=600)[0].endswith("held\nlet go\n")
    os.chown(work, ANOTHER, 0)
    work.chmod(0o755)
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "PermissionError" in refused.stderr


@pytest.mark.skipif(not MAY_CHANGE_USER, reason="needs root and setpriv, to be two users")
def test_a_workspace_of_another_user_is_one_line(tmp_path: Path, repository: Path) -> None:
    shutil.copy(repository / "params.yaml", tmp_path)
    os.chown(tmp_path, ANOTHER, 0)
    tmp_path.chmod(0o755)
    program = "from mimic.cli import main; main()"
    command = [*AS_ANOTHER, sys.executable, "-c", program, "clean"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"mimic: .*: Permission denied; .* workspace of your own\n", done.stderr)
