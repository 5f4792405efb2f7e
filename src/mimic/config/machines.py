"""Sections `cluster`, `habitat` and `tracking`: about this machine and site; no stage lists them,
so changing them re-runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimic.config.base import Count, Positive, Section


class Resources(Section):
    """What a job of one kind of work asks of SLURM, in sbatch's words; null = not asked for. The
    local executor reads nodes and tasks."""

    nodes: Positive
    tasks_per_node: Positive  # processes; training uses one per GPU
    gpus_per_node: Count
    gres: str | None  # instead of gpus_per_node, where a site wants it so
    cpus_per_task: Positive
    mem_gb: Annotated[float, Field(gt=0)]  # per node
    timeout_min: Positive
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None
    # warning before the time limit, and before a preemption where the cluster gives one
    signal_delay_s: Positive
    max_timeouts: Count  # how often a job may reach its time limit and go on
    items_per_job: Positive  # arrays: items that one element works through
    array_parallelism: Positive  # arrays: elements at a time
    retries: Count  # arrays: further tries of a failed item, each alone in its job
    retry_mem_growth: Annotated[float, Field(ge=1)]  # arrays: and with this much more memory
    setup: tuple[str, ...]  # shell lines before the work: module load, source activate
    srun_args: tuple[str, ...]
    sbatch: dict[str, str | int | bool]  # any other flag of sbatch; true = a bare flag

    @model_validator(mode="after")
    def _consistent(self) -> Resources:
        if self.gpus_per_node and self.gres:
            raise ValueError("gpus_per_node and gres must not be given together")
        if self.gpus_per_node % self.tasks_per_node:
            raise ValueError(
                f"tasks_per_node {self.tasks_per_node} does not divide gpus_per_node "
                f"{self.gpus_per_node}"
            )
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise ValueError(
                f"signal_delay_s {self.signal_delay_s} is not below timeout_min {self.timeout_min}"
            )
        return self


class Shards(Section):
    """Where shards are that the workspace does not hold (a manifest and no images: enough to
    train)."""

    url: (
        str | None
        # s3://bucket/prefix, https://..., file:///mnt/...: shard names of a manifest follow it;
        # null = all are here
    )
    cache: Path  # local copies; on a cluster, a disk of the node
    cache_gb: Annotated[
        float, Field(gt=0)
    ]  # most that they take; the least recently used make room


class Cluster(Section):
    """Where heavy stages run. No stage lists this section, so changing it re-runs nothing."""

    executor: Literal["local", "slurm"]
    workers: Positive | None  # local: processes on this machine; null = one per core
    poll_s: Annotated[
        float, Field(gt=0)
    ]  # slurm: seconds between two looks into the queue; 30 to 60 on a big cluster
    pending_limit_min: (
        Positive | None
    )  # slurm: a job that waits longer for its nodes is given up; null = never
    export_cpus_per_task: bool  # slurm 22.05 to 23.02: srun does not inherit cpus_per_task
    shards: Shards
    mine: Resources
    pretrain: Resources
    evaluate: Resources

    @model_validator(mode="after")
    def _consistent(self) -> Cluster:
        if self.mine.nodes * self.mine.tasks_per_node > 1:
            raise ValueError(
                "mine: nodes and tasks_per_node must be 1; each element of the array is one process"
            )
        if self.evaluate.nodes * self.evaluate.tasks_per_node > 1:
            raise ValueError(
                "evaluate: nodes and tasks_per_node must be 1; an evaluation is one process, and "
                "the seeds of a run are the elements of an array"
            )
        if self.executor == "local" and self.pretrain.nodes > 1:
            raise ValueError("pretrain.nodes: the local executor has one node")
        return self


class HabitatRuntime(Section):
    """How habitat-sim is reached: it lives under a Python of its own (docs/scenes.md)."""

    command: tuple[
        str, ...
    ]  # starts that Python, such as [conda, run, --no-capture-output, -n, habitat, python]
    gpu_device_id: Annotated[
        int, Field(ge=-1)
    ]  # CUDA number of the GPU to render on; -1 = the first EGL device, a processor will do
    timeout_s: Annotated[
        float, Field(gt=0)
    ]  # longest a call may take, loading a large scene included

    @model_validator(mode="after")
    def _something_to_start(self) -> HabitatRuntime:
        if not self.command:
            raise ValueError("command is empty; name a Python that has habitat-sim")
        return self


class Tracking(Section):
    """MLflow is a view of the files in the run folders; MLFLOW_TRACKING_URI overrides `uri`."""

    uri: str | None  # null = no tracking
    experiment_prefix: str
