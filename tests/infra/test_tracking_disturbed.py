"""An MLflow that somebody else holds or tidies up, and results that are hard to show."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimic.errors import BadInput
from mimic.infra import tracking
from mimic.infra.tracking import store, writer
from tests.support.tracked_results import (
    TOLD,
    client_of,
    publish_evaluation,
    publish_pretraining,
    search,
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded store without runs: making its tables takes seconds."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    with store.opened(f"sqlite:///{path}"):
        return path


@pytest.fixture
def workspace(tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one run and its evaluation."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(tables, tmp_path / "mlflow.db")
    publish_pretraining(tmp_path, "croco-1m")
    publish_evaluation(tmp_path, "croco-1m", 0.5)
    return tmp_path


def client_in(root: Path) -> Any:
    return client_of(f"sqlite:///{root}/mlflow.db")


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]


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
