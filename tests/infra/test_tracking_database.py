"""MLflow's PostgreSQL dies while results are written: one line, and the next mirror leaves what an
undisturbed one leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mimic import config
from mimic.errors import BadInput
from mimic.infra import tracking
from tests.support.servers import MlflowServer, Postgres, own_postgres
from tests.support.tracked_results import TOLD, client_of, publish_all

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
CALLS = ("create_run", "log_batch", "set_terminated")


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with own_postgres() as found:
        yield found


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    found = MlflowServer(tmp_path_factory.mktemp("mlflow"), database)
    try:
        found.start()
        yield found
    finally:
        found.end()


def context(prefix: str) -> tracking.TrackingContext:
    where = config.Tracking(uri="sqlite:///mlflow.db", experiment_prefix=prefix)
    return tracking.TrackingContext(**{**vars(TOLD), "tracking": where})


def shown(server: MlflowServer, prefix: str) -> list[tuple[Any, ...]]:
    """Every run: its name, end, values and parameters."""
    client = client_of(server.page)
    experiment = client.get_experiment_by_name(prefix).experiment_id
    return sorted(
        (
            run.info.run_name,
            run.info.status,
            tuple(sorted(run.data.metrics.items())),
            tuple(sorted(run.data.params.items())),
        )
        for run in client.search_runs([experiment])
    )


def killing(database: Postgres, call: str, asked: list[str]) -> Callable[..., Any]:
    """A method of MLflow's client that kills the database when it is called the third time."""
    real = getattr(MlflowClient, call)

    def method(client: MlflowClient, *args: Any, **more: Any) -> Any:
        asked.append(call)
        if len(asked) == 3:
            database.kill()
        return real(client, *args, **more)

    return method


def test_a_database_that_dies_in_between_costs_a_line(
    database: Postgres,
    server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.page)
    workspace = publish_all(tmp_path)
    tracking.mirror_all(context("undisturbed"), workspace)
    undisturbed = shown(server, "undisturbed")
    assert {status for _, status, _, _ in undisturbed} == {"FINISHED"}
    for call in CALLS:
        asked: list[str] = []
        with monkeypatch.context() as disturbed:
            disturbed.setattr(MlflowClient, call, killing(database, call, asked))
            with pytest.raises(BadInput, match="MLflow at http") as info:
                tracking.mirror_all(context(call), workspace)
        assert "\n" not in str(info.value)
        assert len(asked) == 3, "nothing goes on without it"
        database.start()
        tracking.mirror_all(context(call), workspace)
        assert shown(server, call) == undisturbed, f"it died at the third {call}"
