"""Weights on disk: resumable checkpoints of a run in progress, and the published encoder."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.infra.cluster.world import World
from mimic.infra.storage import SEED, file_digest, link, replacing, sweep, write_bytes, write_json
from mimic.infra.writing import writing
from mimic.models import Masking, ViTSize, build
from mimic.models.encoder import VisionTransformer
from mimic.models.formats.checkpoint_formats import OBJECTIVE_OF
from mimic.models.objectives.base import Pretraining
from mimic.training.training_stats import LogWindow

log = logging.getLogger(__name__)

DECODER_KEYS = (
    "objective",
    "mask_ratio",
    "visible_rounding",
    "norm_pix_loss",
)  # of a card, without which no whole model is built


def load_encoder(folder: Path) -> tuple[VisionTransformer, dict[str, Any]]:
    """A published encoder, on the CPU, in eval mode; its fixed positions need no gradient.

    Args:
        folder: models/<run>, with encoder.safetensors and card.json.

    Raises:
        BadInput: a file is missing or damaged, or the weights do not fit the card.
    """
    card = read_card(folder)
    path = folder / "encoder.safetensors"
    encoder: VisionTransformer
    if "timm" in card["model"]:
        # Only here, for such a model: importing timm takes seconds.
        from mimic.models.formats.timm_vit import TimmEncoder

        height, width = card["model"]["size_px"]
        encoder = TimmEncoder(card["model"]["timm"], (height, width), pretrained=False)
    else:
        encoder = VisionTransformer(_size(card, folder), attention="auto")
    load_into(encoder, read_published(path, card), path)
    return encoder.eval(), card


def load_model(folder: Path) -> Pretraining:
    """The whole model of a published run, decoder included, on the CPU, in eval mode.

    Raises:
        BadInput: a file is missing or damaged, the weights do not fit the card, or the folder holds
            an encoder only.
    """
    card = read_card(folder)
    path = folder / "model.safetensors"
    if not path.exists() or any(key not in card for key in DECODER_KEYS):
        raise BadInput(
            f"{folder}: holds an encoder only; this task needs the decoder it was pretrained with"
        )
    masking = Masking(
        mask_ratio=card["mask_ratio"],
        visible_rounding=card["visible_rounding"],
        norm_pix=card["norm_pix_loss"],
    )
    try:
        model = build(str(network_of(card)), _size(card, folder), masking)
    except ValueError as error:
        raise BadInput(f"{folder / 'card.json'}: {error}") from None
    load_into(model, read_published(path, card), path)
    return model.eval()


def network_of(card: Mapping[str, Any]) -> str | None:
    """The objective whose network a model has: that of an import is told by its names of weights,
    whatever the tables are to call it (`--objective`)."""
    dialect = str((card.get("imported") or {}).get("dialect"))
    stated = OBJECTIVE_OF.get(dialect, card.get("objective"))
    return None if stated is None else str(stated)


def _size(card: dict[str, Any], folder: Path) -> ViTSize:
    try:
        return ViTSize.of_card(card["model"])
    except ValueError as error:
        raise BadInput(f"{folder / 'card.json'}: {error}") from None


def read_card(folder: Path) -> dict[str, Any]:
    """card.json of a published model.

    Raises:
        BadInput: there is none, the folder holds one a seed, or it is damaged.
    """
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        seeds = [one.parent.name for one in sorted(folder.glob(f"{SEED}*/card.json"))]
        if seeds:
            raise BadInput(
                f"{folder}: holds an encoder a seed ({', '.join(seeds)}); name one, such as "
                f"{folder / seeds[0]}"
            ) from None
        raise BadInput(
            f"{folder}: no card.json, so no published model; run mimic pretrain {folder.name}"
        ) from None
    except ValueError:
        raise BadInput(f"{path}: not valid JSON; run mimic pretrain {folder.name} again") from None
    if not isinstance(card, dict) or not isinstance(card.get("model"), dict):
        raise BadInput(f"{path}: holds no 'model' sizes; run mimic pretrain {folder.name} again")
    return card


def read_published(path: Path, card: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of a published model, which have to be those that its card states.

    Raises:
        BadInput: the file is missing, or damaged since it was written.
    """
    weights = read_weights(path)
    require_recorded(path, card)
    return weights


