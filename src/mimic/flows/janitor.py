"""Flow runs whose process is gone: they are scheduled again, or marked Crashed, so that they hold
no slot.

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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Crashed, Scheduled

from mimic.commands.operation.schedule_slots import PENDING_S
from mimic.flows import shift

FLOW = "pipeline"
LOOK_S = 1.0  # between two looks at whether the server answers
RESUMED = "resumed-"  # a tag of a run that lost its process, and how often it did
AT_MOST = 3  # times that a run is started again: what kills its machine each time must end
YOUNG = timedelta(days=1)  # what crashed earlier has been seen by somebody
GONE = "its process is gone, as after a restart of the machine; what was finished stands, and "


@dataclass(frozen=True)
class Found:
    """A run without a process."""

    name: str
    again: bool  # the worker starts it once more

    def __str__(self) -> str:
        now = "it goes on where it stopped" if self.again else "marked as Crashed"
        return f"flow run {self.name}: its process was gone, {now}"


@contextmanager
def alive(run_id: str) -> Iterator[None]:
    """While the block runs, this process is known to work on the flow run."""
    path = _lock(run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(shift.token())
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def left_behind() -> list[str]:
    """Flow runs at work that a worker of this workspace has started, by id; after its shift is over
    they are about to end."""
    found = (get_current_settings().home / "alive").glob(f"*.{os.uname().nodename}")
    return [path.name.partition(".")[0] for path in found if not _is_free(path) and _text(path)]


def sweep(pending_s: float = PENDING_S, patience_s: float = 0.0) -> list[Found]:
    """Free the slots of runs that nobody works on: schedule a deployment's run again, which goes on
    where it stopped; one that was started by hand, or for the fourth time, is Crashed.

    Args:
        pending_s: for how long a run may be Pending.
        patience_s: for how long to wait for the server to answer.

    Raises:
        httpx.HTTPError: it does not.
    """
    with get_client(sync_client=True) as client:
        _wait(client, patience_s)
        busy = _runs(client, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
        gone = [run for run in busy if _is_gone(run, timedelta(seconds=pending_s))]
        found = [_end(client, run) for run in gone]
        found += [_resume(client, run) for run in _crashed(client) if run not in gone]
    for run in gone:
        _lock(str(run.id)).unlink(missing_ok=True)
    return found


def _runs(client: SyncPrefectClient, *types: StateType) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        flow_run_filter=FlowRunFilter(state=state),
    )


def _end(client: SyncPrefectClient, run: FlowRun) -> Found:
    if run.state is not None and run.state.is_cancelling():
        client.set_flow_run_state(
            run.id, Cancelled(message="cancelled, and its process is gone"), force=True
        )
        return Found(run.name, again=False)
    if run.deployment_id is not None and _times(run) < AT_MOST:
        return _resume(client, run)
    state: State[Any] = Crashed(message=f"{GONE}the next run resumes")
    client.set_flow_run_state(run.id, state, force=True)
    return Found(run.name, again=False)


def _resume(client: SyncPrefectClient, run: FlowRun) -> Found:
    kept = [tag for tag in run.tags if not tag.startswith(RESUMED)]
    client.update_flow_run(run.id, tags=[*kept, f"{RESUMED}{_times(run) + 1}"])
    state: State[Any] = Scheduled(name="AwaitingRetry", message=f"{GONE}it goes on there")
    client.set_flow_run_state(run.id, state, force=True)
    return Found(run.name, again=True)


def _times(run: FlowRun) -> int:
    counts = [tag.removeprefix(RESUMED) for tag in run.tags if tag.startswith(RESUMED)]
    return max((int(count) for count in counts if count.isdigit()), default=0)


def _crashed(client: SyncPrefectClient) -> list[FlowRun]:
    """Runs of deployments whose process was killed while the worker lived, and whose work no later
    run has taken up."""
    return [
        run
        for run in _runs(client, StateType.CRASHED)
        if run.deployment_id is not None
        and run.state is not None
        and datetime.now(UTC) - run.state.timestamp < YOUNG
        and _times(run) < AT_MOST
        and not _is_superseded(client, run)
    ]


def _is_superseded(client: SyncPrefectClient, run: FlowRun) -> bool:
    began = run.start_time or run.expected_start_time
    assert run.deployment_id is not None
    later = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(after_=began)),
    )
    return any(other.id != run.id and other.parameters == run.parameters for other in later)


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
        return True
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _lock(run_id: str) -> Path:
    return get_current_settings().home / "alive" / f"{run_id}.{os.uname().nodename}"
