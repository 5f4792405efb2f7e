"""What a lab runs: server, worker, and the deployments of prefect.yaml; one of them on a
schedule."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from mimic.errors import BadInput
from mimic.flows import notify, plan
from mimic.flows.pipeline import pipeline
from tests.flows.conftest import serving
from tests.support import REPOSITORY
from tests.support.toy_project import Server, end, is_running, wait_until

QUIET_S = 11.0
OVER = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
pytestmark = [pytest.mark.server, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Not the one that other files leave runs on."""
    yield from serving(tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="module")
def deployed(own_server: Server) -> Iterator[Server]:
    """The real flows and deployments on the small project, `mine` every few seconds, and a
    worker."""
    server = own_server
    root = server.project.root
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    mine = next(item for item in deployments["deployments"] if item["name"] == "mine")
    mine["schedules"] = [{"interval": 5, "slug": "often", "active": True}]
    (root / "prefect.yaml").write_text(yaml.safe_dump(deployments))
    server.deploy()  # before any worker: it makes what is missing
    worker = server.start_module("mimic.flows.worker")
    try:
        yield server
    finally:
        end(worker)  # before its server
        print((root / "log").read_text()[-8000:])  # pytest shows it where a test failed


def runs(server: Server, deployment: str, *states: str) -> list[dict[str, Any]]:
    state = {"state": {"name": {"any_": list(states)}}} if states else {}
    return server.post(
        "/flow_runs/filter", deployments={"name": {"any_": [deployment]}}, flow_runs=state
    )


def said_in(server: Server, deployment: str) -> set[str]:
    """Every line of the logs of a deployment's runs."""
    ids = [run["id"] for run in runs(server, deployment)]
    logs = server.post("/logs/filter", logs={"flow_run_id": {"any_": ids}})
    return {line["message"] for line in logs}


def schedule_of(server: Server, deployment: str) -> dict[str, Any]:
    (found,) = server.post("/deployments/filter", deployments={"name": {"any_": [deployment]}})
    (schedule,) = found["schedules"]
    return dict(schedule)


def wait_for_quiet(server: Server) -> None:
    """Until nothing is at work or due soon. A worker works on one run at a time and fetches runs
    ten seconds before they are due: also such as it fetched before their deployment was paused."""
    quiet_since = time.monotonic()
    while time.monotonic() < quiet_since + QUIET_S:
        soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
        found = server.post("/flow_runs/filter")
        if any(
            run["state_type"] not in OVER
            and not (run["state_type"] == "SCHEDULED" and run["expected_start_time"] > soon)
            for run in found
        ):
            quiet_since = time.monotonic()
        time.sleep(0.2)


def test_a_scheduled_run_completes(deployed: Server) -> None:
    wait_until(lambda: runs(deployed, "mine", "Completed"), 600, "a scheduled run to complete")
    done = runs(deployed, "mine", "Completed")[0]
    assert done["auto_scheduled"]
    assert done["parameters"] == {"targets": ["assemble"], "retries": 1}
    assert (deployed.project.root / "all").read_text() == "plainplain"
    wait_until(lambda: "finished a" in said_in(deployed, "mine"), 60, "its log to be sent")
    (found,) = deployed.post("/deployments/filter", deployments={"name": {"any_": ["mine"]}})
    deployed.post(f"/deployments/{found['id']}/pause_deployment")
    wait_for_quiet(deployed)


def test_every_other_schedule_waits_to_be_switched_on(deployed: Server) -> None:
    found = {item["name"]: item for item in deployed.post("/deployments/filter")}
    assert set(found) == {"mine", "pretrain", "evaluate", "everything"}
    assert [
        schedule["active"]
        for name, item in found.items()
        if name != "mine"
        for schedule in item["schedules"]
    ] == [False] * 3
    schema = found["everything"]["parameter_openapi_schema"]["properties"]["targets"]
    assert schema["items"]["enum"] == ["mine", "assemble", "pretrain", "evaluate"]


def test_a_finished_pretraining_is_evaluated_once(deployed: Server) -> None:
    switched = schedule_of(deployed, "everything")
    deployed.patch(
        f"/deployments/{switched['deployment_id']}/schedules/{switched['id']}", active=True
    )
    deployed.deploy()  # a second time: its trigger replaces the first, and switches stay
    assert schedule_of(deployed, "everything")["active"]
    (mine,) = deployed.post("/deployments/filter", deployments={"name": {"any_": ["mine"]}})
    assert mine["paused"]
    (found,) = deployed.post("/deployments/filter", deployments={"name": {"any_": ["pretrain"]}})
    deployed.post(f"/deployments/{found['id']}/create_flow_run")
    wait_until(lambda: runs(deployed, "evaluate", "Completed"), 150, "the evaluation")
    (pretrained,) = runs(deployed, "pretrain", "Completed")
    assert pretrained["name"].startswith("pretrain, ")
    assert "pretrain" in pretrained["tags"]
    time.sleep(3)  # a second one would be there by now
    started = [run for run in runs(deployed, "evaluate") if not run["auto_scheduled"]]
    assert len(started) == 1
    assert (deployed.project.root / "score").exists()
    deployed.patch(
        f"/deployments/{switched['deployment_id']}/schedules/{switched['id']}", active=False
    )


