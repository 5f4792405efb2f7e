"""`mimic export-weights --format hub`: a folder that timm loads by its path, or from the Hugging
Face hub once it is uploaded: weights, config.json, and a model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mimic import licences
from mimic.commands.hand_out import model_card
from mimic.commands.hand_out.export_weights import Exported, converted, notes
from mimic.commands.hand_out.loading_lines import loading_lines
from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra import confined
from mimic.infra.conditions import OF_ANOTHER
from mimic.infra.publishing import Work, publish, resolve_target
from mimic.infra.storage import Workspace, write_bytes, write_json
from mimic.models.formats import timm_config
from mimic.models.objectives import OBJECTIVES
from mimic.reporting.results import SavedResult, result_of
from mimic.training import journal, machine
from mimic.training.checkpoint import write_weights


def export_hub(workspace: Workspace, name: str, folder: Path, out: Path) -> list[str]:
    """Write a published model as a new folder for timm and the Hugging Face hub; it appears when it
    is whole.

    Args:
        name: of the run, as the user wrote it.
        folder: of the model.

    Returns:
        What the user of the folder should know, in lines.

    Raises:
        BadInput: something lies at `out`, or timm cannot be told how to build this model.
    """
    work = Work("export", name)
    resolve_target(out, work)
    if out.is_dir() and any(out.iterdir()):
        raise BadInput(f"--out {out}: holds something; name a new folder")
    exported = converted(folder, "hub")
    try:
        config = folder_config(exported)
    except ValueError as error:
        raise BadInput(f"{folder}: --format hub: {error}") from None
    page = model_card.write(_about(workspace, name, exported, out.absolute().name))

    def fill(result: Path) -> None:
        write_weights(exported.weights, result / "model.safetensors", exported.card)
        write_json(result / "config.json", config)
        write_bytes(result / "README.md", page.encode())

    publish(fill, out, work, for_good=True)
    return notes("hub", exported)


def folder_config(exported: Exported) -> dict[str, Any]:
    """config.json; of a model that timm computes, timm's own name and pixel statistics."""
    if exported.encoder.plain:
        return timm_config.folder_config(exported.size)
    import timm  # takes seconds, and other models need no look at it

    sizes = exported.card["model"]
    known = timm.models.get_pretrained_cfg(sizes["timm"])
    pixels = {key: list(getattr(known, key)) for key in ("mean", "std")} if known else {}
    config = timm_config.folder_frame(sizes["timm"], tuple(sizes["size_px"]), sizes["width"])
    config["pretrained_cfg"] |= pixels
    config["model_args"] = {"img_size": sizes["size_px"], "dynamic_img_size": True}
    return config


def _about(workspace: Workspace, name: str, exported: Exported, called: str) -> model_card.About:
    card = exported.card
    run, _ = seed_of(name)
    training = _training_folder(workspace, run, card)
    return model_card.About(
        name=called,
        card=card,
        data=[*_data(card), *licences.summary(card)],
        results=_results(workspace, name),
        hardware=None if training is None else machine.recorded(training),
        hours=_hours(training, card),
        loading=loading_lines("hub", card, called),
        positions_resampled=card["model"].get("positions") != "rope",
    )


def _data(card: dict[str, Any]) -> list[str]:
    """What it was trained on."""
    lines = [f"pretrained on: {card.get('dataset') or model_card.UNKNOWN}"]
    if "pairs" in card:
        lines.append(f"{card['pairs']:,} pairs of views for training")
    return lines


def _results(workspace: Workspace, name: str) -> dict[str, SavedResult]:
    """All that was measured of an encoder; of one of several seeds its own numbers, with those of
    all of them under "over_seeds"."""
    run, seed = seed_of(name)
    folder = workspace.metrics(run, "any").parent
    tasks = [path.stem for path in sorted(folder.glob("*.json"))]
    saved = {task: result_of(workspace, run, task) for task in tasks}
    results = {task: result for task, result in saved.items() if result is not None}
    for task in [task for task, result in results.items() if result.raw.get(OF_ANOTHER)]:
        print(f"{task} of {run} was measured before it was trained anew: left out of the page")
        del results[task]
    if seed is None:
        return results
    own = {task: _of_seed(result, seed) for task, result in results.items()}
    return {task: result for task, result in own.items() if result is not None}


def _of_seed(result: SavedResult, seed: int) -> SavedResult | None:
    """What one seed measured; None where it was not there yet."""
    for one in result.raw.get("seeds", []):
        if one["run_seed"] == seed:
            over_seeds = {key: result.raw[key] for key in ("value", "sd", "n")}
            raw = result.raw | one | {"over_seeds": over_seeds}
            return replace(result, value=float(one["value"]), raw=raw)
    return None


def _training_folder(workspace: Workspace, run: str, card: dict[str, Any]) -> Path | None:
    """Where the machine's side of its training is kept, if it still is."""
    wanted = card.get("progress")
    below = workspace.root / "runs/pretrain" / run
    if not wanted or not below.is_dir():
        return None
    confined.below(below, str(wanted), workspace.model(run) / "card.json")
    return next((path for path in sorted(below.rglob(str(wanted))) if path.is_dir()), None)


def _hours(folder: Path | None, card: dict[str, Any]) -> float | None:
    """From the speeds in its log: each holds for the steps since the line before."""
    if card.get("objective") not in OBJECTIVES:
        return None
    lines = [] if folder is None else journal.read(folder / "log.jsonl")
    pairs_a_step = card.get("batch", 0) * OBJECTIVES[card["objective"]].views / 2
    seconds = 0.0
    before = 0
    for line in lines:
        speed = line.get("pairs_per_second")
        if not speed:
            return None
        seconds += (line["step"] - before) * pairs_a_step / speed
        before = line["step"]
    return seconds / 3600 if before else None
