"""Flow runs whose process is gone: they are marked Crashed, so that they hold no slot.

A machine that dies leaves its runs as they were: Pending or Running for ever, each in its
deployment's only slot, so that the next nights are dropped. Nobody else would say so: the worker
that watched over them died, too. A run that lives holds a lock file; the system releases the lock
with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import get_current_settings
from prefect.states import Crashed

FLOW = "pipeline"
PENDING_S = 300.0  # a worker starts the process of a run within seconds of marking it Pending
LOOK_S = 1.0  # between two looks at whether the server answers


@contextmanager
def alive(run_id: str) -> Iterator[None]:
    """While the block runs, this process is known to work on the flow run."""
    path = _lock(run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def sweep(pending_s: float = PENDING_S, patience_s: float = 0.0) -> list[str]:
    """Mark the runs as Crashed that nobody works on; their names.

    Args:
        pending_s: for how long a run may be Pending.
        patience_s: for how long to wait for the server to answer.

    Raises:
        httpx.HTTPError: it does not.
    """
    with get_client(sync_client=True) as client:
        _wait(client, patience_s)
        unfinished = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(
                    type=FlowRunFilterStateType(
                        any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
                    )
                )
            ),
        )
        gone = [run for run in unfinished if _is_gone(run, timedelta(seconds=pending_s))]
        for run in gone:
            client.set_flow_run_state(
                run.id,
                Crashed(
                    message="its process is gone, as after a restart of the machine; what was "
                    "finished stands, and the next run resumes"
                ),
                force=True,
            )
    for run in gone:
        _lock(str(run.id)).unlink(missing_ok=True)
    return [run.name for run in gone]


def _wait(client: SyncPrefectClient, patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while (problem := client.api_healthcheck()) is not None:
        if time.monotonic() >= end:
            raise problem
        time.sleep(LOOK_S)


def _is_gone(run: FlowRun, may_be_pending: timedelta) -> bool:
    """Whether nobody works on a run. One that never made a lock file and is Running belongs to
    another checkout, and is left alone."""
    path = _lock(str(run.id))
    if path.exists():
        return _is_free(path)
    if run.state is None or not run.state.is_pending():
        return False
    return datetime.now(UTC) - run.state.timestamp > may_be_pending


def _is_free(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # it has just ended
        return False
    return True


def _lock(run_id: str) -> Path:
    return get_current_settings().home / "alive" / f"{run_id}.{os.uname().nodename}"
