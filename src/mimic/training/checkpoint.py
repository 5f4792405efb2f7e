"""Weights on disk: resumable checkpoints of a run in progress, and the published encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.models import VisionTransformer


def load_encoder(folder: Path) -> tuple[VisionTransformer, dict[str, Any]]:
    """A published encoder, on the CPU, in eval mode, with gradients off only for its fixed positions.

    Args:
        folder: models/<run>, with encoder.safetensors and card.json.

    Raises:
        BadInput: a file is missing or damaged, or the weights do not fit the card.
    """
    card = read_card(folder)
    size = card["model"]
    height, width = size["size_px"]
    encoder = VisionTransformer(
        size_px=(height, width),
        patch_px=size["patch_px"],
        width=size["width"],
        depth=size["depth"],
        heads=size["heads"],
        class_token=size["class_token"],
        positions=size["positions"],
        norm_eps=size["norm_eps"],
        attention="auto",
    )
    path = folder / "encoder.safetensors"
    load_into(encoder, read_weights(path), path)
    return encoder.eval(), card


def read_card(folder: Path) -> dict[str, Any]:
    """card.json of a published model."""
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        raise BadInput(f"{folder}: no card.json, so no published model; run mimic pretrain {folder.name}") from None
    except ValueError:
        raise BadInput(f"{path}: not valid JSON; run mimic pretrain {folder.name} again") from None
    if not isinstance(card, dict) or not isinstance(card.get("model"), dict):
        raise BadInput(f"{path}: holds no 'model' sizes; run mimic pretrain {folder.name} again")
    return card


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file; nothing in it is executed."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run the pretrain stage that makes it") from None
    except (SafetensorError, ValueError) as error:
        raise BadInput(f"{path}: not a whole safetensors file ({error})") from None


def load_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that must fit exactly.

    Raises:
        BadInput: keys are missing, unexpected or of another shape; the first few are named and nothing is loaded.
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
    found = [f"{len(keys)} {what} ({', '.join(keys[:2])}{', ...' if len(keys) > 2 else ''})" for what, keys in problems.items() if keys]
    if found:
        raise BadInput(f"{path}: does not fit this model: {'; '.join(found)}")
    model.load_state_dict(weights, strict=True)
