"""Items mapped over worker processes of this machine.

Nothing heavy is imported here: a worker process reads this module first, and must set its thread
limits before numpy loads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from types import FrameType
from typing import TypeVar

from mimic.infra.addresses import hide_secrets
from mimic.infra.cluster.failures import ItemsFailed

Item = TypeVar("Item")
Result = TypeVar("Result")
STARTING_S = 10.0  # a process takes about one to start
TRIES = 2  # a worker that dies (out of memory, a crash in a codec) may have been unlucky: once more


def map_local(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    describe: Callable[[Item], str],
) -> Generator[Result, None, None]:
    """`map_items` on this machine. An exception in the function ends the whole map; however it
    ends (also by Ctrl-C, and also when this process is killed), no worker stays behind.

    Raises:
        ItemsFailed: a worker died twice on the same item; all others are done.
    """
    with _ending_in_order():
        yield from _mapped(function, items, workers, describe)


def _mapped(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    describe: Callable[[Item], str],
) -> Generator[Result, None, None]:
    workers = min(workers or available_cores(), len(items))
    queue = iter(enumerate(items))
    finished: dict[int, Result] = {}
    failed: dict[int, str] = {}
    running: dict[Future[Result], tuple[int, int, _Worker]] = {}
    team: list[_Worker] = []
    try:
        for index, item in _take(queue, workers):
            team.append(worker := _Worker())
            running[worker.run(function, item)] = (index, 1, worker)
        emitted = 0
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, tries, worker = running.pop(future)
                try:
                    finished[index] = future.result()
                except BrokenProcessPool:
                    worker.restart()
                    if tries < TRIES:
                        running[worker.run(function, items[index])] = (index, tries + 1, worker)
                        continue
                    failed[index] = _died(describe(items[index]))
                for following, item in _take(queue, 1):
                    running[worker.run(function, item)] = (following, 1, worker)
            while emitted in finished or emitted in failed:
                if emitted in finished:
                    yield finished.pop(emitted)
                emitted += 1
        if failed:
            raise ItemsFailed(
                {describe(items[index]): why for index, why in sorted(failed.items())}
            )
    finally:
        for worker in team:
            worker.kill()


def available_cores() -> int:
    """Cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One process: a pool of one, so that it is known which item it died of, and which process to
    kill."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_settle
        )
        self._process = self._pool.submit(os.getpid)

    def run(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        return self._pool.submit(function, item)

    def restart(self) -> None:
        self._pool.shutdown(wait=False)
        self._start()

    def kill(self) -> None:
        """Whatever it is doing; its scratch files are swept by the next run."""
        with contextlib.suppress(BrokenProcessPool, ProcessLookupError, TimeoutError):
            os.kill(self._process.result(timeout=STARTING_S), signal.SIGKILL)
        # The pool's own thread notices the death at once. Left running, it would trip over its
        # closed pipes at the end of this process.
        self._pool.shutdown(wait=True, cancel_futures=True)


def _settle() -> None:
    """What a worker does first: one thread for each numerical library, Ctrl-C left to the parent,
    and death when it dies."""
    for library in ("OMP", "OPENBLAS", "MKL", "VECLIB"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    hide_secrets()
    import cv2

    cv2.setNumThreads(1)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit in this block, so that workers are ended and semaphores
    given back.

    Left alone where somebody else listens already, and outside the main thread, which alone may
    listen.
    """
    ours = []
    if threading.current_thread() is threading.main_thread():
        listened = (signal.SIGTERM, signal.SIGHUP)
        ours = [number for number in listened if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _take(queue: Iterator[Item], count: int) -> Iterator[Item]:
    for _ in range(count):
        with contextlib.suppress(StopIteration):
            yield next(queue)


def _died(what: str) -> str:
    return (
        f"a worker process died twice on {what}: killed, most likely for want of memory, or "
        "crashed in a decoder;"
        " lower cluster.workers, and run again (what is finished is kept)"
    )
