"""Signals that ask a training to stop, turned into a flag that all ranks read together.

A signal handler cannot save: other ranks may be in the middle of a collective. It can only note the
request; the loop asks `requested()` between two steps, where every rank gives the same answer and a
checkpoint is consistent.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn


class StopRequest(IntEnum):
    """What was asked for; the largest of all ranks counts."""

    NONE = 0
    # SIGINT (Ctrl-C), or SIGTERM: scancel, or preemption on a cluster that sends no warning signal
    EXIT = 1
    REQUEUE = 2  # SIGUSR2: the time limit or a preemption is near


class Stopped(SystemExit):
    """Raised by `Stop.exit` after the checkpoint is on disk. No Exception, so `except Exception`
    does not swallow it."""


_listening: list[Stop] = []  # those of this process, the innermost last


def listening_stop() -> Stop | None:
    """The one that hears this process's signals now: of a job, for loops that nobody hands it."""
    return _listening[-1] if _listening else None


class Stop:
    """The flag. A training loop calls, between two steps::

    if stop.requested():
        save(step)
        stop.exit()
    """

    def __init__(self) -> None:
        # written by the signal handler alone: what it notes while ranks agree must not be
        # overwritten
        self._received = StopRequest.NONE
        self._agreed = StopRequest.NONE
        self._group: Any = None

    @property
    def request(self) -> StopRequest:
        """What this process received, or all ranks agreed on."""
        return max(self._received, self._agreed)

    def requested(self) -> bool:
        """Whether to save and exit now: the same answer on every rank.

        With `torch.distributed` initialised this is a collective (one number over gloo, so the
        device is not synchronised): every rank must call it equally often.
        """
        received = StopRequest.REQUEUE if signal.SIGUSR2 in signal.sigpending() else self._received
        self._agreed = StopRequest(self._largest(received))
        return self._agreed > StopRequest.NONE

    def exit(self) -> NoReturn:
        """End the function; call it when the checkpoint is on disk. What happens next is the
        executor's business."""
        reason = self.request.name.lower()
        raise Stopped(
            f"stopped by a signal ({reason}); the work is saved: run the same command "
            "again to resume"
        )

    def _largest(self, request: int) -> int:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return request
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            return request
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        flag = torch.tensor(request)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return int(flag)

    def _note(self, signum: int, frame: Any) -> None:
        if signum == signal.SIGINT and self.request > StopRequest.NONE:
            signal.default_int_handler(signum, frame)  # asked twice: now, without saving
        self._received = max(
            self._received, StopRequest.REQUEUE if signum == signal.SIGUSR2 else StopRequest.EXIT
        )

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Take SIGINT, SIGTERM and SIGUSR2 over from whoever had them, and give them back at the
        end.

        Ctrl-C saves as SIGTERM does; a second one ends the process at once.

        SIGUSR2 is blocked instead of handled where possible: SLURM sends it to every process of a
        job step, and a blocked signal is inherited by children, where an unhandled one would end
        them (data workers, decoders). Handlers can only be set in the main thread; elsewhere
        nothing is received, and nothing else changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        _reset_in_children()
        before = {
            number: signal.signal(number, self._note)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
        }
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        _listening.append(self)
        try:
            yield self
        finally:
            _listening.remove(self)
            signal.pthread_sigmask(
                signal.SIG_SETMASK, mask
            )  # a late SIGUSR2 reaches _note, not what ends the process
            for number, handler in before.items():
                if signal.getsignal(number) == self._note:  # else somebody decided otherwise
                    signal.signal(number, handler)


_registered = False


def _reset_in_children() -> None:
    """Forked children inherit Python's handlers: each would requeue the job, and none could be
    ended with SIGTERM."""
    global _registered
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_reset)


def _reset() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
