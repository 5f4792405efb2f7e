"""The folder that a pretraining publishes (`mimic.pretrain` shows it): weights, card, log,
snapshots and pictures."""

from __future__ import annotations

import copy
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mimic import config
from mimic.infra.storage import file_digest, write_json
from mimic.models.formats import timm_config
from mimic.models.objectives.base import Pretraining
from mimic.training import checkpoint, journal, reconstruct
from mimic.training.pretraining import THROUGHPUT_KEYS

WEIGHTS = ("encoder.safetensors", "model.safetensors")


def fill(
    model: Pretraining,
    card: dict[str, Any],
    pictures: tuple[dict[str, np.ndarray], str],
    unfinished: Path,
    snapshot_every: int | None,
    folder: Path,
) -> None:
    """Write what a run publishes into `folder` (pretrain.py says which files).

    Args:
        card: as `describe` makes it, with what made the encoder.
        pictures: arrays of held-out pairs and their caption, as `reconstruct.held_out` makes them.
        unfinished: the folder of the work, for its log and its checkpoints.
        snapshot_every: steps between two snapshots; None: none is published.
    """
    # equal weights are equal files at any commit, by whichever version of our code
    beside = ("git_commit", "parts", "sections", "licences")
    metadata = {key: value for key, value in card.items() if key not in beside}
    checkpoint.write_weights(model.encoder.state_dict(), folder / "encoder.safetensors", metadata)
    checkpoint.write_weights(model.state_dict(), folder / "model.safetensors", metadata)
    write_card(folder, card)
    journal.copy(
        unfinished / "log.jsonl", folder / "log.jsonl", card["steps"], without=THROUGHPUT_KEYS
    )
    if snapshot_every:
        terms = {"licences": card["licences"]}
        _fill_snapshots(model, metadata, terms, unfinished, folder, snapshot_every)
    arrays, caption = pictures
    np.savez(folder / "reconstruction.npz", allow_pickle=False, caption=np.array(caption), **arrays)
    reconstruct.draw(arrays, caption, folder / "reconstruction.png")


def _fill_snapshots(
    model: Pretraining,
    metadata: dict[str, Any],
    terms: dict[str, Any],
    unfinished: Path,
    folder: Path,
    every: int,
) -> None:
    """snapshots/<step>/, the encoder after so many steps with a card of its own, for each
    checkpoint on the way that was kept for good."""
    earlier = copy.deepcopy(model)
    for path in checkpoint.kept_checkpoints(unfinished):
        step = checkpoint.restore_model(path, earlier)
        if step % every or step >= metadata["steps"]:
            continue
        snapshot = folder / "snapshots" / f"{step:09d}"
        card = metadata | {"steps": step, "steps_in_all": metadata["steps"]}
        checkpoint.write_weights(
            earlier.encoder.state_dict(), snapshot / "encoder.safetensors", card
        )
        write_card(snapshot, card | terms)


def write_card(folder: Path, card: dict[str, Any]) -> dict[str, Any]:
    """card.json of weights that lie in the folder already, with the sha256 of each file of them;
    what was written."""
    files = [folder / name for name in WEIGHTS if (folder / name).exists()]
    complete = card | {"weights": {path.name: file_digest(path) for path in files}}
    write_json(folder / "card.json", complete)
    return complete


def describe(
    name: str, recipe: config.Recipe, run: config.Run, model: Pretraining, precision: str
) -> dict[str, Any]:
    """The card of an encoder: the run's numbers, the model's sizes, how timm builds it, versions.

    Args:
        precision: that it was trained in, which `auto` leaves to the machine.
    """
    size = recipe.model
    return {
        "run": name,
        "recipe": run.recipe,
        "objective": recipe.objective,
        "dataset": run.dataset,
        "steps": run.steps,
        "seed": run.only_seed,
        "batch": recipe.batch,
        "precision": precision,
        "mask_ratio": recipe.mask_ratio,
        "visible_rounding": recipe.visible_rounding,
        "visible_patches": model.visible,
        "norm_pix_loss": recipe.norm_pix_loss,
        "model": size.model_dump(mode="json") | {"size_px": list(size.height_width_px)},
        "timm": _timm(size),
        "versions": {
            "mimic": version("mimic"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def _timm(size: config.Model) -> dict[str, Any] | None:
    """How plain timm builds the encoder from these very weights; None where it cannot (rotary
    positions, whose channels it orders otherwise, or another norm epsilon)."""
    kwargs = timm_config.plain_kwargs(size.size())
    return kwargs and {"name": "timm.models.VisionTransformer", "kwargs": kwargs}
