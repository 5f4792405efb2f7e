"""What the published files say of each pretraining and each evaluation: the MLflow run to be.

Only files are read; nothing here knows MLflow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic.config.names import seed_of, wrong_with
from mimic.errors import BadInput
from mimic.infra import confined
from mimic.infra.storage import SEED, STAGE_METRICS, Workspace, file_digest, fingerprint

POINTS = 2000  # of a curve; longer ones are thinned, log.jsonl holds every step
CARD_KEYS_NOT_PARAMS = {
    "git_commit",
    "manifest_digest",
    "params_digest",
    "parts",
    "progress",
    "versions",
    "timm",
}
RESULT_KEYS_NOT_PARAMS = {
    "metrics",
    "value",
    "checkpoint",
    "manifest_digest",
    "parts",
    "versions",
    "higher_is_better",
    "seeds",
    "sd",
}

Curves = dict[tuple[str, int], float]  # by name and step
Images = dict[tuple[str, int], Path]  # by name and step


def published_runs(workspace: Workspace) -> tuple[list[TrackedRun], list[str]]:
    """Every published result, and the files among them whose names mimic would not give: one of
    them must not end the mirroring of all."""
    runs = []
    misnamed = []
    for card in sorted(workspace.root.glob("models/*/card.json")):
        run = card.parent.name
        if wrong_with(run):
            misnamed.append(ascii(f"models/{run}"))
        else:
            runs.append(pretrained_run(workspace, run))
    for card in sorted(workspace.root.glob(f"models/*/{SEED}*/card.json")):
        run = card.parent.parent.name
        name = f"{run}/{card.parent.name}"
        if wrong_with(run) or seed_of(name)[1] is None:
            misnamed.append(ascii(f"models/{name}"))
        else:
            runs.append(pretrained_run(workspace, name))
    for path in sorted(workspace.root.glob("metrics/*/*.json")):
        run = path.parent.name
        task = path.stem
        if run in STAGE_METRICS:
            continue
        if wrong_with(run) or wrong_with(task):
            misnamed.append(ascii(f"metrics/{run}/{path.name}"))
        else:
            # By now another commit may be checked out than the one that measured: say nothing
            # rather than something wrong.
            runs += evaluated_runs(workspace, run, task, None)
    return runs, misnamed


@dataclass
class TrackedRun:
    """One MLflow run to be."""

    stage: str
    name: str
    fingerprint: str  # of the result: equal results are one run
    tags: dict[str, str]
    params: dict[str, str]
    curves: Curves  # a single number is at step 0
    dataset: tuple[str, str] | None  # name, sha256 of the manifest
    images: Images = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.name}"


def pretrained_run(workspace: Workspace, run: str) -> TrackedRun:
    folder = workspace.model(run)
    card = _read_json(folder / "card.json")
    checkpoint = file_digest(folder / "encoder.safetensors")
    kept = workspace.root / "runs/pretrain" / run
    progress = confined.below(kept, str(card.get("progress")), folder / "card.json")
    return TrackedRun(
        stage="pretrain",
        name=run,
        fingerprint=fingerprint(card, checkpoint),
        tags={
            "checkpoint": checkpoint,
            "params_digest": str(card.get("params_digest")),
            **({"init": str(card["init"]["name"])} if "init" in card else {}),
            **_seed_tag(run),
            **_provenance(card, card.get("git_commit")),
        },
        params=_flat_params(card, CARD_KEYS_NOT_PARAMS),
        curves=_training_curves(folder, progress),
        dataset=_dataset(card),
        images=_reconstructions(folder, progress, card),
    )


def _training_curves(folder: Path, progress: Path) -> Curves:
    """The training log, thinned to POINTS steps. The one in the progress folder has speed and
    memory, too; it is gone where the model was trained elsewhere."""
    log = progress / "log.jsonl"
    if not log.exists():
        log = folder / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    stride = -(-len(lines) // POINTS) or 1
    return {
        (f"train/{name}", line["step"]): float(value)
        for line in lines[::stride]
        for name, value in line.items()
        if name != "step"
    }


def _reconstructions(folder: Path, progress: Path, card: dict[str, Any]) -> Images:
    images = {
        ("reconstruction", int(path.stem)): path for path in sorted(progress.glob("pictures/*.png"))
    }
    final = folder / "reconstruction.png"
    if final.exists():
        images["reconstruction", int(card["steps"])] = final
    return images


def evaluated_runs(
    workspace: Workspace, run: str, task: str, commit: str | None
) -> list[TrackedRun]:
    """One of a run with one seed; of one with several one a seed, and that of their mean."""
    path = workspace.metrics(run, task)
    result = _read_json(path)
    digest = file_digest(path)[:16]
    whole = _evaluated(run, task, commit, result, digest, workspace.samples(run, task))
    shared = {key: value for key, value in result.items() if key not in ("seeds", "sd", "n")}
    each = []
    for one in result.get("seeds", []):
        encoder = str(one["encoder"])
        pictures = confined.below(workspace.samples(run, task), encoder.rpartition("/")[2], path)
        own = shared | one | {"sweep": one.get("sweep", [])}
        mark = fingerprint(one, digest)
        each.append(_evaluated(encoder, task, commit, own, mark, pictures))
    return [*each, whole]


def _evaluated(
    encoder: str,
    task: str,
    commit: str | None,
    result: dict[str, Any],
    mark: str,
    pictures: Path,
) -> TrackedRun:
    return TrackedRun(
        stage="evaluate",
        name=f"{encoder}/{task}",
        fingerprint=mark,
        tags={
            "checkpoint": str(result.get("checkpoint")),
            "encoder": encoder,
            **_seed_tag(encoder),
            **_provenance(result, commit),
        },
        params=_flat_params(result, RESULT_KEYS_NOT_PARAMS),
        curves=_metric_curves(task, result),
        dataset=_dataset(result),
        images={
            (f"{task}/{picture.stem}", 0): picture for picture in sorted(pictures.glob("*.png"))
        },
    )


def _seed_tag(encoder: str) -> dict[str, str]:
    """Of one of several seeds."""
    _, seed = seed_of(encoder)
    return {} if seed is None else {"seed": str(seed)}


def _metric_curves(task: str, result: dict[str, Any]) -> Curves:
    """Every metric, the headline value, and the headline value of each snapshot."""
    headline = f"{task}/{result['name']}"
    curves = dict(_numbers(task, result["metrics"]))
    curves[headline, 0] = float(result["value"])
    if result.get("sd") is not None:
        curves[f"{headline} deviation over seeds", 0] = float(result["sd"])
    for point in result.get("sweep", []):
        curves[f"{headline} by pretraining step", point["steps"]] = float(point["value"])
    return curves


def _provenance(source: dict[str, Any], commit: str | None) -> dict[str, str]:
    versions = {**source.get("versions", {}), **source.get("parts", {})}
    tags = {f"version.{name}": str(version) for name, version in versions.items()}
    return tags | ({"mlflow.source.git.commit": commit, "git_commit": commit} if commit else {})


def _dataset(source: dict[str, Any]) -> tuple[str, str] | None:
    digest = source.get("manifest_digest")
    return (str(source["dataset"]), str(digest)) if digest else None


def _flat_params(source: dict[str, Any], left_out: set[str]) -> dict[str, str]:
    return dict(_leaves({key: value for key, value in source.items() if key not in left_out}))


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
