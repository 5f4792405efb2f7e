"""The inside of a task of a SLURM job: what happens around the function it was given."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission

from mimic.infra.addresses import hide_secrets
from mimic.infra.cluster import slurm
from mimic.infra.cluster.ranks import Rank, end_children
from mimic.infra.cluster.stop import Stop, Stopped, StopRequest

END_S = 300.0  # from the result to the end of the process


@dataclass(frozen=True)
class Task:
    """What SLURM runs: an immutable description whose progress is all on disk.

    submitit calls `checkpoint` in a signal handler, on rank 0 only; so it does nothing but name the
    same task again.
    """

    run: Callable[[Stop], Any]

    def __call__(self) -> Any:
        return _inside(self.run)

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)

    __submitit_checkpoint__ = checkpoint  # the name that newer versions look for


def _inside(function: Callable[[Stop], Any]) -> Any:
    """Run the function in a task of a SLURM job: listen for signals, and when it leaves early,
    requeue if that is wanted."""
    hide_secrets()
    job = submitit.JobEnvironment()
    submitits = signal.getsignal(signal.SIGUSR2)  # writes the same call again and requeues the job
    for stale in (job.paths.result_pickle, job.paths.result_pickle.with_suffix(".pkl.save_tmp")):
        stale.unlink(missing_ok=True)  # of the time before a requeue: an old error must not count
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    port = random.Random(f"{job.job_id} {restarts}").randint(
        20_000, 32_000
    )  # below the ports that programs get at random
    Rank(
        job.global_rank,
        job.num_tasks,
        job.local_rank,
        job.num_tasks // job.num_nodes,
        job.hostnames[0],
        port,
    ).export()
    try:
        with Stop().listening() as stop:
            try:
                result = function(stop)
            except Exception:
                if not stop.request:
                    raise
                # its helpers were told to stop as well; that they did is no failure
                traceback.print_exc()
            except Stopped as stopped:
                print(stopped, flush=True)
            else:
                _end_soon()
                return result
            _leave(stop.request, job.global_rank, submitits)
    finally:
        end_children()


def _end_soon() -> None:
    """What is left is to write the result and to end. A process that hangs at its end would hold
    its GPUs to the time limit, and then be requeued, to do all of it again."""
    faulthandler.dump_traceback_later(END_S, exit=True)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _leave(request: StopRequest, rank: int, submitits: Any) -> None:
    """End this task for good, or for now."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a second warning must not requeue a second time
    if rank > 0:
        time.sleep(600)  # rank 0 decides; ending first would end it too (srun --kill-on-bad-exit)
    if request is StopRequest.REQUEUE or slurm.preempted():
        submitits(signal.SIGUSR2, None)  # does not return
    raise SystemExit(128 + signal.SIGTERM)
