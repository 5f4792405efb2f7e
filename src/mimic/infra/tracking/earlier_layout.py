"""Runs of earlier versions of mimic: one a result, in an experiment a stage, under keys that two
workspaces on one server shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mimic.infra.tracking import writer as now
from mimic.infra.tracking.records import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient

STAGES = ("pretrain", "evaluate")


def give_way(
    client: MlflowClient, prefix: str, writer: now.Writer, records: Sequence[Record]
) -> None:
    """Where an earlier run shows a result that has one of the new runs now, it is no longer the
    current one, and says which is. Others may be another workspace's, and are left alone."""
    for stage in STAGES:
        experiment = client.get_experiment_by_name(f"{prefix}-{stage}")
        if experiment is None or experiment.lifecycle_stage == "deleted":
            continue
        same = {
            (_key(record), record.fingerprint): record
            for record in records
            if record.level == stage
        }
        for run in list(_current(client, experiment.experiment_id)):
            key = str(run.data.tags.get(now.KEY)), str(run.data.tags.get(now.FINGERPRINT))
            if key in same:
                client.set_tag(run.info.run_id, "current", "false")
                client.set_tag(run.info.run_id, "superseded", writer.id_of(same[key]))


def _current(client: MlflowClient, experiment: str) -> Iterator[now.Run]:
    yield from now.all_runs(client, experiment, "tags.current = 'true'")


def _key(record: Record) -> str:
    """The key that the result had."""
    return f"{record.level}/{record.subject.replace('@', '/')}"
