"""The servers of docker/compose.yaml, their own commands and settings, on a real PostgreSQL;
containers are left out."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postgres_program(name: str) -> str | None:
    """On the PATH, or where Debian keeps it."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    return found


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "docker" / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def database(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`user@host:port` of a PostgreSQL with the databases that compose makes."""
    programs = {name: _postgres_program(name) for name in ("initdb", "postgres", "psql")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        reason = f"PostgreSQL is not installed (no {', '.join(missing)})"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder, port = tmp_path_factory.mktemp("postgres"), _free_port()
    as_server: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_server = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and parent != Path(parent.anchor):
                parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    subprocess.run(
        [*as_server, programs["initdb"], "-D", data, "-U", "mimic", "-A", "trust"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [
            *as_server,
            programs["postgres"],
            "-D",
            data,
            "-p",
            str(port),
            "-k",
            folder,
            "-h",
            "127.0.0.1",
        ],
        stdout=log,
        stderr=log,
        cwd=folder,
    )
    try:
        psql = [
            programs["psql"],
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "mimic",
            "-d",
            "postgres",
        ]
        _wait(
            lambda: subprocess.run([*psql, "-c", "select 1"], capture_output=True).returncode == 0,
            server,
            "PostgreSQL",
        )
        subprocess.run(
            [*psql, "-f", repository / "docker" / "postgres-init.sql"],
            check=True,
            capture_output=True,
        )
        yield f"mimic@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def test_prefect_and_mlflow_run_on_postgresql(
    compose: dict[str, Any], database: str, tmp_path: Path
) -> None:
    in_compose = "mimic:${POSTGRES_PASSWORD}@postgres"
    prefect_port, mlflow_port = _free_port(), _free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    url = compose["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert in_compose in url
    prefect_command = shlex.split(compose["prefect"]["command"]) + ["--port", str(prefect_port)]
    mlflow_command = shlex.split(
        compose["mlflow"]["command"]
        .replace(in_compose, database)
        .replace("${MLFLOW_HOSTS:-localhost:*,127.0.0.1:*}", "127.0.0.1:*")
    )
    for option, value in (
        ("--port", str(mlflow_port)),
        ("--host", "127.0.0.1"),
        ("--artifacts-destination", str(tmp_path / "artifacts")),
        ("--workers", "1"),
    ):
        mlflow_command[mlflow_command.index(option) + 1] = value
    prefect_command[prefect_command.index("--host") + 1] = "127.0.0.1"
    servers = []
    with (tmp_path / "log").open("wb") as log:
        try:
            servers.append(
                _start(
                    prefect_command,
                    {
                        **environment,
                        "PREFECT_API_DATABASE_CONNECTION_URL": url.replace(in_compose, database),
                    },
                    log,
                )
            )
            servers.append(_start(mlflow_command, environment, log))
            _wait(
                lambda: _get(f"http://127.0.0.1:{prefect_port}/api/health") == b"true",
                servers[0],
                "the Prefect server",
            )
            _wait(
                lambda: _get(f"http://127.0.0.1:{mlflow_port}/health") == b"OK",
                servers[1],
                "the MLflow server",
            )
            client = (
                "import mlflow; mlflow.set_experiment('x'); mlflow.start_run(); "
                "mlflow.log_metric('y', 1.0); mlflow.log_text('z', 'z.txt')"
            )
            tracked = {**environment, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}"}
            subprocess.run(
                [sys.executable, "-c", client],
                env=tracked,
                check=True,
                capture_output=True,
                timeout=90,
            )
        except BaseException:
            print((tmp_path / "log").read_text()[-4000:])
            raise
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.wait(30)
    host = database.split("@")[1].split(":")
    for name, table in (("prefect", "flow_run"), ("mlflow", "metrics")):
        query = f"select count(*) from {table}"
        psql = [
            _postgres_program("psql"),
            "-h",
            host[0],
            "-p",
            host[1],
            "-U",
            "mimic",
            "-d",
            name,
            "-tAc",
            query,
        ]
        count = int(subprocess.run(psql, check=True, capture_output=True, text=True).stdout)
        assert count == (1 if name == "mlflow" else 0)


def _start(command: list[str], environment: dict[str, str], log: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + 150
    while not ready():
        assert process.poll() is None, f"{what} ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"{what} did not come up"
        time.sleep(0.3)
