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
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic import config
from mimic.config.names import wrong_with
from mimic.errors import BadInput
from mimic.infra import progress
from mimic.infra.storage import Workspace, file_digest, fingerprint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

POINTS = 2000  # of a curve; longer ones are thinned, log.jsonl holds them whole
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
    """Show models/<run>/ in MLflow; a tracker that fails is one line of warning."""
    _mirror_one(tracking, root, f"pretrain {run}", lambda: _pretrained(Workspace(root), run))


def mirror_evaluation(tracking: config.Tracking, root: Path, run: str, task: str) -> None:
    """Show metrics/<run>/<task>.json and its samples in MLflow; a tracker that fails is one line of
    warning."""
    _mirror_one(
        tracking,
        root,
        f"evaluate {run} {task}",
        lambda: _evaluated(Workspace(root), run, task, commit(root)),
    )


@dataclass(frozen=True)
class Summary:
    """What `mirror_all` did."""

    new: int
    known: int
    passed_over: int  # folders and files of other names than ours
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
    records, strange = _records(workspace)
    for path in strange:
        progress.say(
            f"track: {path}: passed over, this is not named as mimic names results; rename it"
        )
    try:
        with _store(uri) as client:
            new = sum(
                _mirror(client, uri, tracking.experiment_prefix, record) for record in records
            )
            return Summary(
                new,
                len(records) - new,
                len(strange),
                _where(client, uri, tracking.experiment_prefix),
            )
    except Exception as error:
        raise BadInput(
            f"MLflow at {_public(uri)}: {_reason(error)}; start the server, or check tracking.uri "
            "and MLFLOW_TRACKING_URI"
        ) from error


def _records(workspace: Workspace) -> tuple[list[Record], list[str]]:
    """Every published result, and what lies among them under a name that none of ours has: it would
    end the whole mirroring."""
    records, strange = [], []
    for card in sorted(workspace.root.glob("models/*/card.json")):
        run = card.parent.name
        if wrong_with(run):
            strange.append(ascii(f"models/{run}"))
        else:
            records.append(_pretrained(workspace, run))
    for path in sorted(workspace.root.glob("metrics/*/*.json")):
        run, task = path.parent.name, path.stem
        if run in ("mine", "assemble"):
            continue
        if wrong_with(run) or wrong_with(task):
            strange.append(ascii(f"metrics/{run}/{path.name}"))
        else:
            # By now another commit may be checked out than the one that measured: say nothing
            # rather than something wrong.
            records.append(_evaluated(workspace, run, task, None))
    return records, strange


# ---------------------------------------------------------------------------- what the files say


@dataclass
class Record:
    """One MLflow run to be."""

    stage: str
    name: str
    fingerprint: str  # of the result: equal results are one run
    tags: dict[str, str]
    params: dict[str, str]
    curves: dict[tuple[str, int], float]  # by name and step; a single number is at step 0
    dataset: tuple[str, str] | None  # name, sha256 of the manifest
    images: dict[tuple[str, int], Path] = field(default_factory=dict)  # by name and step

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.name}"


