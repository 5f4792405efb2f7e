"""One task, one stage: no server needed here."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading

import dvc
import psutil
import pytest
from dvc.lock import make_lock
from prefect.states import Failed

from mimic.flows import dvc_locks, pipeline
from mimic.flows import repro as module
from mimic.flows.repro import Children, StageFailed, worth_another_try
from mimic.flows.unchanged import unchanged
from tests.support import REPOSITORY
from tests.support.toy_project import Project, is_running, wait_until

WAITING = "waiting for the process that is at mine@a"


@pytest.fixture(autouse=True)
def plain_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("stage"))


def test_a_stage_runs_and_then_is_cached(project: Project) -> None:
    assert module.repro.fn("mine@a", False).name == "Completed"
    again = module.repro.fn("mine@a", False)
    assert (again.name, again.message) == ("Cached", "Stage 'mine@a' didn't change, skipping")
    assert module.repro.fn("mine@a", True).name == "Completed"


def test_advice_to_people_at_a_terminal_stays_out_of_the_log(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stage"):
        module.repro.fn("mine@a", False)
        module.repro.fn("mine@a", False)
    said = "\n".join(caplog.messages)
    assert "Running stage 'mine@a'" in said
    for advice in ("git", "autostage", "dvc push", "up to date"):
        assert advice not in said


def test_output_arrives_while_the_stage_runs(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project.write("a", "slow")
    with caplog.at_level(logging.INFO, "stage"):
        module.repro.fn("mine@a", False)
    at = {record.message: record.created for record in caplog.records}
    assert at["finished a"] - at["starting a"] > 1


def test_a_stage_that_another_run_is_at_is_waited_for(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.5)
    project.write("a", "wait")

    def let_go() -> None:
        wait_until(lambda: WAITING in caplog.messages, 60, "the line that says so")
        (project.root / "go").touch()

    with subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "mine@a"], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        next(line for line in other.stdout if "Running stage" in line)
        threading.Thread(target=let_go, daemon=True).start()
        with caplog.at_level(logging.INFO, "stage"):
            state = module.repro.fn("mine@a", False)
    assert caplog.messages.count(WAITING) == 1
    assert not any("remove" in message or "busy" in message for message in caplog.messages)
    assert state.name == "Cached"


@pytest.mark.parametrize("torn", ["", '{"write": {"/data/a": {"pi'])
def test_a_record_of_locks_that_a_killed_process_tore_is_mended(
    project: Project, caplog: pytest.LogCaptureFixture, torn: str
) -> None:
    """DVC by itself would refuse every stage from then on."""
    record = project.root / ".dvc/tmp/rwlock"
    record.parent.mkdir(exist_ok=True)
    record.write_text(torn)
    by_itself = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "mine@a"], capture_output=True, text=True
    )
    assert dvc_locks.TORN in by_itself.stderr
    with caplog.at_level(logging.INFO, "stage"):
        assert module.repro.fn("mine@a", False).name == "Completed"
    assert [one for one in caplog.messages if "torn by a killed process" in one] != []


def test_a_record_of_locks_that_is_whole_or_being_written_stays(project: Project) -> None:
    assert not dvc_locks.mend()  # there is none
    folder = project.root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    (folder / "rwlock").write_text("{}")
    assert not dvc_locks.mend()
    (folder / "rwlock").write_text("")
    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)):
        assert not dvc_locks.mend()
    assert (folder / "rwlock").exists()
    assert dvc_locks.mend()
    assert not (folder / "rwlock").exists()


def test_a_lock_of_a_killed_process_whose_number_another_has_is_removed(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC by itself would wait until that other process ends."""
    monkeypatch.setattr(module, "LOOK_S", 0.5)
    record = project.root / ".dvc/tmp/rwlock"
    record.parent.mkdir(exist_ok=True)
    killed = f"{dvc.__path__[0]}/__main__.py --wait-for-lock repro --single-item mine@a"
    with subprocess.Popen(["sleep", "600"]) as other:
        holder = {"pid": other.pid, "cmd": killed}
        locks = {"write": {str(project.root / "data/a"): holder}, "read": {}}
        record.write_text(json.dumps(locks))
        by_itself = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "mine@a"], capture_output=True, text=True
        )
        assert "is busy" in by_itself.stderr
        with caplog.at_level(logging.INFO, "stage"):
            assert module.repro.fn("mine@a", False).name == "Completed"
        other.kill()
    assert f"its number has {other.pid} (sleep 600) now" in "\n".join(caplog.messages)


