"""A pretraining as a record: curves, pictures, parameters, and how busy the machine was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mimic.config.names import seed_of
from mimic.infra import confined
from mimic.infra.storage import Workspace, file_digest, fingerprint
from mimic.infra.tracking import recorder
from mimic.infra.tracking.identity import owner_name
from mimic.infra.tracking.recorder import Recorded
from mimic.infra.tracking.records import Curves, Data, Images, Record, Times

POINTS = 2000  # of a curve; longer ones are thinned, log.jsonl holds every step
NOT_PARAMS = {
    "git_commit",
    "manifest_digest",
    "params_digest",
    "parts",
    "progress",
    "versions",
    "timm",
    "weights",
    "sections",
}
T = TypeVar("T")


def record(workspace: Workspace, encoder: str, card: dict[str, Any]) -> Record:
    """One published encoder."""
    folder = workspace.model(encoder)
    checkpoint = file_digest(folder / "encoder.safetensors")
    kept = workspace.work("pretrain", encoder)
    progress = confined.below(kept, str(card.get("progress")), folder / "card.json")
    lines = log_lines(progress, folder)
    recorded = recorder.read(progress / recorder.FILE)
    run, seed = seed_of(encoder)
    return Record(
        level="pretrain",
        subject=encoder,
        name=f"pretrain {encoder.replace('/', ' ')}",
        fingerprint=fingerprint(card, checkpoint),
        training=str(card.get("progress")),
        tags={
            "checkpoint": checkpoint,
            "encoder": encoder,
            "objective": str(card.get("objective")),
            "dataset": str(card.get("dataset")),
            "params_digest": str(card.get("params_digest")),
            **({"init": str(card["init"]["name"])} if "init" in card else {}),
            **({} if seed is None else {"seed": str(seed)}),
            **provenance(card, card.get("git_commit")),
        },
        times=_times(recorded, lines, folder / "card.json"),
        user=owner_name(folder / "card.json"),
        above=("run", run) if seed is None else ("seed", encoder),
        params=params(card),
        curves=curves(thinned(lines, len(lines))) | system_curves(recorded),
        data=data(card),
        images=_reconstructions(folder, progress, card),
        files=(folder / "card.json",),
    )


def log_lines(progress: Path, folder: Path | None) -> list[dict[str, Any]]:
    """The lines of the training log. The one in the progress folder has speed, memory and times,
    too; it is gone where the model was trained elsewhere."""
    path = progress / "log.jsonl"
    if not path.exists() and folder is not None:
        path = folder / "log.jsonl"
    return recorder.json_lines(path)  # none of an imported encoder


def thinned(lines: Sequence[T], of: int) -> Sequence[T]:
    """At most POINTS of so many lines, the same ones however many of them there are by now."""
    return lines[:: -(-of // POINTS) or 1]


def curves(lines: Sequence[dict[str, Any]]) -> Curves:
    """Of lines of the log."""
    return {
        (f"train/{name}", int(line["step"])): (float(value), _ms(line.get("time")))
        for line in lines
        for name, value in line.items()
        if name not in ("step", "time")
    }


def system_curves(recorded: Recorded) -> Curves:
    """Under MLflow's names, which it shows as System metrics."""
    return {
        (f"system/{name}", step): (float(value), _ms(sample["time"]))
        for step, sample in enumerate(thinned(recorded.samples, len(recorded.samples)))
        for name, value in sample.items()
        if name != "time"
    }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _times(recorded: Recorded, lines: Sequence[dict[str, Any]], file: Path) -> Times:
    """When it was trained; where nobody wrote that down, when the file was made."""
    known = [recorded.begun, recorded.ended, *(line.get("time") for line in lines)]
    return times([one for one in known if one is not None], file)


def times(known: Sequence[float], file: Path) -> Times:
    seconds = known or [file.stat().st_mtime]
    return Times(round(min(seconds) * 1000), round(max(seconds) * 1000))


def _reconstructions(folder: Path, progress: Path, card: dict[str, Any]) -> Images:
    images = {
        ("reconstruction", int(path.stem)): path for path in sorted(progress.glob("pictures/*.png"))
    }
    final = folder / "reconstruction.png"
    if final.exists():
        images["reconstruction", int(card["steps"])] = final
    return images


def data(card: dict[str, Any]) -> tuple[Data, ...]:
    """The manifest of pairs."""
    digest = card.get("manifest_digest")
    if not digest:
        return ()
    name = str(card["dataset"])
    source = json.dumps({"uri": f"data/manifests/{name}.parquet", "sha256": digest})
    return (Data(name, str(digest), source, "pretrain"),)


def params(card: dict[str, Any]) -> dict[str, str]:
    return flat({key: value for key, value in card.items() if key not in NOT_PARAMS})


def flat(value: dict[str, Any]) -> dict[str, str]:
    """model.width = 192, ...: nested mappings become dotted names; lists stay whole."""
    return dict(_leaves(value))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, str(value)


def provenance(source: dict[str, Any], commit: str | None) -> dict[str, str]:
    """Versions of packages and of our own parts, and the code that made it; `commit` is that of the
    workspace, which need not be a clone of this code."""
    versions = {**source.get("versions", {}), **source.get("parts", {})}
    tags = {f"version.{name}": str(version) for name, version in versions.items()}
    code = " ".join(["mimic", *(str(versions[name]) for name in ("mimic",) if name in versions)])
    tags["code"] = code + (f", workspace at {commit[:12]}" if commit else "")
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "git_commit": commit}
    return tags
