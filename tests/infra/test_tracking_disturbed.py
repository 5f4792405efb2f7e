"""An MLflow that somebody else holds or tidies up, and results that are hard to show."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mimic.errors import BadInput
from mimic.infra import tracking
from mimic.infra.tracking import store, writer
from tests.support.tracked_results import (
    TOLD,
    client_in,
    client_of,
    publish_evaluation,
    publish_pretraining,
    result_of,
    search,
)


@pytest.fixture
def workspace(tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one run and its evaluation."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(tables, tmp_path / "mlflow.db")
    publish_pretraining(tmp_path, "croco-1m")
    publish_evaluation(tmp_path, "croco-1m", 0.5)
    return tmp_path


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow waits 20 s for a lock; here a tenth of one."""
    from mlflow.store.db import utils

    text = utils.sql.text
    monkeypatch.setattr(utils.sql, "text", lambda words: text(words.replace("20000", "100")))


@pytest.mark.parametrize("lock", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_database_that_another_process_holds_is_one_line(
    workspace: Path,
    lock: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before the first question, or before the first run is written. MLflow has its own way to
    stderr, past `caplog`."""
    database = workspace / "mlflow.db"
    with store.opened(f"sqlite:///{database}") as client:
        store.experiment(client, f"sqlite:///{database}", "mimic")
    _impatient(monkeypatch)
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute(f"BEGIN {lock}")
        tracking.mirror_pretrain(TOLD, workspace, "croco-1m")
        with pytest.raises(BadInput) as caught:
            tracking.mirror_all(TOLD, workspace)
    assert capfd.readouterr() == ("", "")
    (line,) = _warnings(caplog)
    assert "(the database is locked by another process); `mimic track` shows it later" in line
    assert f"{database}: the database is locked by another process; " in str(caught.value)
    assert "\n" not in f"{line}{caught.value}"
    assert tracking.mirror_all(TOLD, workspace).new == 3


def test_a_long_parameter_is_cut_to_what_mlflow_takes(
    workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By us: MLflow cuts it as well, and writes a warning for each."""
    value = "0123456789" * 700
    publish_evaluation(
        workspace, "croco-1m", 0.5, section={"data": "data/raw/nyu", "scenes": value}
    )
    tracking.mirror_all(TOLD, workspace)
    assert "truncated" not in capfd.readouterr().err
    params = search(client_in(workspace))["depth croco-1m"].data.params
    assert params["section.scenes"] == value[: writer.VALUE]
    assert writer.VALUE == 6000


def test_numbers_that_are_none_are_shown(workspace: Path) -> None:
    """mimic writes none; another program may. MLflow keeps the largest number for infinity."""
    metrics = {"delta1": 0.5, "rms": math.nan, "most": math.inf, "least": -math.inf}
    result = result_of(workspace, "croco-1m", 0.5, metrics=metrics)
    (workspace / "metrics/croco-1m/depth.json").write_text(json.dumps(result))
    assert tracking.mirror_all(TOLD, workspace).new == 3
    shown = search(client_in(workspace))["depth croco-1m"].data.metrics
    assert math.isnan(shown["nyuv2/rms"])
    assert shown["nyuv2/most"] > 1e300
    assert shown["nyuv2/least"] < -1e300
    assert shown["nyuv2/delta1"] == 0.5
    assert tracking.mirror_all(TOLD, workspace).new == 0


def _delete_run(client: Any) -> None:
    client.delete_run(search(client)["depth croco-1m"].info.run_id)


def _delete_bar(client: Any) -> None:
    client.delete_run(search(client)["croco-1m (mimic-1m, 1 seed)"].info.run_id)


def _delete_experiment(client: Any) -> None:
    client.delete_experiment(client.get_experiment_by_name("mimic").experiment_id)


def _rename_experiment(client: Any) -> None:
    client.rename_experiment(client.get_experiment_by_name("mimic").experiment_id, "mine")


@pytest.mark.parametrize("tidy", [_delete_run, _delete_bar, _delete_experiment, _rename_experiment])
def test_what_somebody_deletes_or_renames_is_back_after_the_next(
    workspace: Path, tidy: Callable[[Any], None]
) -> None:
    """Of the files, that is: what was renamed is somebody's own."""
    tracking.mirror_all(TOLD, workspace)
    client = client_in(workspace)
    before = {name: run.data.metrics for name, run in search(client).items()}
    assert len(before) == 3
    tidy(client)
    tracking.mirror_all(TOLD, workspace)
    after = search(client)
    assert {name: run.data.metrics for name, run in after.items()} == before
    bar = after["croco-1m (mimic-1m, 1 seed)"]
    for name in ("depth croco-1m", "pretrain croco-1m"):
        assert after[name].data.tags["mlflow.parentRunId"] == bar.info.run_id
        assert after[name].data.tags["current"] == "true"
    experiment = client.get_experiment_by_name("mimic")
    assert len(client.search_runs([experiment.experiment_id])) == 3
    assert tracking.mirror_all(TOLD, workspace).new == 0


class Proxy(BaseHTTPRequestHandler):
    """Answers everything in one way, as what stands before a server may."""

    status = 200
    body = b""
    answered = 0

    def answer(self) -> None:
        Proxy.answered += 1
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("Location", self.path)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # else seconds
    Proxy.answered = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _refused_in_one_line(
    uri: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(workspace)
    before = sorted(path for path in workspace.rglob("*") if path.name != "workspace.json")
    with pytest.raises(BadInput) as caught:
        tracking.mirror_all(TOLD, workspace)
    assert capfd.readouterr() == ("", "")
    message = str(caught.value)
    assert message.startswith(f"MLflow at {uri}: ")
    assert "\n" not in message
    after = sorted(path for path in workspace.rglob("*") if path.name != "workspace.json")
    assert [path for path in after if path not in before and path.name != "runs"] == []
    return message


REFUSED = b'{"error_code": "NOT_YOURS", "message": "no\\nentry"}'


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, b"", "answers with error 500"),
        (503, b"<html>later</html>", "answers with error 503"),
        (429, b"{}", "answers with error 429"),
        (401, REFUSED, "NOT_YOURS: no"),
        (401, b"<html>log in</html>", "error code 401"),
        (200, b"<html>\nlog in</html>", "not in a valid JSON format"),
        (302, b"", "Exceeded 30 redirects"),
    ],
)
def test_a_server_that_answers_otherwise_is_one_line(
    proxy: str,
    workspace: Path,
    status: int,
    body: bytes,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Proxy, "status", status)
    monkeypatch.setattr(Proxy, "body", body)
    assert says in _refused_in_one_line(proxy, workspace, monkeypatch, capfd)
    assert Proxy.answered <= 31, "as often as redirects are followed"


def test_a_server_that_never_answers_is_given_up(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        message = _refused_in_one_line(uri, workspace, monkeypatch, capfd)
    assert "no answer" in message
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("uri", ["file:", "./mlruns", "file:///nowhere/mlruns", "http://[bad"])
def test_an_address_of_no_tracker_is_one_line(
    uri: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _refused_in_one_line(uri, workspace, monkeypatch, capfd)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///"])
def test_a_database_in_memory_alone_is_refused(
    uri: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(BadInput, match=f"{uri}: names no file, so all would be gone at once"):
        tracking.mirror_all(TOLD, workspace)


def test_a_database_in_a_new_folder_is_made(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///new/folder/mlflow.db")
    assert tracking.mirror_all(TOLD, workspace).new == 3
    client = client_of(f"sqlite:///{workspace}/new/folder/mlflow.db")
    assert len(search(client)) == 3
    assert (workspace / "new/folder/mlruns").is_dir(), "artifacts lie beside it"