def test_a_second_worker_is_refused_with_one_line(deployed: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mimic.flows.worker"],
        cwd=deployed.project.root,
        env=deployed.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "the worker of this workspace (pid " in done.stderr.splitlines()[-1]


def test_somebody_is_told_when_a_run_failed(
    deployed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (deployed.project.root / "pids").unlink(missing_ok=True)
    deployed.project.write("b", "refuse")
    with (
        HTTPServer(("127.0.0.1", 0), Sink) as sink,
        temporary_settings({PREFECT_API_URL: deployed.url}),
    ):
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{sink.server_port}/hook?token=s3cret"
        monkeypatch.setenv(notify.VARIABLE, address)
        assert notify.apply(plan.POOL) == "failures are told to 127.0.0.1"
        monkeypatch.chdir(deployed.project.root)
        state = pipeline(targets=["mine"], return_state=True)
        assert state.is_failed()
        wait_until(lambda: told, 60, "the message")
        time.sleep(2)
        monkeypatch.setenv(notify.VARIABLE, "no address")
        with pytest.raises(BadInput, match="is no web address"):
            notify.apply(plan.POOL)
        assert _telling(deployed) == [notify.NAME.format(pool=plan.POOL)], "it goes on"
        monkeypatch.delenv(notify.VARIABLE)
        notify.apply(plan.POOL)
        sink.shutdown()
    (text,) = told
    assert text.startswith("mimic: mine, ")
    assert "raw/b: not an image" in text
    assert "/runs/flow-run/" in text
    assert _telling(deployed) == []
    deployed.project.write("b", "plain")


def _telling(server: Server) -> list[str]:
    names = [one["name"] for one in server.post("/automations/filter")]
    return [name for name in names if "tell when" in name]


def _addresses(server: Server) -> list[str]:
    found = server.post("/block_documents/filter", include_secrets=False)
    return [one["name"] for one in found]


def test_nobody_is_told_of_a_pool_that_was_left(
    deployed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does its webhook's address, a secret, stay on the server."""
    monkeypatch.setenv(notify.VARIABLE, "https://hooks.example.org/x")
    with temporary_settings({PREFECT_API_URL: deployed.url}):
        before = _addresses(deployed)
        for pool in ("former", "present"):
            notify.apply(pool)
        notify.forget("former")
        assert _telling(deployed) == [notify.NAME.format(pool="present")]
        assert len(_addresses(deployed)) == len(before) + 1
        notify.forget("former")  # it is gone
        notify.forget("present")
        assert _telling(deployed) == []
        assert _addresses(deployed) == before


def test_cancelling_in_the_ui_ends_the_stage_and_its_descendants(deployed: Server) -> None:
    wait_for_quiet(deployed)
    (deployed.project.root / "pids").unlink(missing_ok=True)
    deployed.project.write("a", "hang")
    (found,) = deployed.post("/deployments/filter", deployments={"name": {"any_": ["everything"]}})
    run = deployed.post(f"/deployments/{found['id']}/create_flow_run")
    pids = deployed.project.children(90)
    assert all(map(is_running, pids))
    wait_until(
        lambda: [held["id"] for held in runs(deployed, "everything", "Running")] == [run["id"]],
        30,
        "the run to be shown as running",
    )
    deployed.post(f"/flow_runs/{run['id']}/set_state", state={"type": "CANCELLING"})
    wait_until(lambda: not any(map(is_running, pids)), 90, "the stage to end")
    wait_until(lambda: runs(deployed, "everything", "Cancelled"), 60, "the run to be marked")


def test_a_run_started_by_hand_can_be_cancelled_as_well(deployed: Server) -> None:
    """No worker watches over it, and no event is waited for: the flow looks at its own state."""
    root = deployed.project.root
    wait_for_quiet(deployed)
    deployed.project.write("a", "hang")
    (root / "pids").unlink(missing_ok=True)
    by_hand = subprocess.Popen(
        [sys.executable, "-m", "mimic.flows.pipeline", "mine", "--force"],
        cwd=root,
        env=deployed.environment,
    )
    try:
        pids = deployed.project.children(90)
        running = [
            item for item in deployed.post("/flow_runs/filter") if item["state_type"] == "RUNNING"
        ]
        (run,) = [item for item in running if item["deployment_id"] is None]
        deployed.post(f"/flow_runs/{run['id']}/set_state", state={"type": "CANCELLING"})
        wait_until(lambda: not any(map(is_running, pids)), 90, "the stage to end")
        assert by_hand.wait(60) == 1
    finally:
        by_hand.kill()
    (ended,) = deployed.post("/flow_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    assert ended["state_type"] == "CANCELLED"
    assert "resumes where it stopped" in ended["state"]["message"]
