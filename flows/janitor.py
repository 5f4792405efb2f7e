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
from typing import Any, TextIO

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed, Scheduled

from mimic.commands.operation.schedule_slots import PENDING_S
from mimic.flows import shift
from mimic.infra.owner.lock import NO_LOCKS

FLOW = "pipeline"
LOOK_S = 1.0  # between two looks at whether the server answers
RESUMED = "resumed-"  # a tag of a run that lost its process, and how often it did
AT_MOST = 3  # times that a run is started again: what kills its machine each time must end
YOUNG = timedelta(days=1)  # what crashed earlier has been seen by somebody
GONE = "its process is gone, as after a restart of the machine; what was finished stands, and "

_claimed: list[TextIO] = []  # open as long as this process lives


@dataclass(frozen=True)
class LostRun:
    """A run without a process."""

    name: str
    again: bool  # the worker starts it once more

    def __str__(self) -> str:
        now = "it goes on where it stopped" if self.again else "marked as Crashed"
        return f"flow run {self.name}: its process was gone, {now}"


def claim() -> None:
    """Hold the lock of the run that a worker started this process for, until the process ends:
    from before it is Running until after its last word to the server."""
    run_id = os.environ.get("PREFECT__FLOW_RUN_ID")
    if not run_id or not shift.token():
        return
    path = _lock(run_id)
    if path.exists() and not _is_free(path):
        return  # a process of the same run holds it
    _claimed.append(_held(path))


@contextmanager
def alive(run_id: str) -> Iterator[None]:
    """While the block runs, this process is known to work on the flow run."""
    if _claimed:
        yield
        return
    path = _lock(run_id)
    with _held(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _held(path: Path) -> TextIO:
    """The lock file, which is locked before it has its name: a sweep that finds it finds it held.
    Where the file system has no locks there is none, and no sweep takes the run for dead.

    Returns:
        the open file: whoever closes it, or dies, gives the lock back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(f"{path.name}.{os.getpid()}")
    file = begun.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        begun.unlink()
        return file
    file.write(shift.token())
    file.flush()
    begun.replace(path)
    return file


def left_behind() -> list[str]:
    """Flow runs at work that a worker of this workspace has started, by id; after its shift is over
    they are about to end."""
    locks = (_home() / "alive").glob(f"*.{os.uname().nodename}")
    return [path.name.partition(".")[0] for path in locks if not _is_free(path) and _text(path)]


def sweep(pool: str, pending_s: float = PENDING_S, patience_s: float = 0.0) -> list[LostRun]:
    """Free the slots of runs that nobody works on: schedule a deployment's run again, which goes on
    where it stopped; one that was started by hand, or for the fourth time, is Crashed.

    Args:
        pool: the work pool of this workspace; runs of another's are left alone.
        pending_s: for how long a run may be Pending.
        patience_s: for how long to wait for the server to answer.

    Raises:
        httpx.HTTPError: it does not.
    """
    with get_client(sync_client=True) as client:
        _wait(client, patience_s)
        busy = _runs(client, pool, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
        gone = [run for run in busy if _is_gone(run, timedelta(seconds=pending_s))]
        gone = [run for run in gone if _is_unfinished(client, run)]
        lost = [_end(client, run) for run in gone]
        ended = {run.id for run in gone}
        lost += [_resume(client, run) for run in _crashed(client, pool) if run.id not in ended]
    _tidy({str(run.id) for run in busy} - {str(run.id) for run in gone})
    return lost


def _is_unfinished(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Asked once its process is known to be gone: it may just have ended well."""
    state = client.read_flow_run(run.id).state
    return state is not None and not state.is_final() and not state.is_scheduled()


def _tidy(unfinished: set[str]) -> None:
    """Remove the lock files of runs that are over."""
    for path in (_home() / "alive").glob(f"*.{os.uname().nodename}"):
        if path.name.partition(".")[0] not in unfinished and _is_free(path):
            path.unlink(missing_ok=True)


def _runs(client: SyncPrefectClient, pool: str, *types: StateType) -> list[FlowRun]:
    """Of the work pool, and those that were started by hand, which have none."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        flow_run_filter=FlowRunFilter(state=state),
    )
    return [run for run in runs if run.work_pool_name in (None, pool)]


def _end(client: SyncPrefectClient, run: FlowRun) -> LostRun:
    if run.state is not None and run.state.is_cancelling():
        client.set_flow_run_state(
            run.id, Cancelled(message="cancelled, and its process is gone"), force=True
        )
        return LostRun(run.name, again=False)
    if run.deployment_id is not None and _times(run) < AT_MOST:
        return _resume(client, run)
    state: State[Any] = Crashed(message=f"{GONE}the next run resumes")
    client.set_flow_run_state(run.id, state, force=True)
    return LostRun(run.name, again=False)


def _resume(client: SyncPrefectClient, run: FlowRun) -> LostRun:
    kept = [tag for tag in run.tags if not tag.startswith(RESUMED)]
    client.update_flow_run(run.id, tags=[*kept, f"{RESUMED}{_times(run) + 1}"])
    state: State[Any] = Scheduled(
        scheduled_time=run.expected_start_time,  # before whatever was due later
        name="AwaitingRetry",
        message=f"{GONE}it goes on there",
    )
    client.set_flow_run_state(run.id, state, force=True)
    return LostRun(run.name, again=True)


def _times(run: FlowRun) -> int:
    counts = [tag.removeprefix(RESUMED) for tag in run.tags if tag.startswith(RESUMED)]
    return max((int(count) for count in counts if count.isdigit()), default=0)


def _crashed(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    """Runs of deployments whose process ended badly while the worker lived."""
    return [
        run
        for run in _runs(client, pool, StateType.CRASHED)
        if run.deployment_id is not None
        and run.state is not None
        and datetime.now(UTC) - run.state.timestamp < YOUNG
        and _times(run) < AT_MOST
    ]


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
        with path.open() as file:
            # shared: two who look at the same time do not take each other for the holder
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
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
    return _home() / "alive" / f"{run_id}.{os.uname().nodename}"


def _home() -> Path:
    return shift.folder().parent
