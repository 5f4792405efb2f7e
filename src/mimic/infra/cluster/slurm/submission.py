"""Jobs submitted: one, or an array."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, JobPaths

from mimic import config
from mimic.errors import BadInput
from mimic.infra.cluster.slurm.queue import cancel_named

_environment = threading.Lock()  # submitting edits os.environ, which all threads of a flow share

SERVERS = ("MLFLOW_TRACKING_", "PREFECT_", "MIMIC_NOTIFY_")
_BUSY = re.compile(
    r"Socket timed out|Unable to contact|Connection (refused|timed out)|temporarily "
    r"un(able|available)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SlurmJob:
    """A job of SLURM, or an element of an array (`123_4`). All there is to know, so any process can
    wait for it."""

    id: str
    folder: str  # pickles and logs; on a file system that all nodes see
    tasks: int

    def paths(self, rank: int) -> JobPaths:
        return JobPaths(self.folder, job_id=self.id, task_id=rank)


def new_name(kind: str) -> str:
    """A job name that no other submission has: by it a job is found whose id was never learnt."""
    return f"mimic-{kind}-{uuid.uuid4().hex[:8]}"


def submit(
    calls: Sequence[Callable[[], Any]],
    resources: config.Resources,
    cluster: config.Cluster,
    folder: Path,
    name: str,
) -> list[SlurmJob]:
    """Submit one job, or one array of jobs, and return at once.

    Args:
        folder: new folder for pickles and logs.
        name: from `new_name`.

    Raises:
        BadInput: sbatch refuses; the line says why.
    """
    if shutil.which("sbatch") is None:
        raise BadInput(
            "cluster.executor is slurm, but there is no sbatch here; run on a login node, or set "
            "it to local"
        )
    executor = submitit.SlurmExecutor(
        folder=folder.resolve(), max_num_timeout=resources.max_timeouts
    )
    asked = _parameters(resources, cluster)
    asked["setup"] = [_forget_earlier(folder.resolve()), *asked["setup"]]
    executor.update_parameters(job_name=name, **asked)
    for attempt in range(4):
        try:
            with _environment, _outside_any_job():
                jobs = executor.submit_array(calls)
            return [SlurmJob(job.job_id, str(folder.resolve()), job.num_tasks) for job in jobs]
        except (FailedJobError, subprocess.CalledProcessError, OSError, RuntimeError) as error:
            text = " ".join(str(error).split()) or repr(error)
            cancel_named(name)  # sbatch may have timed out after the job was accepted
            if attempt == 3 or not _BUSY.search(text):
                raise BadInput(
                    f"SLURM refused the job: {text}; see `cluster` in params.yaml"
                ) from error
            time.sleep(2.0**attempt * 5)
    raise AssertionError


def _forget_earlier(folder: Path) -> str:
    """A shell line: a job that SLURM starts again removes what it said before, ahead of anything
    that may take minutes. An error that stayed there would be taken for one of the new start."""
    id = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"
    files = f'{shlex.quote(str(folder))}/"${{id:-$SLURM_JOB_ID}}"_*_result.pkl'
    return f'if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then id="{id}"; rm -f {files}; fi'


def _parameters(resources: config.Resources, cluster: config.Cluster) -> dict[str, Any]:
    """Resources in the words of submitit; None is `not set`."""
    setup = ["export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"]
    if cluster.export_cpus_per_task:
        setup.append("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    same = (
        "partition",
        "account",
        "qos",
        "constraint",
        "exclude",
        "gres",
        "nodes",
        "cpus_per_task",
        "array_parallelism",
        "signal_delay_s",
    )
    return {
        **{name: getattr(resources, name) for name in same if getattr(resources, name) is not None},
        **({"gpus_per_node": resources.gpus_per_node} if resources.gpus_per_node else {}),
        "ntasks_per_node": resources.tasks_per_node,
        "mem": f"{round(resources.mem_gb * 1024)}M",
        "time": resources.timeout_min,
        "setup": [*setup, *resources.setup],
        "srun_args": ["--kill-on-bad-exit=1", *resources.srun_args],
        "additional_parameters": {
            "requeue": True,
            "export": ",".join(["ALL", *(f"{name}=" for name in _not_for_jobs())]),
            **{name: value for name, value in resources.sbatch.items() if value is not False},
        },
    }


def _not_for_jobs() -> list[str]:
    """Variables that sbatch would copy into SLURM's own files, and that no job reads: credentials
    of the servers that only whoever submits talks to."""
    return sorted(name for name in os.environ if name.startswith(SERVERS))


@contextmanager
def _outside_any_job() -> Iterator[None]:
    """Without the SLURM_* variables of an enclosing job, but with those that say where SLURM is."""
    where = {
        name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CLUSTERS") if name in os.environ
    }
    with submitit.helpers.clean_env():
        os.environ.update(where)
        yield