def test_locks_of_processes_that_may_have_made_them_stay(project: Project) -> None:
    assert dvc_locks.release() == []  # there is no record
    record = project.root / ".dvc/tmp/rwlock"
    record.parent.mkdir(exist_ok=True)
    here = {"pid": os.getpid(), "cmd": "some-program.py that called dvc.api"}
    gone = {"pid": 2**22 + 1, "cmd": "dvc repro"}  # no process has such a number
    locks = {"write": {"/data/a": here, "/data/b": gone}, "read": {"/raw/a": [here, gone]}}
    record.write_text(json.dumps(locks))
    assert dvc_locks.release() == []
    assert json.loads(record.read_text()) == locks
    command = " ".join(psutil.Process().cmdline()[1:])
    mine = {"pid": os.getpid(), "cmd": f"/bin/dvc {command}"}  # as if this process were DVC
    other = {"pid": os.getpid(), "cmd": "/bin/dvc --wait-for-lock repro --single-item a"}
    locks = {"write": {"/data/a": mine, "/data/b": other}, "read": {"/raw/a": [mine, other, gone]}}
    record.write_text(json.dumps(locks))
    os.utime(record, (0, 0))  # by the clock of a machine that is behind
    ((number, _, _),) = [line.partition(" ") for line in dvc_locks.release()]
    assert number == str(os.getpid())
    left = json.loads(record.read_text())
    assert left == {"write": {"/data/a": mine}, "read": {"/raw/a": [mine, gone]}}


@pytest.mark.parametrize(
    ("what", "status", "again"), [("refuse", 2, False), ("cancelled", 3, False), ("die", 9, True)]
)
def test_a_failure_says_why_and_whether_to_try_again(
    project: Project, what: str, status: int, again: bool
) -> None:
    project.write("b", what)
    with pytest.raises(
        StageFailed, match=f"(?s)mine@b failed.*starting b.*exited with {status}"
    ) as info:
        module.repro.fn("mine@b", False)
    assert worth_another_try(None, None, Failed(data=info.value)) is again


def test_stopping_ends_the_stage_and_its_descendants(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 1.0)
    project.write("a", "hang")
    children, errors = Children(), []

    def body() -> None:
        module._children.set(children)
        try:
            module.repro.fn("mine@a", False)
        except StageFailed as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    pids = project.children()
    assert all(map(is_running, pids))
    children.stop_all()
    thread.join(120)  # by itself it would take 600 s
    assert not thread.is_alive()
    wait_until(lambda: not any(map(is_running, pids)), 60, "the descendants to end")
    assert (project.root / "saved").exists(), "the stage was asked before it was killed"
    assert not errors[0].again
    with pytest.raises(StageFailed, match="being stopped"), children.run(["true"]):
        pass


def test_a_stage_ends_with_the_process_that_started_it_even_if_that_was_killed(
    project: Project,
) -> None:
    project.write("a", "hang")
    code = (
        "import os, signal, sys, time; from pathlib import Path; from mimic.flows import repro; "
        "repro.GRACE_S = 1.0\n"
        "with repro.Children().run([sys.executable, '-m', 'dvc', 'repro', 'mine@a']):\n"
        "    while not Path('pids').exists(): time.sleep(0.1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    wait_until(lambda: not any(map(is_running, project.children())), 60, "the stage to end")
    assert (project.root / "saved").exists()


def test_what_is_unchanged_is_found_in_one_look(project: Project) -> None:
    """A stage after a stale one is not certain, and one that another process is at is left to
    DVC."""
    needs = pipeline.graph()
    assert unchanged(needs) == set()
    subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True, capture_output=True)
    assert unchanged(needs) == set(needs)
    assert module.repro.fn("assemble", False, idle=True).name == "Cached"
    # one that is made again all the same may come out otherwise
    assert unchanged(needs, {"mine@a"}) == {"mine@b"}
    project.write("b", "other")
    assert unchanged(needs) == {"mine@a"}
    project.write("b", "plain")
    (project.root / "size").unlink()
    assert unchanged(needs) == {"mine@a", "mine@b", "assemble"}
    subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True, capture_output=True)
    project.write("a", "slow")
    with subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "mine@a"], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        next(line for line in other.stdout if "Running stage" in line)
        assert unchanged(needs) == {"mine@b"}
        other.communicate()


def test_an_input_that_cannot_be_read_may_have_changed(project: Project) -> None:
    """That stage fails when its turn comes; the look at all of them ends no night."""
    needs = pipeline.graph()
    subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True, capture_output=True)
    (project.root / "raw/b").unlink()
    (project.root / "raw/b").symlink_to("disk-that-is-not-mounted")
    assert unchanged(needs) == {"mine@a"}
