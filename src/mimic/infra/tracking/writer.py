"""Records into MLflow runs: made once, brought up to date, and told from their predecessors."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mimic.infra.tracking import store
from mimic.infra.tracking.identity import Identity
from mimic.infra.tracking.records import Curves, Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

METRICS = 1000  # that one call takes
OTHERS = 100  # parameters, or tags
PAGE = 1000  # runs that one search gives
DIGEST = 36  # characters of a dataset digest that MLflow keeps
VALUE = 6000  # characters of a parameter
ABOVE = "mlflow.parentRunId"
KEY = "mimic.key"
FINGERPRINT = "mimic.fingerprint"
TRAINING = "mimic.training"  # which unfinished work it came of
ALIVE = "mimic.alive"  # of a run that is shown while it trains: when it was last added to
GONE_S = 3600.0  # without a word from it, a training is over


class Writer:
    """One workspace's runs in one experiment. What is there is asked for once."""

    def __init__(
        self, client: MlflowClient, uri: str, prefix: str, whose: Identity, run: str | None = None
    ) -> None:
        self.client = client
        self.whose = whose
        self.experiment = store.experiment(client, uri, prefix)
        self._known: dict[str, list[Run]] = defaultdict(list)
        self._ids: dict[tuple[str, str], str] = {}
        self._steps: dict[str, set[tuple[str, int]]] = {}
        self._past: set[str] = set()  # runs that were marked as no longer current
        query = f"tags.`mimic.workspace` = '{whose.workspace}'"
        if run is not None:
            query += f" and tags.`mimic.run` = '{run}'"
        for mlflow_run in all_runs(client, self.experiment, query):
            self._known[str(mlflow_run.data.tags.get(KEY))].append(mlflow_run)

    def put(self, record: Record) -> bool:
        """Make the run of a record, or bring it up to date; False if it was there already."""
        others = self._known[record.key(self.whose)]
        existing = next((one for one in others if _is_whole(one, record)), None)
        shown = next((one for one in others if _is_shown(one, record)), None)
        if existing is None:
            run = self._begun(record, {}) if shown is None else shown
            self._fill(run, record, resumed=shown is not None)
        else:
            run = existing
            self._update(run, record)
        self._ids[record.node] = run.info.run_id
        for other in others:
            if other is not run:
                self._replace(other, run, record)
        return existing is None

    def id_of(self, record: Record) -> str:
        """Of a record that was put."""
        return self._ids[record.node]

    def has(self, run_id: str) -> bool:
        """Whether a run of this workspace is in the experiment, and not deleted."""
        known = (run.info.run_id for runs in self._known.values() for run in runs)
        return run_id in self._ids.values() or run_id in known

    def shown(self, record: Record) -> Run:
        """The unfinished run of a training, made if it is not there."""
        others = self._known[record.key(self.whose)]
        run = next((one for one in others if _is_shown(one, record)), None)
        if run is None:
            run = self._begun(record, {ALIVE: _now()})
            others.append(run)
        else:
            self.client.set_tag(run.info.run_id, ALIVE, _now())  # at every level
            self._raise(run, record)
            if run.info.status != "RUNNING":
                self.client.update_run(run.info.run_id, status="RUNNING")
        self._ids[record.node] = run.info.run_id
        return run

    def is_made(self, record: Record) -> bool:
        """Whether a training has made what it makes."""
        return any(
            run.info.status == "FINISHED" and run.data.tags.get(TRAINING) == record.training
            for run in self._known[record.key(self.whose)]
        )

    def add(self, run: Run, points: Curves, begun: int) -> int:
        """Curves of a training that goes on; those that are there are left out.

        Returns:
            How many were new.
        """
        key = run.info.run_id
        if key not in self._steps:
            self._steps[key] = self._points(run)
        new = {at: point for at, point in points.items() if at not in self._steps[key]}
        self.log(run, new, {}, {ALIVE: _now()}, begun)
        self._steps[key] |= new.keys()
        return len(new)

    # ------------------------------------------------------------------ one run

    def _begun(self, record: Record, more: dict[str, str]) -> Run:
        """A new one, not finished: whoever is killed from here on leaves it so."""
        tags = more | {
            KEY: record.key(self.whose),
            "mimic.workspace": self.whose.workspace,
            "mimic.run": record.run,
            "mimic.level": record.level,
            "workspace": self.whose.workspace,
            "user": record.user,
            "mlflow.user": record.user,
            "mlflow.source.name": f"mimic {record.name}",
            "mlflow.source.type": "LOCAL",
        }
        if self.whose.experiment:
            tags["experiment"] = self.whose.experiment
        if record.training is not None:
            tags[TRAINING] = record.training
        if record.above is not None:
            tags[ABOVE] = self._ids[record.above]
        return self.client.create_run(
            self.experiment, record.times.begun, tags=tags, run_name=record.name
        )

    def _fill(self, run: Run, record: Record, *, resumed: bool) -> None:
        """All that a record says, and its end."""
        key = run.info.run_id
        if resumed:  # first: killed from here on, it is made anew, and nothing is in it twice
            self.client.delete_tag(key, ALIVE)
        tags = record.tags | {FINGERPRINT: record.fingerprint, "current": _current(record)}
        if record.above is not None and run.data.tags.get(ABOVE) != self._ids[record.above]:
            tags[ABOVE] = self._ids[record.above]
        self._raise(run, record)
        written = self._points(run) if resumed else set()
        points = {at: point for at, point in record.curves.items() if at not in written}
        points |= {(name, 0): (value, None) for name, value in record.headlines.items()}
        self.log(run, points, record.params, tags, record.times.begun)
        if record.data:
            self.client.log_inputs(key, _inputs(record))
        for path in record.files:
            self.client.log_artifact(key, str(path))
        self._log_images(run, record)
        self.client.set_terminated(key, "FINISHED", record.times.ended)

    def _points(self, run: Run) -> set[tuple[str, int]]:
        """What a run that was shown while it trained has."""
        return {
            (name, point.step)
            for name in run.data.metrics
            for point in self.client.get_metric_history(run.info.run_id, name)
        }

    def log(
        self,
        run: Run,
        points: Curves,
        params: dict[str, str],
        tags: dict[str, str],
        begun: int,
    ) -> None:
        """In as few calls as MLflow lets it."""
        from mlflow.entities import Metric, Param, RunTag

        had = run.data.params
        metrics = [
            Metric(name, value, begun if at is None else at, step)
            for (name, step), (value, at) in points.items()
        ]
        given = [Param(name, value[:VALUE]) for name, value in params.items() if name not in had]
        mlflow_tags = [RunTag(name, value) for name, value in tags.items()]
        while metrics or given or mlflow_tags:
            self.client.log_batch(
                run.info.run_id, metrics[:METRICS], given[:OTHERS], mlflow_tags[:OTHERS]
            )
            metrics = metrics[METRICS:]
            given = given[OTHERS:]
            mlflow_tags = mlflow_tags[OTHERS:]

    def _log_images(self, run: Run, record: Record) -> None:
        from PIL import Image

        for (name, step), path in record.images.items():
            with Image.open(path) as picture:
                self.client.log_image(
                    run.info.run_id,
                    picture,
                    key=name,
                    step=step,
                    timestamp=record.times.ended,
                    synchronous=True,
                )

    def _update(self, run: Run, record: Record) -> None:
        """What may change of a run that is whole: headlines, what they rest on, and its place."""
        points: Curves = {
            (name, 0): (value, round(time.time() * 1000))
            for name, value in record.headlines.items()
            if run.data.metrics.get(name) != value
        }
        wanted = record.tags | {"current": _current(record)}
        if record.above is not None and not record.is_past:  # it stays where its encoder is
            wanted[ABOVE] = self._ids[record.above]
        past = {"current": "false"} if run.info.run_id in self._past else {}
        known = run.data.tags | past
        tags = {name: value for name, value in wanted.items() if known.get(name) != value}
        if points or tags:
            self.log(run, points, {}, tags, record.times.begun)
        if run.info.run_name != record.name:
            self.client.update_run(run.info.run_id, name=record.name)
        self._raise(run, record)

    def _raise(self, run: Run, record: Record) -> None:
        """To the highest level, what was taken for the predecessor of another, or for dead."""
        if record.above is None and ABOVE in run.data.tags:
            self.client.delete_tag(run.info.run_id, ABOVE)

    # ------------------------------------------------------------------ its predecessors

    def _replace(self, other: Run, by: Run, record: Record) -> None:
        """Tell another result of the same name from the current one. A run of the highest level
        goes below the one that took its place, so that the chart has one bar of it."""
        key = other.info.run_id
        if other.info.status != "FINISHED" and (
            ALIVE not in other.data.tags  # its writer was killed
            or other.data.tags.get(TRAINING) == record.training  # it has made what was there
        ):
            self.client.delete_run(key)
            return
        if _is_alive(other):
            return
        if other.info.status == "RUNNING":
            self.client.set_terminated(key, "KILLED")
        if other.data.tags.get("current") == "true" or other.info.status != "FINISHED":
            for one in self._below(key):
                self.client.set_tag(one, "current", "false")
                self._past.add(one)
        if record.level == "run" and other.data.tags.get(ABOVE) != by.info.run_id:
            self.client.set_tag(key, ABOVE, by.info.run_id)

    def _below(self, key: str) -> list[str]:
        """A run, and all that lie below it at any depth but those that it took the place of."""
        of = [run for runs in self._known.values() for run in runs]
        keys = [key]
        for one in keys:
            keys += [
                run.info.run_id
                for run in of
                if run.data.tags.get(ABOVE) == one
                and run.data.tags.get("mimic.level") != "run"
                and run.info.run_id not in self._ids.values()
            ]
        return keys


def _current(record: Record) -> str:
    return "false" if record.is_past else "true"


def _is_whole(run: Run, record: Record) -> bool:
    return run.info.status == "FINISHED" and run.data.tags.get(FINGERPRINT) == record.fingerprint


def _is_shown(run: Run, record: Record) -> bool:
    same = record.training is not None and run.data.tags.get(TRAINING) == record.training
    return same and ALIVE in run.data.tags and run.info.status != "FINISHED"


def _is_alive(run: Run) -> bool:
    seen_s = float(run.data.tags.get(ALIVE, 0))
    return run.info.status == "RUNNING" and time.time() - seen_s < GONE_S


def _now() -> str:
    return str(round(time.time()))


def _inputs(record: Record) -> Sequence[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            Dataset(one.name, one.digest[:DIGEST], source_type="local", source=one.source),
            [InputTag("mlflow.data.context", one.context)],
        )
        for one in record.data
    ]


def all_runs(client: MlflowClient, experiment: str, query: str) -> Iterable[Run]:
    """Page after page."""
    token = None
    while True:
        page = client.search_runs([experiment], query, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