def _pretrained(workspace: Workspace, run: str) -> Record:
    folder = workspace.model(run)
    card = _read_json(folder / "card.json")
    checkpoint = file_digest(folder / "encoder.safetensors")
    apart = {"git_commit", "manifest_digest", "params_digest", "progress", "versions", "timm"}
    progress = workspace.root / "runs/pretrain" / run / str(card.get("progress"))
    log = (
        progress / "log.jsonl"
    )  # has speed and memory, too; gone where the model was made elsewhere
    steps = [
        json.loads(line)
        for line in (log if log.exists() else folder / "log.jsonl").read_text().splitlines()
    ]
    kept = steps[:: -(-len(steps) // POINTS) or 1]
    picture = folder / "reconstruction.png"
    return Record(
        stage="pretrain",
        name=run,
        fingerprint=fingerprint(card, checkpoint),
        tags={
            "checkpoint": checkpoint,
            "params_digest": str(card.get("params_digest")),
            **_provenance(card, card.get("git_commit")),
        },
        params=dict(_leaves({key: value for key, value in card.items() if key not in apart})),
        curves={
            (f"train/{name}", line["step"]): float(value)
            for line in kept
            for name, value in line.items()
            if name != "step"
        },
        dataset=_dataset(card),
        images={
            ("reconstruction", int(path.stem)): path
            for path in sorted(progress.glob("pictures/*.png"))
        }
        | ({("reconstruction", int(card["steps"])): picture} if picture.exists() else {}),
    )


def _evaluated(workspace: Workspace, run: str, task: str, commit: str | None) -> Record:
    path = workspace.metrics(run, task)
    result = _read_json(path)
    apart = {"metrics", "value", "checkpoint", "manifest_digest", "versions", "higher_is_better"}
    return Record(
        stage="evaluate",
        name=f"{run}/{task}",
        fingerprint=file_digest(path)[:16],
        tags={
            "checkpoint": str(result.get("checkpoint")),
            "encoder": run,
            **_provenance(result, commit),
        },
        params=dict(_leaves({key: value for key, value in result.items() if key not in apart})),
        curves=dict(_numbers(task, result["metrics"]))
        | {(f"{task}/{result['name']}", 0): float(result["value"])}
        | {
            (f"{task}/{result['name']} by pretraining step", point["steps"]): float(point["value"])
            for point in result.get("sweep", [])
        },
        dataset=_dataset(result),
        images={
            (f"{task}/{picture.stem}", 0): picture
            for picture in sorted(workspace.samples(run, task).glob("*.png"))
        },
    )


def _provenance(source: dict[str, Any], commit: str | None) -> dict[str, str]:
    tags = {f"version.{name}": str(version) for name, version in source.get("versions", {}).items()}
    return tags | ({"mlflow.source.git.commit": commit, "git_commit": commit} if commit else {})


def _dataset(source: dict[str, Any]) -> tuple[str, str] | None:
    digest = source.get("manifest_digest")
    return (str(source["dataset"]), str(digest)) if digest else None


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """model.width = 192, ...: nested mappings become dotted names; lists stay whole."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, str(value)


def _numbers(name: str, value: Any, step: int = 0) -> Iterator[tuple[tuple[str, int], float]]:
    """depth/delta1 = 0.5, ...: nested mappings become paths, which MLflow groups; a list becomes a
    curve over its positions."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(f"{name}/{key}", inner, step)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _numbers(name, inner, position)
    elif isinstance(value, int | float):
        yield (re.sub(r"[^\w\-. :/]", "_", name), step), float(value)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run the stage that makes it (dvc repro)") from None
    except ValueError as error:
        raise BadInput(
            f"{path}: not valid JSON ({error}); remove it and run the stage that makes it again"
        ) from None


def commit(root: Path) -> str | None:
    """The commit that is checked out; None outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


# ---------------------------------------------------------------------------- what MLflow is told


def _mirror_one(tracking: config.Tracking, root: Path, what: str, read: Any) -> None:
    uri = _uri(tracking, root)
    if uri is None:
        return
    try:
        with _store(uri) as client:
            _mirror(client, uri, tracking.experiment_prefix, read())
    except (
        Exception
    ) as error:  # the result is published and whole: nothing that a tracker does may fail it
        log.warning(
            "%s is finished, but not shown in MLflow at %s (%s); `mimic track` shows it later",
            what,
            _public(uri),
            _reason(error),
        )


def _mirror(client: MlflowClient, uri: str, prefix: str, record: Record) -> bool:
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


def _fill(client: MlflowClient, run: Run, record: Record) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
    from PIL import Image

    key, start = run.info.run_id, run.info.start_time
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
        return f"{_public(uri).rstrip('/')}/{page}"
    return f"mlflow server --backend-store-uri {uri} --workers 1, then http://127.0.0.1:5000/{page}"


def _public(uri: str) -> str:
    """Without user and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _reason(error: Exception) -> str:
    """In one short line; the text of a network error repeats the address, password included."""
    text = str(error).strip()
    if "Max retries exceeded" in text:
        return "no answer"
    return _public(f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}")[
        :200
    ]
