"""Encoders in MLflow's registry: one registered model a workspace, one version a published encoder.

models:/<prefix>-<workspace>@<encoder>   the newest version of an encoder: croco-3m,
                                         croco-3m-seed-1
models:/<prefix>-<workspace>@best        see `best_encoder`
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from mimic.config.names import seed_of
from mimic.infra.conditions import measured_apart
from mimic.infra.storage import Workspace, read_json
from mimic.infra.tracking import evaluated
from mimic.infra.tracking.records import Record
from mimic.infra.tracking.writer import Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "encoder"  # among a run's artifacts
BEST = "best"
TAKEN = re.compile(rf"{BEST}|latest|v\d+", re.IGNORECASE)
# Writes an encoder as MLflow and timm load it: its folder in models/, and where to write.
Pack = Callable[[Path, Path], None]


def register(
    writer: Writer, workspace: Workspace, prefix: str, records: Sequence[Record], pack: Pack
) -> int:
    """A version of each encoder that has none yet; how many were made."""
    client = writer.client
    name = f"{prefix}-{writer.whose.workspace}"
    known = _versions(writer, name)
    new = 0
    for record in records:
        if record.level != "pretrain":
            continue
        checkpoint = record.tags["checkpoint"]
        version = known.get((record.subject, checkpoint))
        if version is None:
            run = writer.id_of(record)
            source = _logged(client, run, workspace.model(record.subject), pack)
            kept = ("checkpoint", "encoder", "objective", "dataset", "seed", "code")
            tags = {key: record.tags[key] for key in kept if key in record.tags}
            registered = client.create_model_version(name, source, run, tags=tags)
            version = known[record.subject, checkpoint] = str(registered.version)
            new += 1
        _point(client, name, alias_of(record.subject), version)
    return new


def point_best(writer: Writer, prefix: str, encoder: str, checkpoint: str, rule: str) -> str | None:
    """Let the alias `best` lead to an encoder; its address, None where it has no version."""
    client = writer.client
    name = f"{prefix}-{writer.whose.workspace}"
    version = _versions(writer, name).get((encoder, checkpoint))
    if version is None:
        return None
    _point(client, name, BEST, version)
    client.set_registered_model_tag(name, "best.rule", rule)
    return f"models:/{name}@{BEST}"


def point_nowhere(writer: Writer, prefix: str) -> None:
    """Take the alias `best` away: what it led to is the best by no rule any more."""
    client = writer.client
    name = f"{prefix}-{writer.whose.workspace}"
    for model in client.search_registered_models(f"name = '{name}'"):
        if BEST in model.aliases:
            client.delete_registered_model_alias(name, BEST)
        if "best.rule" in model.tags:
            client.delete_registered_model_tag(name, "best.rule")


def best_encoder(
    workspace: Workspace, task: str, records: Sequence[Record]
) -> tuple[str, str, str] | str:
    """Of the runs with the best mean over their seeds on a task, the encoder of the first seed.

    Which seed is no choice by the test data; which run is. Runs are compared only where all were
    measured under the same conditions.

    Returns:
        Encoder, checkpoint and the rule in words; or why there is none.
    """
    results: dict[str, Mapping[str, Any]] = {}
    for record in records:
        result = (
            read_json(workspace.metrics(record.subject, task)) if record.level == "run" else None
        )
        if result is not None and f"protocol.{task}" in record.tags:
            results[record.subject] = result
    if not results:
        return f"no run has a result on {task} yet"
    for run, what in measured_apart(results).items():
        return f"{task} of {run} was measured with another {what}; evaluate all runs anew"
    sign = 1 if next(iter(results.values())).get("higher_is_better", True) else -1
    run = max(sorted(results), key=lambda name: sign * float(results[name]["value"]))
    encoder = next(iter(workspace.encoders(run)), run)
    checkpoint = evaluated.checkpoints(dict(results[run]))[0]
    highest = "highest" if sign > 0 else "lowest"
    rule = f"{highest} {results[run]['name']} of {task}, mean over seeds, of {len(results)} runs"
    return encoder, checkpoint, rule


def alias_of(encoder: str) -> str:
    """As aliases may be written; a few words mean something else there."""
    run, seed = seed_of(encoder)
    plain = re.sub(r"[^\w-]", "-", run) + ("" if seed is None else f"-seed-{seed}")
    return f"run-{plain}" if TAKEN.fullmatch(plain) else plain


def _versions(writer: Writer, name: str) -> dict[tuple[str, str], str]:
    """By encoder and checkpoint, of those that can be loaded: `mlflow gc` removes the files of
    deleted runs and leaves their versions. The registered model is made where it is not there."""
    client = writer.client
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    versions: dict[tuple[str, str], str] = {}
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        for one in page:
            if not (writer.has(str(one.run_id)) and _is_there(str(one.source))):
                continue
            key = str(one.tags.get("encoder")), str(one.tags.get("checkpoint"))
            versions[key] = max(str(one.version), versions.get(key, "0"), key=int)
        token = page.token
        if not token:
            return versions


def _is_there(source: str) -> bool:
    """Files on a server are taken to be there as long as their run is."""
    return not source.startswith("file:") or Path(unquote(urlparse(source).path)).exists()


def _point(client: MlflowClient, name: str, alias: str, version: str) -> None:
    current = client.get_registered_model(name).aliases.get(alias)
    if str(current) != version:
        client.set_registered_model_alias(name, alias, version)


def _logged(client: MlflowClient, run: str, model: Path, pack: Pack) -> str:
    """The encoder among the artifacts of its run; where they are a folder of this machine it is
    written there, so that its weights are links and no copies."""
    artifacts = str(client.get_run(run).info.artifact_uri)
    source = f"{artifacts}/{FOLDER}"
    if artifacts.startswith("file:"):
        target = Path(unquote(urlparse(artifacts).path)) / FOLDER
        if target.exists():
            shutil.rmtree(target)  # of a writer that was killed before it made the version
        target.parent.mkdir(parents=True, exist_ok=True)
        pack(model, target)
        return source
    with tempfile.TemporaryDirectory(prefix="mimic-encoder-") as scratch:
        out = Path(scratch) / FOLDER
        pack(model, out)
        client.log_artifacts(run, str(out), FOLDER)
    return source
