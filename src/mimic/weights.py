"""Other people's checkpoints in, ours out: `mimic import-weights`, `mimic export-weights`.

An import is whole or it is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mimic.config.names import wrong_with
from mimic.errors import BadInput
from mimic.infra import earlier
from mimic.infra.publishing import Work, place, publish
from mimic.infra.storage import file_digest, replacing, write_json
from mimic.models import Objective, Pretraining, VisionTransformer, build, dialects
from mimic.models.dialects import Translated, Written
from mimic.training.checkpoint import load_encoder, load_into, load_model, write_weights
from mimic.training.untrusted import read_checkpoint

HEADS = {192: 3, 384: 6, 512: 16, 768: 12, 1024: 16, 1280: 16}  # of the field's usual widths; no file of weights tells
MASKING = {"mae": (0.75, "down"), "mimic": (0.9, "down"), "croco": (0.9, "up")}  # as published; files do not tell


@dataclass(frozen=True)
class Said:
    """What the user says of a file because the file does not."""

    size_px: tuple[int, int] | None
    heads: int | None
    decoder_heads: int | None
    objective: str | None
    dataset: str | None


# ---------------------------------------------------------------------------- in


def import_weights(path: Path, out: Path, said: Said, force: bool = False) -> dict[str, Any]:
    """Write a foreign checkpoint as models/<name>, which `evaluate` measures like a run of ours.

    Returns:
        The card.

    Raises:
        BadInput: something else lies at `out`, or the file is damaged, holds more than weights, is of no
            known family, or does not fit whole; nothing is written.
    """
    _free(out, force)
    weights, about = read_checkpoint(path)
    try:
        found = dialects.translate(weights)
        sizes = _sizes(found, about, said)
        encoder = VisionTransformer(**{key: sizes[key] for key in ENCODER_KEYS}, attention="auto")
        model = _whole(found, sizes, about)
    except (ValueError, KeyError, RuntimeError) as error:
        raise BadInput(f"{path}: {error}") from None
    _refuse_partial(found, encoder, model, path)
    prefix = "encoder."
    load_into(encoder, {key.removeprefix(prefix): value for key, value in found.weights.items() if key.startswith(prefix)}, path)
    if model is not None:
        load_into(model, found.weights, path)
    card = _card(path, out.name, found, sizes, about, said, model)

    def fill(folder: Path) -> None:
        write_weights(encoder.state_dict(), folder / "encoder.safetensors", card)
        if model is not None:
            write_weights(model.state_dict(), folder / "model.safetensors", card)
        write_json(folder / "card.json", card)

    publish(fill, out, Work("import", out.name), over=_over(force), recognise=earlier.model)
    return card


def import_timm(name: str, path: Path | None, out: Path, said: Said, force: bool = False) -> dict[str, Any]:
    """Write a model of timm, given by its name, as models/<name>; its weights from a file, or fetched by timm.

    Returns:
        The card.

    Raises:
        BadInput: timm has no such vision transformer, its weights cannot be fetched, or the file does not fit whole; nothing is written.
    """
    _free(out, force)
    from mimic.models.timm_vit import TimmEncoder  # importing timm takes seconds, and no other command here needs it

    try:
        encoder = TimmEncoder(name, said.size_px, pretrained=path is None)
        weights = dict(encoder.state_dict()) if path is None else encoder.fitting(read_checkpoint(path)[0])
    except ValueError as error:
        raise BadInput(f"{path or name}: {error}") from None
    load_into(encoder, weights, path or out)
    sizes = {key: getattr(encoder, key) for key in ("size_px", "patch_px", "width", "depth", "heads", "class_token")}
    source: dict[str, Any] = {
        "file": path and path.name,
        "sha256": path and file_digest(path),
        "dialect": "timm",
        "epoch": None,
        "left_out": [],
    }
    card = {
        "run": out.name,
        "imported": source,
        "objective": said.objective,
        "dataset": said.dataset,
        "steps": None,
        "versions": {"mimic": version("mimic"), "torch": torch.__version__, "timm": version("timm")},
        "model": sizes | {"timm": name, "size_px": list(encoder.size_px)},
    }

    def fill(folder: Path) -> None:
        write_weights(encoder.state_dict(), folder / "encoder.safetensors", card)
        write_json(folder / "card.json", card)

    publish(fill, out, Work("import", out.name), over=_over(force), recognise=earlier.model)
    return card


def _free(out: Path, force: bool) -> None:
    """Refuse a name that no entry of `imported` could have, and a place that holds anything but an earlier import of this name."""
    if why := wrong_with(out.name):
        raise BadInput(f"--out {out}: {out.name!r} cannot be the name of a model: {why}; say models/NAME")
    try:
        place(out, Work("import", out.name), over=_over(force), recognise=earlier.model)
    except BadInput as error:
        raise BadInput(f"--out {error}") from None


def _over(force: bool) -> tuple[str, ...]:
    """The kinds that an import replaces beside its own."""
    return ("pretrain",) if force else ()


ENCODER_KEYS = ("size_px", "patch_px", "width", "depth", "heads", "class_token", "positions", "norm_eps")


def _sizes(found: Translated, about: dict[str, Any], said: Said) -> dict[str, Any]:
    """Numbers of the model, from shapes, from what CroCo writes beside its weights, and from the user."""
    weights, kwargs = found.weights, about.get("croco_kwargs") or {}
    projection = weights["encoder.patch_embed.proj.weight"]
    if projection.ndim != 4 or projection.shape[1] != 3 or projection.shape[2] != projection.shape[3]:
        raise ValueError(f"patches are read by weights of shape {list(projection.shape)}; expected [width, 3, patch, patch]")
    width, patch_px = int(projection.shape[0]), int(projection.shape[2])
    first, positions = "encoder.cls_token" in weights, weights.get("encoder.pos_embed")
    size_px = said.size_px or _pair(kwargs.get("img_size"))
    if size_px is None:
        if positions is None:
            raise ValueError("rotary positions do not tell the image size; say --size-px HEIGHT WIDTH")
        count = positions.shape[1] - int(first)
        side = math.isqrt(count)
        if side * side != count:
            raise ValueError(f"{count} positions are no square of patches; say --size-px HEIGHT WIDTH")
        size_px = (side * patch_px, side * patch_px)
    decoder_width = int(weights["decoder.embed.weight"].shape[0]) if "decoder.embed.weight" in weights else None
    return {
        "size_px": size_px,
        "patch_px": patch_px,
        "width": width,
        "depth": _depth(weights, "encoder"),
        "heads": said.heads or kwargs.get("enc_num_heads") or _heads(width, "--heads"),
        "class_token": first,
        "positions": "rope" if positions is None else "sincos",
        "norm_eps": 1e-6,
        "decoder_width": decoder_width,
        "decoder_depth": _depth(weights, "decoder"),
        "decoder_heads": decoder_width and (said.decoder_heads or kwargs.get("dec_num_heads") or _heads(decoder_width, "--decoder-heads")),
    }


def _pair(size: Any) -> tuple[int, int] | None:
    return None if size is None else (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _depth(weights: Mapping[str, Tensor], part: str) -> int:
    """Blocks of a part, counted without gaps; a missing one is found when the weights are compared."""
    prefix = f"{part}.blocks."
    numbers = {key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)}
    if not all(number.isdigit() and len(number) < 4 for number in numbers):
        raise ValueError(f"blocks are not numbered: {', '.join(sorted(numbers)[:3])}")
    return max(map(int, numbers)) + 1 if numbers else 0


def _heads(width: int, option: str) -> int:
    if width not in HEADS:
        raise ValueError(f"weights of width {width} do not tell the number of attention heads; say {option}")
    return HEADS[width]


def _whole(found: Translated, sizes: dict[str, Any], about: dict[str, Any]) -> Pretraining | None:
    """The model with its decoder, if the file has one."""
    if not found.has_decoder or sizes["decoder_width"] is None:
        return None
    objective: Objective = "mae" if found.dialect == "mae" else "croco"
    return build(objective, **sizes, attention="auto", **_masking(found, about), norm_pix=True)


def _masking(found: Translated, about: dict[str, Any]) -> dict[str, Any]:
    ratio, rounding = MASKING[found.dialect]
    return {"mask_ratio": float((about.get("croco_kwargs") or {}).get("mask_ratio", ratio)), "visible_rounding": rounding}


def _refuse_partial(found: Translated, encoder: VisionTransformer, model: Pretraining | None, path: Path) -> None:
    """Every key has its place and every place its key; reported together, encoder and decoder."""
    wanted = set(model.state_dict()) if model is not None else {f"encoder.{key}" for key in encoder.state_dict()}
    missing, unexpected = sorted(wanted - set(found.weights)), sorted(set(found.weights) - wanted)
    if missing or unexpected:
        counts = [f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" for what, keys in
                  (("missing", missing), ("unexpected", unexpected)) if keys]  # fmt: skip
        raise BadInput(f"{path}: read as {found.dialect}, but only a part fits: {'; '.join(counts)}; nothing was imported")


def _card(
    path: Path, name: str, found: Translated, sizes: dict[str, Any], about: dict[str, Any], said: Said, model: Pretraining | None
) -> dict[str, Any]:
    default = {"mae": "mae", "mimic": "croco", "croco": "croco", "timm": None}[found.dialect]
    kept = sizes if model is not None else {key: sizes[key] for key in ENCODER_KEYS}
    card: dict[str, Any] = {
        "run": name,
        "imported": {
            "file": path.name,
            "sha256": file_digest(path),
            "dialect": found.dialect,
            "epoch": about.get("epoch"),
            "left_out": found.left_out,
        },
        "objective": said.objective or default,
        "dataset": said.dataset,
        "steps": None,
        "versions": {"mimic": version("mimic"), "torch": torch.__version__},
        "model": kept | {"size_px": list(sizes["size_px"])},
    }
    if model is not None:
        card |= _masking(found, about) | {"visible_patches": model.visible, "norm_pix_loss": True}
    return card


# ---------------------------------------------------------------------------- out


def export_weights(folder: Path, form: Written, out: Path) -> list[str]:
    """Write a published model as another project reads it.

    Returns:
        What the reader should know, in lines.

    Raises:
        BadInput: the model cannot be said in this format without changing its features.
    """
    encoder, card = load_encoder(folder)
    state = {key: value.detach().contiguous() for key, value in encoder.state_dict().items()}
    whole = load_model(folder).state_dict() if (folder / "model.safetensors").exists() else {}
    decoder = {key.removeprefix("decoder."): value.contiguous() for key, value in whole.items() if key.startswith("decoder.")} or None
    try:
        written = _written(form, state, decoder, encoder.grid)
    except ValueError as error:
        raise BadInput(f"{folder}: --format {form}: {error}") from None
    content: dict[str, Any] = {"model": written} | ({"croco_kwargs": _croco_kwargs(card)} if form == "croco" else {})
    with replacing(out) as scratch:
        if form == "timm":
            safetensors.torch.save_file(written, scratch, metadata={"mimic": json.dumps(card, sort_keys=True)})
        else:
            torch.save(content, scratch)
    return _told(form, written, decoder)


def _written(form: Written, encoder: dict[str, Tensor], decoder: dict[str, Tensor] | None, grid: tuple[int, int]) -> dict[str, Tensor]:
    ways: dict[str, Callable[[], dict[str, Tensor]]] = {
        "timm": lambda: dialects.to_timm(encoder),
        "mae": lambda: dialects.to_mae(encoder, decoder),
        "croco": lambda: dialects.to_croco(encoder, decoder),
        "multimae": lambda: dialects.to_multimae(encoder, grid),
        "vitpose": lambda: dialects.to_vitpose(encoder, grid),
    }
    return {key: value.detach().clone() for key, value in ways[form]().items()}


def _told(form: Written, written: Mapping[str, Tensor], decoder: Mapping[str, Tensor] | None) -> list[str]:
    lines = []
    if decoder is not None and not any("decoder" in key or key.startswith("dec_") for key in written):
        lines.append("the decoder has no place in this format and was left out")
    if form == "multimae":
        lines.append("MultiMAE has no final norm: it was left out")
        if "global_tokens" not in written:
            lines.append("no class token: build MultiMAE with num_global_tokens=0")
    if form == "vitpose":
        lines.append("the table of positions was resized to 16 x 12 patches; ViTPose ignores the class token")
    return lines


def _croco_kwargs(card: dict[str, Any]) -> dict[str, Any]:
    """The arguments CroCoNet is built with; its released files carry them, and its reader needs them."""
    size = card["model"]
    kwargs = {
        "img_size": tuple(size["size_px"]),
        "patch_size": size["patch_px"],
        "enc_embed_dim": size["width"],
        "enc_depth": size["depth"],
        "enc_num_heads": size["heads"],
        "pos_embed": "cosine" if size["positions"] == "sincos" else "RoPE100",
    }
    if size.get("decoder_width") and card.get("objective") == "croco":
        kwargs |= {"dec_embed_dim": size["decoder_width"], "dec_depth": size["decoder_depth"], "dec_num_heads": size["decoder_heads"]}
        kwargs |= {"mask_ratio": card["mask_ratio"]}
    return kwargs
