"""MLflow, a view of the published files: each pretraining and each evaluation is mirrored into one
MLflow run.

The files are the truth. Whatever happens to the tracker, the stage that has just published them has
succeeded; `mimic track` mirrors everything found, whenever it is called. Mirroring the same result
again changes nothing; another result of the same name (other data, other parameters) is a run of
its own, and the tag `current` tells the newest from its predecessors.

Compute nodes need no tracker: this is called by the process that publishes.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimic import config
from mimic.errors import BadInput
from mimic.infra import progress
from mimic.infra.addresses import without_password
from mimic.infra.provenance import git_commit
from mimic.infra.storage import Workspace
from mimic.infra.tracked_runs import TrackedRun, evaluated_runs, pretrained_run, published_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

DIGEST = 36  # characters of a dataset digest that MLflow keeps
BATCH = 1000  # metrics a call takes

# MLflow imports its settings: quiet, silent towards the outside, and quick to give up on a server
# that is down.
SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def mirror_pretrain(tracking: config.Tracking, root: Path, run: str) -> None:
    """Show models/<run>/, or that of one of its seeds, in MLflow; a tracker that fails is one line
    of warning."""
    _mirror_published(
        tracking, root, f"pretrain {run}", lambda: [pretrained_run(Workspace(root), run)]
    )


def mirror_evaluation(tracking: config.Tracking, root: Path, run: str, task: str) -> None:
    """Show metrics/<run>/<task>.json and its samples in MLflow; a tracker that fails is one line of
    warning."""
    _mirror_published(
        tracking,
        root,
        f"evaluate {run} {task}",
        lambda: evaluated_runs(Workspace(root), run, task, git_commit(root)),
    )


@dataclass(frozen=True)
class Summary:
    """What `mirror_all` did."""

    new: int
    known: int
    skipped: int  # folders and files whose names are not those of results
    where: str  # how to look at it: a link, or a command


def mirror_all(tracking: config.Tracking, root: Path) -> Summary:
    """Mirror every published pretraining and evaluation of a workspace.

    Raises:
        BadInput: tracking is off, or the tracker cannot be reached.
    """
    uri = _uri(tracking, root)
    if uri is None:
        raise BadInput("tracking is off: set tracking.uri in params.yaml, or MLFLOW_TRACKING_URI")
    workspace = Workspace(root)
    runs, misnamed = published_runs(workspace)
    for path in misnamed:
        progress.say(f"track: {path}: skipped, mimic gives no result this name; rename it")
    try:
        with _store(uri) as client:
            new = sum(_mirror(client, uri, tracking.experiment_prefix, run) for run in runs)
            return Summary(
                new,
                len(runs) - new,
                len(misnamed),
                _where(client, uri, tracking.experiment_prefix),
            )
    except Exception as error:
        raise BadInput(
            f"MLflow at {without_password(uri)}: {_reason(error)}; start the server, or check "
            "tracking.uri and MLFLOW_TRACKING_URI"
        ) from error


# ---------------------------------------------------------------------------- the MLflow side


def _mirror_published(
    tracking: config.Tracking, root: Path, what: str, read: Callable[[], list[TrackedRun]]
) -> None:
    uri = _uri(tracking, root)
    if uri is None:
        return
    try:
        with _store(uri) as client:
            for record in read():
                _mirror(client, uri, tracking.experiment_prefix, record)
    except (
        Exception
    ) as error:  # the result is published and whole: nothing that a tracker does may fail it
        log.warning(
            "%s is finished, but not shown in MLflow at %s (%s); `mimic track` shows it later",
            what,
            without_password(uri),
            _reason(error),
        )


def _mirror(client: MlflowClient, uri: str, prefix: str, record: TrackedRun) -> bool:
    """Make the run of a record; False if it was there already."""
    experiment = _experiment(client, uri, f"{prefix}-{record.stage}")
    run = None
    for other in client.search_runs([experiment], f"tags.`mimic.key` = '{record.key}'"):
        if other.info.status != "FINISHED":  # its writer was killed
            client.delete_run(other.info.run_id)
        elif other.data.tags.get("mimic.fingerprint") == record.fingerprint:
            run = other
        elif other.data.tags.get("current") != "false":
            client.set_tag(other.info.run_id, "current", "false")
    if run is not None:
        client.set_tag(run.info.run_id, "current", "true")
        return False
    identity = {"mimic.key": record.key, "mimic.fingerprint": record.fingerprint, "current": "true"}
    run = client.create_run(experiment, run_name=record.name, tags=identity)
    _fill(client, run, record)
    client.set_terminated(run.info.run_id)
    return True


def _fill(client: MlflowClient, run: Run, record: TrackedRun) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
    from PIL import Image

    key = run.info.run_id
    start = run.info.start_time
    tags = record.tags | {
        "mlflow.source.name": f"mimic {record.stage} {record.name.replace('/', ' ')}",
        "mlflow.source.type": "LOCAL",
    }
    client.log_batch(
        key,
        params=[Param(name, value) for name, value in record.params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    metrics = [Metric(name, value, start, step) for (name, step), value in record.curves.items()]
    for first in range(0, len(metrics), BATCH):
        client.log_batch(key, metrics=metrics[first : first + BATCH])
    if record.dataset:
        name, digest = record.dataset
        source = json.dumps({"uri": f"data/manifests/{name}.parquet", "sha256": digest})
        dataset = Dataset(name, digest[:DIGEST], source_type="local", source=source)
        client.log_inputs(
            key, [DatasetInput(dataset, [InputTag("mlflow.data.context", record.stage)])]
        )
    for (name, step), path in record.images.items():
        with Image.open(path) as picture:
            client.log_image(key, picture, key=name, step=step, timestamp=start, synchronous=True)


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        database = _sqlite_file(
            uri
        )  # a server decides for itself; without one, artifacts lie beside the database
        return str(
            client.create_experiment(
                name, (database.parent / "mlruns" / name).as_uri() if database else None
            )
        )
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextmanager
def _store(uri: str) -> Iterator[MlflowClient]:
    """A client; for an embedded database also its lock, as two processes that both create its
    tables break it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it tells of every retry
    from mlflow import MlflowClient

    database = _sqlite_file(uri)
    if database is None:
        yield MlflowClient(uri)
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(database.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield MlflowClient(uri)


def _uri(tracking: config.Tracking, root: Path) -> str | None:
    """MLFLOW_TRACKING_URI goes first; a relative database lies in the workspace, wherever the
    command is run from."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri
    relative = re.fullmatch(r"sqlite:///([^/].*)", uri or "")
    return f"sqlite:///{root.resolve() / relative[1]}" if relative else uri


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _where(client: MlflowClient, uri: str, prefix: str) -> str:
    page = f"#/experiments/{_experiment(client, uri, f'{prefix}-evaluate')}?compareRunsMode=CHART"
    if uri.startswith("http"):
        return f"{without_password(uri).rstrip('/')}/{page}"
    return f"mlflow server --backend-store-uri {uri} --workers 1, then http://127.0.0.1:5000/{page}"


def _reason(error: Exception) -> str:
    """In one short line; the text of a network error repeats the address, password included."""
    text = str(error).strip()
    if "Max retries exceeded" in text:
        return "no answer"
    return without_password(
        f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"
    )[:200]
