"""The worker: `python -m mimic.flows.worker [OPTIONS of prefect worker start]`, one a workspace.

Prefect's own worker, one flow at a time, in a process that this one watches over. It first frees
the slots of runs that died with their machine, and looks for such runs now and then. It starts
Prefect's worker again when that dies, and ends it when asked to: by itself, a worker that outlived
a restart of its server does not end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from mimic.commands.operation import leash
from mimic.commands.operation.schedule_slots import PENDING_S
from mimic.errors import BadInput
from mimic.flows import janitor, plan, shift
from mimic.infra.addresses import hide_secrets
from mimic.infra.owner import owned

PATIENCE_S = 120.0  # after a restart the worker may be up before its server
GRACE_S = 45.0  # for the stages at work to save what they have
HANDOVER_S = 3.0  # the last worker may be about to end
SWEEP_S = 30.0  # between two looks for runs that nobody works on
LOOK_S = 0.5
AGAIN_S = 2.0  # before a worker that died is started again
NAME = f"mimic-{os.uname().nodename}-{zlib.crc32(os.fsencode(Path.cwd())):08x}"


def main() -> None:
    hide_secrets()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        if get_current_settings().api.url is None:
            raise BadInput("the worker: PREFECT_API_URL is not set; `mimic serve` starts a server")
        with owned(shift.folder(), "the worker of this workspace", HANDOVER_S, leave=stop.is_set):
            work(sys.argv[1:], stop)
    except BadInput as error:
        print(f"mimic: {error}", file=sys.stderr)
        sys.exit(2)
    except httpx.HTTPError as error:
        print(f"mimic: the Prefect server does not answer ({error})", file=sys.stderr)
        sys.exit(1)


def work(options: list[str], stop: threading.Event) -> None:
    """Until `stop` is set: one shift after the other."""
    name = _given(options, "--name") or NAME
    pool = _given(options, "--pool") or plan.pool()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    command += ["--type", "process", "--limit", "1", "--name", name, *options]
    while not stop.is_set():
        _wait_for_the_last_shift(stop)
        _sweep(name, pool, starting=True, stop=stop)
        with shift.begun() as variable, _on_a_leash(command, variable) as worker:
            _watch(worker, name, pool, stop)
        if not stop.is_set():
            say(f"the worker ended with status {worker.returncode}: it is started again")
            stop.wait(AGAIN_S)
    _wait_for_the_last_shift(threading.Event())
    _sweep(name, pool, starting=False, stop=stop)  # what was stopped waits for the next worker


def _given(options: list[str], option: str) -> str | None:
    return options[options.index(option) + 1] if option in options[:-1] else None


def _watch(worker: subprocess.Popen[bytes], name: str, pool: str, stop: threading.Event) -> None:
    swept = time.monotonic()
    while worker.poll() is None and not stop.wait(LOOK_S):
        if time.monotonic() - swept >= SWEEP_S:
            _sweep(name, pool, starting=False, stop=stop)
            swept = time.monotonic()


@contextmanager
def _on_a_leash(command: list[str], variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command that ends with the block, or with this process, even if that is killed."""
    child = subprocess.Popen(
        [sys.executable, "-I", leash.__file__, str(GRACE_S), *command],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **variables},
    )
    assert child.stdin is not None
    try:
        yield child
    finally:
        child.stdin.close()
        child.wait()


def _wait_for_the_last_shift(stop: threading.Event) -> None:
    """Flow runs that a killed worker left behind end by themselves, and nothing is started beside
    them."""
    has_said_so = False
    while not stop.is_set() and (runs := janitor.left_behind()):
        if not has_said_so:
            say(f"waiting for what the last worker left behind to end: {', '.join(runs)}")
            has_said_so = True
        stop.wait(LOOK_S)


def _sweep(name: str, pool: str, starting: bool, stop: threading.Event) -> None:
    """A run is Pending while a worker starts it; at the start nobody does, if nobody else can."""
    end = time.monotonic() + (PATIENCE_S if starting else 0.0)
    while not stop.is_set() or not starting:
        try:
            pending_s = 0.0 if starting and _is_alone(name, pool) else PENDING_S
            for lost_run in janitor.sweep(pool, pending_s):
                say(str(lost_run))
            return
        except httpx.HTTPError:
            if time.monotonic() >= end:
                if starting:
                    raise
                return  # the server is away; the next look is soon
            stop.wait(LOOK_S)


def _is_alone(name: str, pool: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            workers = client.read_workers_for_work_pool(pool)
        except ObjectNotFound:
            return True
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return True  # a new server: the pool is made by the first worker
    return not any(other.status == WorkerStatus.ONLINE and other.name != name for other in workers)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