def require_recorded(path: Path, card: Mapping[str, Any]) -> None:
    """A flipped bit makes another number, and safetensors holds no checksum that would tell.

    Args:
        card: with the sha256 of each file; cards of earlier versions state none.

    Raises:
        BadInput: the file is not the one that was written with the card.
    """
    stated = card.get("weights")
    digest = stated.get(path.name) if isinstance(stated, Mapping) else None
    if digest is not None and file_digest(path) != digest:
        raise BadInput(
            f"{path}: its sha256 is not that of card.json; copy it again, or train or import "
            f"{path.parent.name} again"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file; nothing in it is executed.

    Raises:
        BadInput: it is missing or damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run the pretrain stage that makes it") from None
    except (SafetensorError, ValueError) as error:
        raise BadInput(f"{path}: not a whole safetensors file ({error})") from None


def write_weights(weights: Mapping[str, Tensor], path: Path, metadata: dict[str, Any]) -> None:
    """A .safetensors file with `metadata` as JSON under the metadata key "mimic"; equal input gives
    equal bytes."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    write_bytes(
        path,
        safetensors.torch.save(tensors, metadata={"mimic": json.dumps(metadata, sort_keys=True)}),
    )


def load_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that must fit exactly.

    Raises:
        BadInput: keys are missing, unexpected or of another shape; the first few are named and
            nothing is loaded.
    """
    wanted = model.state_dict()
    problems = {
        "missing": [key for key in wanted if key not in weights],
        "unexpected": [key for key in weights if key not in wanted],
        "of another shape": [
            f"{key} {list(weights[key].shape)} for {list(wanted[key].shape)}"
            for key in wanted
            if key in weights and weights[key].shape != wanted[key].shape
        ],
    }
    reasons = [
        f"{len(keys)} {what} ({', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''})"
        for what, keys in problems.items()
        if keys
    ]
    if reasons:
        raise BadInput(f"{path}: does not fit this model: {'; '.join(reasons)}")
    model.load_state_dict(weights, strict=True)


# ---------------------------------------------------------------------------- a run in progress


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    world: World,
    keep: int,
    window: LogWindow | None = None,
) -> None:
    """Write step-<step>.pt, then its .json with size and digest, which makes it count; keep the
    last `keep`.

    Args:
        window: what the log line under way has summed up; None = nothing.
    """
    path = folder / f"step-{step:09d}.pt"
    state: dict[str, Any] = {"step": step, "threads": torch.get_num_threads(), "ranks": world.size}
    if window is not None:
        state["window"] = window.as_plain()
    with writing(path) as file:
        torch.save(state | {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    write_json(
        path.with_suffix(".json"),
        {"step": step, "bytes": path.stat().st_size, "sha256": file_digest(path)},
    )
    earlier = []
    for mark in _marks(folder):
        if mark.name > path.with_suffix(".json").name:  # it was damaged, or this step were not made
            remove(mark)
        else:
            earlier.append(mark)
    for mark in earlier[keep:]:
        remove(mark)


def keep_for_good(folder: Path, step: int) -> None:
    """Link a checkpoint into kept/, which nothing here removes and no run resumes from; once."""
    kept_checkpoints = folder / "kept"
    if (kept_checkpoints / f"step-{step:09d}.json").exists():  # linked last
        return
    kept_checkpoints.mkdir(exist_ok=True)
    for name in (f"step-{step:09d}.pt", f"step-{step:09d}.json"):
        with replacing(kept_checkpoints / name) as scratch:
            link(folder / name, scratch)


@dataclass(frozen=True)
class Restored:
    """Where a run goes on."""

    step: int  # 0: from the beginning
    window: LogWindow | None  # None: of no step, or of a checkpoint written before there were any


def restore(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, world: World
) -> Restored:
    """Load the newest whole checkpoint of a folder, the same one on every rank; step 0 when there
    is none.

    Left-overs of a killed save are removed. A damaged checkpoint is reported and the one before it
    taken; the next one that is saved replaces it.

    Raises:
        BadInput: a checkpoint belongs to another model, the disk does not answer, or this rank
            cannot read what the first one can.
    """
    device = next(model.parameters()).device
    state = None
    if world.rank == 0:
        sweep(folder)
        state = _newest(folder)
    step = int(world.broadcast(torch.tensor(state["step"] if state else 0, device=device)))
    if step == 0:
        return Restored(0, None)
    path = folder / f"step-{step:09d}.pt"
    state = state or _read(path)
    if state is None:
        raise BadInput(
            f"{path}: rank {world.rank} cannot read it whole, though rank 0 can; is the file "
            "system the same on all nodes?"
        )
    load_into(model, state["model"], path)
    try:
        optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise BadInput(
            f"{path}: its optimizer state does not fit: {error}; remove {folder} to start again"
        ) from None
    if state["ranks"] == world.size:
        torch.set_num_threads(
            state["threads"]
        )  # a sum over another number of threads ends in other last bits
    window = state.get("window")
    return Restored(step, None if window is None else LogWindow(**window))


def restore_newest_model(folder: Path, model: nn.Module) -> int:
    """Load only the weights of the newest whole checkpoint, and return its step; 0 when there is
    none."""
    state = _newest(folder)
    return _load_model(state, model, folder) if state else 0


def kept_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints kept for good, the earliest first."""
    return [mark.with_suffix(".pt") for mark in reversed(_marks(folder / "kept"))]


def restore_model(path: Path, model: nn.Module) -> int:
    """Load only the weights of this checkpoint, and return its step.

    Raises:
        BadInput: it is damaged, or belongs to another model.
    """
    state = _read(path)
    if state is None:
        raise BadInput(f"{path}: damaged; remove it and its .json, and run the stage again")
    return _load_model(state, model, path.parent)


def _load_model(state: dict[str, Any], model: nn.Module, folder: Path) -> int:
    load_into(model, state["model"], folder / f"step-{state['step']:09d}.pt")
    return int(state["step"])


def remove_all(folder: Path) -> None:
    """Forget a run's checkpoints."""
    for mark in _marks(folder):
        remove(mark)


def remove(mark: Path) -> None:
    """The mark goes first: what it vouches for must not be half gone."""
    mark.unlink(missing_ok=True)
    mark.with_suffix(".pt").unlink(missing_ok=True)


def _marks(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.json"), reverse=True)


def _newest(folder: Path) -> dict[str, Any] | None:
    for mark in _marks(folder):
        state = _read(mark.with_suffix(".pt"))
        if state is not None:
            return state
        log.warning("%s is damaged; taking the checkpoint before it", mark.with_suffix(".pt"))
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """A checkpoint's content, on the CPU, or None when it is not what its mark says. Only tensors
    and plain values are unpickled.

    Raises:
        BadInput: the disk does not answer.
        RuntimeError: there is no memory for it. Neither says that the checkpoint is damaged.
    """
    try:
        wanted = json.loads(path.with_suffix(".json").read_text())
        if path.stat().st_size != wanted["bytes"] or file_digest(path) != wanted["sha256"]:
            return None
        # There is room for it beside the model, which a GPU need not have.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, BadInput, ValueError, KeyError, pickle.UnpicklingError):
        return None
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be read ({error.strerror}); try again, or remove it and its .json to "
            "go on from the checkpoint before it"
        ) from error
    fits = {"threads", "ranks", "model", "optimizer"} <= set(state)
    return state if fits and state["step"] == wanted["step"] else None
