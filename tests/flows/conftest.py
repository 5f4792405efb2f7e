"""Flows against a small project and a real server."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.toy_project import Project, Server, end, make_project

# Prefect reads its settings when it is imported.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="mimic-prefect-")
os.environ["DO_NOT_TRACK"] = "true"
os.environ.pop("PREFECT_API_URL", None)
from prefect.settings import PREFECT_API_URL, temporary_settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


def serving(folder: Path) -> Iterator[Server]:
    """A server of its own, and a project that has not been run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Server(make_project(folder / "project"), port)
    try:
        running.serve()
        yield running
    finally:
        if running.process is not None:
            end(running.process)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("served"))


@pytest.fixture
def here(server: Server) -> Iterator[Server]:
    """Flows called in this process report to the server."""
    with temporary_settings({PREFECT_API_URL: server.url}):
        yield server
