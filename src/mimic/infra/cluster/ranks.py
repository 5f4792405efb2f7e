"""The processes of one training: their numbers and GPUs, and how they are run on this machine."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from mimic.infra.addresses import hide_secrets, without_secrets
from mimic.infra.cluster.failures import culprit, failure
from mimic.infra.cluster.stop import Stop, Stopped

_ECHO_S = 2.0  # after the first rank failed, time for the true culprit's traceback to arrive
_EXIT_S = 5.0  # a rank that is done, or was told to end, is killed after this


@dataclass(frozen=True)
class Rank:
    """A process's place in a run; `export` tells torch.distributed (`init_process_group()` needs no
    arguments then)."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    address: str
    port: int

    def export(self) -> None:
        """Set what torchrun sets, and leave this process its share of the GPUs that the node's job
        was given.

        The share is taken from CUDA_VISIBLE_DEVICES as SLURM wrote it: on a shared node, GPU 0 is
        another job's. A process finds its GPUs numbered from 0.
        """
        os.environ |= {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }
        gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
        share = len(gpus) // self.local_world
        if share and self.local_world > 1:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(
                gpus[share * self.local_rank : share * (self.local_rank + 1)]
            )


def run_local(function: Callable[[Stop], Any], world: int) -> list[Any]:
    """Run the function in `world` processes of this machine (in this very process when one is
    enough).

    Returns:
        The result of every rank.

    Raises:
        Stopped: a signal asked for it, and all ranks saved and left.
    """
    if world == 1:
        with Stop().listening() as stop:
            return [function(stop)]
    with Stop().listening() as stop:
        group = _Group(function, world)
        try:
            return group.collect(stop)
        finally:
            group.end()


class _Group:
    """Spawned processes, each with a pipe that brings back what became of it."""

    def __init__(self, function: Callable[[Stop], Any], world: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        port = _free_port()
        self._processes = []
        self._pipes: list[Connection] = []
        for rank in range(world):
            receiver, sender = spawn.Pipe(duplex=False)
            process = spawn.Process(
                target=_run_rank,
                args=(function, Rank(rank, world, rank, world, "127.0.0.1", port), sender),
            )
            process.start()
            sender.close()
            self._processes.append(process)
            self._pipes.append(receiver)

    def collect(self, stop: Stop) -> list[Any]:
        """Wait for all ranks. A signal is passed on; when one rank fails, the others are not waited
        for."""
        results: dict[int, tuple[str, Any]] = {}
        errors: list[tuple[float, str]] = []
        passed_on = False
        while len(results) < len(self._pipes) and not (
            errors and time.time() - errors[0][0] > _ECHO_S
        ):
            if stop.requested() and not passed_on:
                passed_on = True
                for process in self._processes:
                    process.terminate()
            wait(
                [pipe for rank, pipe in enumerate(self._pipes) if rank not in results], timeout=0.2
            )
            for rank in [
                rank for rank, pipe in enumerate(self._pipes) if rank not in results and pipe.poll()
            ]:
                kind, value = results[rank] = self._receive(rank)
                if kind == "error":
                    errors.append((time.time(), f"rank {rank}:\n{value}"))
        if errors:
            raise failure(culprit(errors))
        if any(kind == "stopped" for kind, _ in results.values()):
            stop.exit()
        for process in self._processes:
            process.join(_EXIT_S)
        return [results[rank][1] for rank in range(len(self._pipes))]

    def _receive(self, rank: int) -> tuple[str, Any]:
        try:
            kind, value = self._pipes[rank].recv()
            return kind, value
        except EOFError:
            self._processes[rank].join(_EXIT_S)
            return (
                "error",
                f"it died without a word, exit code {self._processes[rank].exitcode} (-9 is often "
                "a lack of memory)",
            )

    def end(self) -> None:
        """Nothing is left running, whatever happened."""
        alive = [process for process in self._processes if process.is_alive()]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + _EXIT_S
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()


def _run_rank(function: Callable[[Stop], Any], rank: Rank, pipe: Connection) -> None:
    """What a spawned process runs. It ends when its parent is gone: a second copy may be started
    then."""
    hide_secrets()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rank.export()
    with Stop().listening() as stop:
        try:
            pipe.send(("success", function(stop)))
        except Stopped as stopped:
            pipe.send(("stopped", str(stopped)))
        except Exception:
            pipe.send(("error", without_secrets(traceback.format_exc())))
    end_children()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def end_children() -> None:
    """A child that stays (a data worker, daemon or not) would keep its parent, and the job's
    allocation, at exit."""
    for child in multiprocessing.active_children():
        child.terminate()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
