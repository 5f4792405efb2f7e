"""What `mimic serve` refuses before anything is started."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimic import cli
from mimic.commands.operation import serve
from mimic.errors import BadInput


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """The command is the last thing that a process does, and takes its signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as listening:
        listening.bind((serve.HOST, 0))
        listening.listen()
        yield int(listening.getsockname()[1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path


def test_a_port_that_is_taken_is_named_with_its_option(root: Path, taken: int) -> None:
    with pytest.raises(BadInput, match=f"port {taken} cannot be had .* with --mlflow-port"):
        serve.main(root, serve.Ports(prefect=0, mlflow=taken, report=1), None)


def test_two_pages_on_one_port_are_refused(root: Path, taken: int) -> None:
    with socket.socket() as probe:
        probe.bind((serve.HOST, 0))
        free = int(probe.getsockname()[1])
    with pytest.raises(BadInput, match=f"--port and --report-port are both {free}; change one"):
        serve.main(root, serve.Ports(prefect=free, mlflow=0, report=free), None)


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_what_is_no_port_is_an_error_of_usage(root: Path, port: str) -> None:
    done = CliRunner().invoke(cli.app, ["serve", "--port", port])
    assert done.exit_code == 2
    assert "--port" in done.output


def test_a_folder_that_is_no_workspace_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no dvc.yaml; go to a workspace"):
        serve.main(tmp_path, serve.Ports(1, 2, 3), None)


@pytest.mark.parametrize(("own", "taken"), [(None, "false"), ("true", "true")])
def test_mlflow_does_without_its_jobs_unless_somebody_wants_them(
    root: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, taken: str
) -> None:
    """They are eight processes more."""
    monkeypatch.delenv(serve.JOBS, raising=False)
    if own is not None:
        monkeypatch.setenv(serve.JOBS, own)
    ports = serve.Ports(prefect=1, mlflow=2, report=3)
    house = serve.House(root, ports, "sqlite:///mlflow.db", threading.Event())
    (tracker,) = [child for child in house._children if child.name == "MLflow"]
    assert tracker.variables[serve.JOBS] == taken
