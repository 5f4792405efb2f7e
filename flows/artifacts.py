"""What a run shows beside its logs: how far its stages are, the results, and where to look."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect import get_run_logger, runtime
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException
from prefect.utilities.urls import url_for

from mimic import config
from mimic.errors import BadInput
from mimic.infra.addresses import without_password
from mimic.infra.progress import parse
from mimic.infra.tracking.store import address, where
from mimic.params import load_params

SAID = ("run", "dataset", "objective", "steps")  # of a row of results
EVERY_S = 5.0  # at most, between two updates of one stage's progress
# The server does not answer: nothing that is shown is worth a stage.
AWAY = (httpx.HTTPError, PrefectException)
MLFLOW_UI = "MIMIC_MLFLOW_UI"  # the address of a server that shows the workspace's own store
ANSWER_S = 5.0  # for MLflow to say which page it is
REPORT = "MIMIC_REPORT_URL"  # where report/ is shown


@contextmanager
def progress_of(stage: str) -> Iterator[Callable[[str], None]]:
    """Give it the lines of a stage: the newest that tells of progress is shown."""
    shown = _Progress(stage)
    yield shown.take
    shown.finish()


class _Progress:
    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._artifact: Any = None
        self._percent = 0.0
        self._line = ""
        self._due = 0.0

    def take(self, line: str) -> None:
        progress = parse(line)
        if progress is None:
            return
        self._percent = progress.percent
        self._line = line
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_S
            self._show()

    def finish(self) -> None:
        if self._artifact is not None:
            self._show()

    def _show(self) -> None:
        if TaskRunContext.get() is None:  # called outside a run
            return
        try:
            if self._artifact is None:
                self._artifact = create_progress_artifact(
                    self._percent, key=key_of(f"progress-{self._stage}"), description=self._line
                )
            else:
                update_progress_artifact(
                    self._artifact, progress=self._percent, description=self._line
                )
        except AWAY as error:
            get_run_logger().debug("the progress of %s is not shown (%s)", self._stage, error)


def key_of(name: str) -> str:
    """A key of an artifact: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def rename_task(name: str) -> None:
    """Of the task run that calls this: lists and graphs of the UI show names, and draw a stage that
    ran like one that did not."""
    context = TaskRunContext.get()
    if context is not None:
        context.task_run.name = name


def publish(environment: Mapping[str, str], failed: list[str]) -> None:
    """All results in MLflow; the results table and the ways to MLflow, report and logs in the run's
    Artifacts tab.

    Args:
        environment: of the commands that do so.
        failed: what the stages that failed said.
    """
    tracking = _tracking()
    try:
        if tracking is not None and address(tracking, Path()) is not None:
            _mirror(environment)
        _results(environment)
        _links(tracking, failed)
    except AWAY as error:
        get_run_logger().warning("results and links are not shown (%s)", error)


def _mirror(environment: Mapping[str, str]) -> None:
    """What a stage could not show because MLflow was away comes there now, and new encoders come
    into its registry."""
    command = ["mimic", "track"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment))
    output = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    line = without_password(output[-1]) if output else f"exit status {done.returncode}"
    get_run_logger().log(logging.WARNING if done.returncode else logging.INFO, "MLflow: %s", line)


def _tracking() -> config.Tracking | None:
    """The section of params.yaml; None: there is none, or the stages have said what is wrong."""
    path = Path("params.yaml")
    try:
        return load_params(path).tracking if path.is_file() else None
    except BadInput:
        return None


def _results(environment: Mapping[str, str]) -> None:
    command = ["mimic", "compare", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment))
    if done.returncode:
        return  # a run that mines has no results, and one that failed may have none
    table = [_row(row) for row in json.loads(done.stdout)]
    if table:
        create_table_artifact(table, key="results", description="mimic compare")


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One of `mimic compare --json`, flat, without what only a program reads."""
    plain = {key: "" if row[key] is None else row[key] for key in SAID}
    return {
        **plain,
        **{task: "" if value is None else value for task, value in row["values"].items()},
    }


def _links(tracking: config.Tracking | None, failed: list[str]) -> None:
    lines = []
    if tracker := _comparison(tracking):
        create_link_artifact(tracker, key="mlflow", link_text="MLflow: the encoders compared")
        lines.append(f"- MLflow: [{tracker}]({tracker})")
    page = Path("report/index.html")
    if page.is_file():
        shown = os.environ.get(REPORT) or page.absolute().as_uri()
        create_link_artifact(shown, key="report", link_text="The report")
        lines.append(f"- report: [{shown}]({shown}), `{page}`")
    logs = url_for("flow-run", obj_id=runtime.flow_run.id)
    if logs:
        create_link_artifact(logs, key="logs", link_text="Logs of this run")
        lines.append(f"- logs: [{logs}]({logs}), and `runs/` of the workspace")
    causes = [f"**{text.splitlines()[0]}**\n" for text in failed if text]
    create_markdown_artifact("\n".join([*causes, *lines]), key="links", description="Where to look")


def _comparison(tracking: config.Tracking | None) -> str | None:
    """The page of MLflow that compares encoders, without password; None: no server shows it."""
    stated = None if tracking is None else tracking.uri
    uri = os.environ.get("MLFLOW_TRACKING_URI") or stated or ""
    base = uri if uri.startswith("http") else os.environ.get(MLFLOW_UI)
    if not base:
        return None
    number = None if tracking is None else _experiment(base.rstrip("/"), tracking)
    if number is None:
        return without_password(base.rstrip("/")) + "/#/experiments"
    return where(base, number)


def _experiment(base: str, tracking: config.Tracking) -> str | None:
    """The number of the workspace's experiment; None: there is none yet, or no answer."""
    try:
        answer = httpx.get(
            f"{base}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": tracking.experiment_prefix},
            timeout=ANSWER_S,
        )
        return str(answer.raise_for_status().json()["experiment"]["experiment_id"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        get_run_logger().debug("MLflow's page is not known (%s)", type(error).__name__)
        return None
