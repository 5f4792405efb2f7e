"""`mimic export-weights`: a model of models/ as other projects read it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mimic.errors import BadInput
from mimic.infra.storage import THERE, replacing
from mimic.models import ROPE_BASE
from mimic.models.formats import checkpoint_formats
from mimic.models.formats.checkpoint_formats import Written
from mimic.training.checkpoint import load_encoder, load_model

KNOWN_ELSEWHERE = ("mae", "croco")  # objectives whose decoders other projects run


def export_weights(folder: Path, form: Written, out: Path) -> list[str]:
    """Write a published model as another project reads it.

    Returns:
        What the user of the file should know, in lines.

    Raises:
        BadInput: this format cannot express the model without changing its features.
    """
    if os.path.lexists(out):  # before any work is done, and again at the end
        raise BadInput(f"--out {out}: {THERE}")
    encoder, card = load_encoder(folder)
    state = {key: value.detach().contiguous() for key, value in encoder.state_dict().items()}
    decoder = _decoder_weights(folder)
    # The others' have the same names, and would be run in another order.
    elsewhere = decoder if card.get("objective") in KNOWN_ELSEWHERE else None
    try:
        written = _convert(form, state, elsewhere, encoder.grid)
    except ValueError as error:
        raise BadInput(f"{folder}: --format {form}: {error}") from None
    content: dict[str, Any] = {"model": written}
    if form == "croco":
        content["croco_kwargs"] = _croco_kwargs(card)
    with replacing(out, new=True) as scratch:
        if form == "timm":
            safetensors.torch.save_file(
                written, scratch, metadata={"mimic": json.dumps(card, sort_keys=True)}
            )
        else:
            torch.save(content, scratch)
    return _export_notes(form, written, decoder, card)


def _decoder_weights(folder: Path) -> dict[str, Tensor] | None:
    """The decoder of a model, if it was published with one."""
    if not (folder / "model.safetensors").exists():
        return None
    prefix = "decoder."
    weights = {
        key.removeprefix(prefix): value.contiguous()
        for key, value in load_model(folder).state_dict().items()
        if key.startswith(prefix)
    }
    return weights or None


def _convert(
    form: Written,
    encoder: dict[str, Tensor],
    decoder: dict[str, Tensor] | None,
    grid: tuple[int, int],
) -> dict[str, Tensor]:
    ways: dict[str, Callable[[], dict[str, Tensor]]] = {
        "timm": lambda: checkpoint_formats.to_timm(encoder),
        "mae": lambda: checkpoint_formats.to_mae(encoder, decoder),
        "croco": lambda: checkpoint_formats.to_croco(encoder, decoder),
        "multimae": lambda: checkpoint_formats.to_multimae(encoder, grid),
        "vitpose": lambda: checkpoint_formats.to_vitpose(encoder, grid),
    }
    return {key: value.detach().clone() for key, value in ways[form]().items()}


def _export_notes(
    form: Written,
    written: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor] | None,
    card: dict[str, Any],
) -> list[str]:
    lines = []
    if form == "croco" and card["model"]["positions"] == "sincos":
        lines.append(
            "its positions are sin-cos tables (pos_embed cosine): DUSt3R and MASt3R need RoPE "
            "(model.positions: rope)"
        )
    if decoder is not None and not any(
        "decoder" in key or key.startswith("dec_") for key in written
    ):
        lines.append("this format has no decoder: it was left out")
    if form == "multimae":
        lines.append("MultiMAE has no final norm: it was left out")
        if "global_tokens" not in written:
            lines.append("no class token: build MultiMAE with num_global_tokens=0")
    if form == "vitpose":
        lines.append(
            "the position embedding was resized to 16 x 12 patches; ViTPose ignores the class token"
        )
    return lines


def _croco_kwargs(card: dict[str, Any]) -> dict[str, Any]:
    """The arguments CroCoNet is built with; its released files carry them, and its reader needs
    them."""
    size = card["model"]
    kwargs = {
        "img_size": tuple(size["size_px"]),
        "patch_size": size["patch_px"],
        "enc_embed_dim": size["width"],
        "enc_depth": size["depth"],
        "enc_num_heads": size["heads"],
        "pos_embed": _croco_positions(size),
    }
    if size.get("decoder_width") and card.get("objective") == "croco":
        kwargs |= {
            "dec_embed_dim": size["decoder_width"],
            "dec_depth": size["decoder_depth"],
            "dec_num_heads": size["decoder_heads"],
        }
        kwargs |= {"mask_ratio": card["mask_ratio"]}
    return kwargs


def _croco_positions(size: Mapping[str, Any]) -> str:
    if size["positions"] == "sincos":
        return "cosine"
    base = float(size.get("rope_base", ROPE_BASE))
    return f"RoPE{int(base) if base.is_integer() else base!r}"
