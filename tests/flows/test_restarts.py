"""A machine that dies at a bad moment costs no night: runs go on and slots are freed, on a real
server."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from benchmarks import restarts
from mimic.commands.operation import schedule_slots
from mimic.commands.operation.doctor import services
from mimic.flows import janitor, plan
from tests.support import REPOSITORY
from tests.support.toy_project import Server, end, kill_group, wait_until

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
AWAY_S = 20.0
LEASE_S = 30.0  # the shortest that Prefect takes; of five minutes by default
LOOK_S = 15.0  # how often the server looks for leases that are over


@pytest.fixture(scope="module")
def restartable(server: Server) -> Iterator[Server]:
    """The deployments on the small project, and nobody who works on them."""
    root = server.project.root
    shutil.copy(REPOSITORY / "prefect.yaml", root)
    server.deploy()
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_HOME: root / ".prefect"}):
        yield server


def _create(server: Server, deployment: str = "mine") -> str:
    (found,) = server.post("/deployments/filter", deployments={"name": {"any_": [deployment]}})
    return str(server.post(f"/deployments/{found['id']}/create_flow_run")["id"])


def _take_slot(server: Server, run: str) -> str:
    """What the server answers to a worker that is about to start a run."""
    answer = server.post(f"/flow_runs/{run}/set_state", state={"type": "PENDING"})
    state: dict[str, Any] = answer["state"]
    return str(state["type"])


def _state(server: Server, run: str) -> tuple[str, str]:
    (found,) = server.post("/flow_runs/filter", flow_runs={"id": {"any_": [run]}})
    return found["state"]["name"], found["state"]["message"] or ""


def test_a_slot_is_freed_although_worker_and_server_died(
    restartable: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = _create(restartable)
    assert _take_slot(restartable, dead) == "PENDING"
    # a later night, while the slot is held
    assert _take_slot(restartable, _create(restartable)) == "CANCELLED"
    restartable.kill_and_start_again()
    assert _take_slot(restartable, _create(restartable)) == "CANCELLED"  # the holder is remembered
    assert janitor.sweep(plan.POOL, pending_s=3600.0) == []  # it may still be started
    monkeypatch.setenv("PREFECT_API_URL", restartable.url)
    (young,) = schedule_slots.held_slots(restartable.url)
    assert (young.deployment, young.state, young.is_stuck) == ("mine", "Pending", False)
    assert services.prefect_server().state == "ok"
    monkeypatch.setattr(schedule_slots, "PENDING_S", 0.0)
    finding = services.prefect_server()
    assert finding.state == "warning"
    assert f"the slot of mine is held by {young.run}, Pending for " in finding.found
    (found,) = janitor.sweep(plan.POOL, pending_s=0.0)
    assert found.again
    name, message = _state(restartable, dead)
    assert name == "AwaitingRetry", "a run that was due is not lost"
    assert "its process is gone" in message
    restartable.post(f"/flow_runs/{dead}/set_state", state={"type": "CANCELLED"}, force=True)
    night = _create(restartable)
    assert _take_slot(restartable, night) == "PENDING"
    restartable.post(f"/flow_runs/{night}/set_state", state={"type": "CANCELLED"}, force=True)


@pytest.mark.long
def test_without_a_worker_the_lease_ends_by_itself(restartable: Server) -> None:
    dead = _create(restartable, "everything")
    assert _take_slot(restartable, dead) == "PENDING"
    restartable.kill_and_start_again()
    nights = []

    def taken() -> bool:
        nights.append(_create(restartable, "everything"))
        return _take_slot(restartable, nights[-1]) == "PENDING"

    wait_until(taken, 2 * (LEASE_S + 4 * LOOK_S), "the slot")
    for run in (dead, nights[-1]):
        restartable.post(f"/flow_runs/{run}/set_state", state={"type": "CANCELLED"}, force=True)


def test_a_run_whose_process_was_killed_is_crashed_and_a_live_one_is_not(
    restartable: Server,
) -> None:
    project = restartable.project
    project.write("a", "hang")
    (project.root / "pids").unlink(missing_ok=True)
    flow = subprocess.Popen(
        [sys.executable, "-m", "mimic.flows.pipeline", "mine", "--force"],
        cwd=project.root,
        env=restartable.environment,
        start_new_session=True,
    )
    try:
        pids = project.children(120)
        (run,) = restartable.post(
            "/flow_runs/filter", flow_runs={"state": {"type": {"any_": ["RUNNING"]}}}
        )
        assert janitor.sweep(plan.POOL, pending_s=0.0) == []
        flow.send_signal(signal.SIGKILL)
        flow.wait()
        assert janitor.sweep(plan.POOL, pending_s=0.0) == [
            janitor.LostRun(run["name"], again=False)
        ]
        assert _state(restartable, run["id"])[0] == "Crashed"
        assert not list((project.root / ".prefect" / "alive").iterdir())
    finally:
        kill_group(flow)
    wait_until(lambda: not any(_exists(pid) for pid in pids), 60, "the stage to end")
    project.write("a", "plain")


@pytest.mark.long
def test_stages_begin_while_the_server_is_away(restartable: Server) -> None:
    project = restartable.project
    project.write("a", "wait")
    begun = time.time()
    flow = subprocess.Popen(
        [sys.executable, "-m", "mimic.flows.pipeline", "--force"],
        cwd=project.root,
        env=restartable.environment,
        start_new_session=True,
    )

    def is_new(name: str) -> bool:
        path = project.root / name
        return path.exists() and path.stat().st_mtime > begun

    try:
        wait_until(lambda: is_new("data/b"), 90, "the stage that does not wait")
        assert restartable.process is not None
        kill_group(restartable.process)
        (project.root / "go").touch()
        wait_until(lambda: is_new("score"), 90, "the last stage")
        time.sleep(AWAY_S)
        assert flow.poll() is None, "the end of a run is told to the server, once it is there"
        restartable.serve()
        assert flow.wait(90) == 0
    finally:
        kill_group(flow)
        (project.root / "go").unlink(missing_ok=True)
        project.write("a", "plain")
    since = datetime.fromtimestamp(begun, UTC).isoformat()
    (run,) = restartable.post("/flow_runs/filter", flow_runs={"start_time": {"after_": since}})
    assert run["state"]["name"] == "Completed", run["state"]


def _exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_the_worker_sweeps_before_it_starts_and_ends_although_its_server_restarted(
    restartable: Server,
) -> None:
    run = _create(restartable, "evaluate")
    assert _take_slot(restartable, run) == "PENDING"
    lock = restartable.project.root / ".prefect" / "alive" / f"{run}.{os.uname().nodename}"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()  # made by a process that is gone
    worker = restartable.start_module("mimic.flows.worker")
    try:
        wait_until(lambda: _state(restartable, run)[0] == "Completed", 120, "the run to be started")
        started = psutil.Process(worker.pid).children(recursive=True)
        assert started
        restartable.kill_and_start_again()
    finally:
        end(worker)
    assert psutil.wait_procs(started, timeout=600)[1] == [], "Prefect's worker outlived ours"


def _set_schedule(server: Server, deployment: str, schedule: dict[str, Any]) -> None:
    path = server.project.root / "prefect.yaml"
    plan = yaml.safe_load(path.read_text())
    (one,) = [one for one in plan["deployments"] if one["name"] == deployment]
    one["schedules"] = [schedule]
    path.write_text(yaml.safe_dump(plan, sort_keys=False))


def _due(server: Server, deployment: str) -> list[dict[str, Any]]:
    """Its runs that are due and not started."""
    now = datetime.now(UTC).isoformat()
    found: list[dict[str, Any]] = server.post(
        "/flow_runs/filter",
        deployments={"name": {"any_": [deployment]}},
        flow_runs={
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "next_scheduled_start_time": {"before_": now},
        },
    )
    return found


def test_what_was_due_while_the_machine_was_off_stays_due_when_the_plan_has_changed(
    restartable: Server,
) -> None:
    shutil.copy(REPOSITORY / "prefect.yaml", restartable.project.root)
    _set_schedule(restartable, "everything", {"interval": 2.0, "slug": "often", "active": True})
    restartable.deploy()
    wait_until(lambda: len(_due(restartable, "everything")) > 1, 60, "runs to be due")
    due = {run["id"] for run in _due(restartable, "everything")}
    never = {"cron": "0 1 1 1 *", "slug": "often", "active": True}
    _set_schedule(restartable, "everything", never)
    restartable.deploy()
    after = {run["id"] for run in _due(restartable, "everything")}
    assert due <= after
    for run in after:
        restartable.post(f"/flow_runs/{run}/set_state", state={"type": "CANCELLED"}, force=True)


def test_a_paused_deployment_is_paused_in_every_moment_of_a_deployment(
    restartable: Server,
) -> None:
    def pretraining() -> dict[str, Any]:
        (found,) = restartable.post(
            "/deployments/filter", deployments={"name": {"any_": ["pretrain"]}}
        )
        return dict(found)

    restartable.post(f"/deployments/{pretraining()['id']}/pause_deployment")
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(restartable.deploy)
        while not again.done():
            assert pretraining()["paused"]
        again.result()
    assert pretraining()["paused"]
    restartable.post(f"/deployments/{pretraining()['id']}/resume_deployment")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_run_is_lost_when_server_and_worker_are_killed(tmp_path: Path) -> None:
    """The short version of benchmarks.restarts, through `mimic serve`."""
    trial = restarts.Trial(tmp_path / "project", 20.0, random.Random(5))
    try:
        wrong = restarts.try_it(trial, ["server", "worker", "all"], (1.0, 5.0), _second)
        assert wrong == []
    finally:
        if trial.process is not None and trial.process.poll() is None:
            trial.end()
        print((trial.root / ".serve.out").read_text())  # pytest shows it where a test failed
    said = (trial.root / ".serve.out").read_text()
    assert "the Prefect server ended with status" in said
    assert "the worker ended with status" in said
    assert said.endswith("ending: the worker, then the servers\nended\n")


def _second(trial: restarts.Trial) -> None:
    """Another `mimic serve` in the same workspace is refused with one line."""
    done = subprocess.run(
        [sys.executable, "-c", "from mimic.cli import main; main()", "serve"],
        cwd=trial.root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("mimic: mimic serve: mimic serve (pid ")
    home = trial.root / ".prefect"
    assert home.stat().st_mode & 0o077 == 0, "its database keeps a webhook's address and the key"
