"""One Prefect task is one DVC stage: a child process in a group of its own, its output in the run's
log line by line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed

from mimic.commands.operation import leash
from mimic.errors import BAD_INPUT, CANCELLED
from mimic.flows import artifacts, dvc_locks, shift
from mimic.flows.output import Output
from mimic.infra.addresses import without_secrets

GRACE_S = 10.0  # between asking a stage to stop and killing it: long enough to save a checkpoint
LOOK_S = 5.0  # between two looks at whether somebody has cancelled the run
MENDED_MOST = 3
SHIFT_S = 1.0  # between two looks at whether the worker lives
# What DVC says of a stage whose command refuses its input, or of one that a person has cancelled.
IN_VAIN = re.compile(rf"exited with ({BAD_INPUT}|{CANCELLED})\b")

Child = subprocess.Popen[str]


def environment() -> dict[str, str]:
    """For children: our own programs come first, as a worker need not have the environment
    activated, and output is not held back."""
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }


class StageFailed(RuntimeError):
    """A stage ended badly: the end of its output, and whether trying again could help."""

    def __init__(self, message: str, again: bool) -> None:
        super().__init__(message)
        self.again = again


class Children:
    """The commands that one flow run has started, each on a leash: a process group that ends when
    we let go, or are gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: set[Child] = set()
        self.stopped = threading.Event()
        self.cancelled = False  # by whoever set the run to Cancelling
        self.deliberate = False  # a person wants it: what the stages sent to a cluster is cancelled

    @property
    def stopping(self) -> bool:
        return self.stopped.is_set()

    @contextmanager
    def run(self, command: list[str]) -> Iterator[Child]:
        """A command, output and errors merged into one pipe; leaving the block early ends it and
        its descendants."""
        with self._lock:  # else a stage could start just behind the back of stop_all
            if self.stopping:
                raise StageFailed("not started: the flow run is being stopped", again=False)
            child = subprocess.Popen(
                [sys.executable, "-I", leash.__file__, str(GRACE_S), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                bufsize=1,
                start_new_session=True,
                env=environment(),
            )
            self._alive.add(child)
        try:
            yield child
        finally:
            _let_go(child)
            child.wait()
            with self._lock:
                self._alive.discard(child)

    def stop_all(self) -> None:
        """End every child and all its descendants, and start no other."""
        with self._lock:
            self.stopped.set()
            alive = list(self._alive)
        for child in alive:  # all at once: the grace period is one for all
            _let_go(child, self.deliberate)
        for child in alive:
            child.wait()


def _let_go(child: Child, deliberate: bool = False) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError, ValueError):  # it has ended; or it was let go before
        child.stdin.write("stop" if deliberate else "")
    with suppress(BrokenPipeError):
        child.stdin.close()


_children: ContextVar[Children] = ContextVar("children")


@contextmanager
def no_child_left_behind() -> Iterator[Children]:
    """Around a flow's body: when it ends early (cancelled, interrupted, a bug), it waits for every
    stage it started to end.

    Only the main thread hears the worker's signal, and Prefect runs tasks in others, hence here and
    not in the task.
    """
    children = Children()
    token = _children.set(children)
    over = threading.Event()
    run_id = str(runtime.flow_run.id)
    watcher = threading.Thread(
        target=copy_context().run, args=(_watch, run_id, children, over), daemon=True
    )
    watcher.start()
    try:
        yield children
    except BaseException as error:
        children.deliberate = isinstance(error, KeyboardInterrupt) or _is_cancelling(run_id)
        children.stop_all()
        shift.leave_if_over()
        raise
    finally:
        over.set()
        _children.reset(token)


def _watch(run_id: str, children: Children, over: threading.Event) -> None:
    """Stop the stages once the run is Cancelling, or its worker is gone.

    A worker is told by an event, which can be lost, and a run started by hand has no worker: then
    nobody else would act.
    """
    asked = time.monotonic()
    while not over.wait(SHIFT_S):
        if shift.is_over():
            children.stop_all()
            shift.leave_if_over()
        if time.monotonic() - asked < LOOK_S:
            continue
        asked = time.monotonic()
        if _is_cancelling(run_id):
            children.cancelled = True
            children.deliberate = True
            children.stop_all()
            return


def _is_cancelling(run_id: str) -> bool:
    """Whether a person has cancelled the run; False while the server does not say."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run_id)).state
    except Exception:  # it is busy or away for a moment; whatever it is, the next look may succeed
        return False
    return state is not None and state.is_cancelling()


def worth_another_try(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Retry what died (memory, a lost node, a full disk): stages resume. Not bad input, not
    what a person has cancelled, and not a run that is being stopped."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.again


@task(task_run_name="{stage}", persist_result=False, retry_condition_fn=worth_another_try)
def repro(stage: str, force: bool, idle: bool = False) -> State[str]:
    """Bring one stage up to date; the stages it needs already are.

    Args:
        idle: it is known to have nothing to do, so DVC is not asked again.

    Raises:
        StageFailed: DVC or the stage's command failed.
    """
    if idle:
        artifacts.rename_task(f"{stage} (unchanged)")
        return Completed(name="Cached", message=f"Stage '{stage}' didn't change", data=stage)
    children = _children.get(None) or Children()
    # --wait-for-lock must precede the sub-command; without it a lock held for over 3 seconds
    # (hashing, NFS) is an error.
    command = [
        sys.executable,
        "-m",
        "dvc",
        "--wait-for-lock",
        "repro",
        "--single-item",
        stage,
        *(["--force"] if force else []),
    ]
    status, output = _follow(children, command, stage)
    for _ in range(MENDED_MOST):  # of stages at once, one mends it for all
        if not status or not output.is_torn:
            break
        if dvc_locks.mend():
            get_run_logger().warning("removed DVC's record of locks, torn by a killed process")
        status, output = _follow(children, command, stage)
    has_said_so = False
    while status and output.is_busy:  # another run's: DVC waits for its own lock, but not for these
        if not has_said_so:
            get_run_logger().info("waiting for the process that is at %s", stage)
            has_said_so = True
            for other in dvc_locks.release():
                get_run_logger().warning(
                    "removed a lock of a process that is gone; its number has %s now", other
                )
        children.stopped.wait(LOOK_S)
        status, output = _follow(children, command, stage)
    tail = "\n".join(output.tail)
    if status:
        again = not IN_VAIN.search(tail) and not children.stopping
        raise StageFailed(f"{output.cause()}\n{stage} failed\n{tail}", again=again)
    if not output.ran:
        skipped = re.search(r"Stage '.*", tail)
        artifacts.rename_task(f"{stage} (unchanged)")
        return Completed(name="Cached", message=skipped[0] if skipped else tail, data=stage)
    return Completed(message="ran", data=stage)


def _follow(children: Children, command: list[str], stage: str) -> tuple[int, Output]:
    """Run it, its output to the log and its progress to an artifact; its exit status."""
    log = get_run_logger()
    output = Output()
    with children.run(command) as child, artifacts.progress_of(stage) as show:
        assert child.stdout is not None
        for line in filter(None, map(_shown, child.stdout)):
            if output.take(line):
                log.info(line)
                show(line)
        return child.wait(), output


def _shown(line: str) -> str:
    """As it is logged and kept by the server, whichever program printed it."""
    return without_secrets(line).rstrip()
