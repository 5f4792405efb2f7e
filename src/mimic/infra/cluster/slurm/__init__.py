"""SLURM, through submitit: submit, ask, wait, cancel, and say how it stands. No other room knows
either of them.

submitit writes the batch script and pickles calls and results; waiting is done here, because
submitit asks sacct once per job and more and more rarely, and never sees the end of some states
(docs/slurm.md).
"""

from mimic.infra.cluster.slurm.monitor import Ending, JobMonitor, read
from mimic.infra.cluster.slurm.news import ArrayNews, JobNews
from mimic.infra.cluster.slurm.queue import array_limit, cancel, cancel_named, preempted, queue
from mimic.infra.cluster.slurm.submission import SlurmJob, new_name, submit

__all__ = [
    "ArrayNews",
    "Ending",
    "JobMonitor",
    "JobNews",
    "SlurmJob",
    "array_limit",
    "cancel",
    "cancel_named",
    "new_name",
    "preempted",
    "queue",
    "read",
    "submit",
]
