"""Other people's checkpoints in, ours out: `mimic import-weights`, `mimic export-weights`.

An import is whole or it is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from mimic.infra.storage import THERE, file_digest, replacing, write_json
from mimic.models import ROPE_BASE, build
from mimic.models.encoder import VisionTransformer
from mimic.models.formats import dialects
from mimic.models.formats.dialects import Translated, Written
from mimic.models.objectives.base import Pretraining
from mimic.training.checkpoint import load_encoder, load_into, load_model, write_weights
from mimic.training.imported.foreign import ImportOverrides, Numbers, numbers_of
from mimic.training.imported.told import beside
from mimic.training.imported.untrusted import files_of
from mimic.training.imported.wrapped import Foreign, read_checkpoint

# ---------------------------------------------------------------------------- in


def import_weights(
    path: Path, out: Path, said: ImportOverrides, force: bool = False
) -> dict[str, Any]:
    """Write a foreign checkpoint as models/<name>, which `evaluate` measures like a run of ours.

    Returns:
        The card.

    Raises:
        BadInput: something else lies at `out`, or the file is damaged, holds more than weights, is
            of no known family, or does not fit whole; nothing is written.
    """
    _free(out, force)
    foreign = read_checkpoint(path, said.key, said.prefix)
    try:
        found = dialects.translate(foreign.weights)
        config = beside(path) if found.dialect in ("vit", "vit_mae") else {}
        numbers = numbers_of(found, foreign.facts | {"config": config}, said)
        encoder = VisionTransformer(numbers.size, attention="auto")
        model = _whole(found, numbers)
    except (ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise BadInput(f"{path}: {error}") from None
    _refuse_partial(found, encoder, model, path)
    prefix = "encoder."
    load_into(
        encoder,
        {
            key.removeprefix(prefix): value
            for key, value in found.weights.items()
            if key.startswith(prefix)
        },
        path,
    )
    if model is not None:
        load_into(model, found.weights, path)
    card = _card(path, out.name, found, foreign, numbers, said, model)

    def fill(folder: Path) -> None:
        write_weights(encoder.state_dict(), folder / "encoder.safetensors", card)
        if model is not None:
            write_weights(model.state_dict(), folder / "model.safetensors", card)
        write_json(folder / "card.json", card)

    publish(fill, out, Work("import", out.name), over=_over(force), recognise=earlier.model)
    return card


def import_timm(
    name: str, path: Path | None, out: Path, said: ImportOverrides, force: bool = False
) -> dict[str, Any]:
    """Write a model of timm, given by its name, as models/<name>; its weights from a file, or
    fetched by timm.

    Returns:
        The card.

    Raises:
        BadInput: timm has no such vision transformer, its weights cannot be fetched, or the file
            does not fit whole; nothing is written.
    """
    _free(out, force)
    from mimic.models.formats.timm_vit import (
        TimmEncoder,
    )  # importing timm takes seconds, and no other command here needs it

    try:
        encoder = TimmEncoder(name, said.size_px, pretrained=path is None)
        foreign = None if path is None else read_checkpoint(path, said.key, said.prefix)
        weights = (
            dict(encoder.state_dict()) if foreign is None else encoder.fitting(foreign.weights)
        )
    except ValueError as error:
        raise BadInput(f"{path or name}: {error}") from None
    load_into(encoder, weights, path or out)
    sizes = {
        key: getattr(encoder, key)
        for key in ("size_px", "patch_px", "width", "depth", "heads", "class_token")
    }
    source = _source(path, "timm", foreign, [])
    card = {
        "run": out.name,
        "imported": source,
        "objective": said.objective,
        "dataset": said.dataset,
        "steps": None,
        "versions": {
            "mimic": version("mimic"),
            "torch": torch.__version__,
            "timm": version("timm"),
        },
        "model": sizes | {"timm": name, "size_px": list(encoder.size_px)},
    }

    def fill(folder: Path) -> None:
        write_weights(encoder.state_dict(), folder / "encoder.safetensors", card)
        write_json(folder / "card.json", card)

    publish(fill, out, Work("import", out.name), over=_over(force), recognise=earlier.model)
    return card


def _free(out: Path, force: bool) -> None:
    """Refuse a name that no entry of `imported` could have, and a place that holds anything but an
    earlier import of this name."""
    if why := wrong_with(out.name):
        raise BadInput(
            f"--out {out}: {out.name!r} cannot be the name of a model: {why}; say models/NAME"
        )
    try:
        place(out, Work("import", out.name), over=_over(force), recognise=earlier.model)
    except BadInput as error:
        raise BadInput(f"--out {error}") from None


def _over(force: bool) -> tuple[str, ...]:
    """The kinds that an import replaces beside its own."""
    return ("pretrain",) if force else ()


OBJECTIVE_OF = {"mae": "mae", "vit_mae": "mae", "mimic": "croco", "croco": "croco"}  # of a dialect


def _whole(found: Translated, numbers: Numbers) -> Pretraining | None:
    """The model with its decoder, if the file has one."""
    if not found.has_decoder or numbers.masking is None:
        return None
    return build(OBJECTIVE_OF[found.dialect], numbers.size, numbers.masking)


def _refuse_partial(
    found: Translated, encoder: VisionTransformer, model: Pretraining | None, path: Path
) -> None:
    """Every key has its place and every place its key; reported together, encoder and decoder."""
    wanted = (
        set(model.state_dict())
        if model is not None
        else {f"encoder.{key}" for key in encoder.state_dict()}
    )
    missing = sorted(wanted - set(found.weights))
    unexpected = sorted(set(found.weights) - wanted)
    if not missing and not unexpected:
        return
    if "encoder.fc_norm.weight" in unexpected and "encoder.norm.weight" in missing:
        raise BadInput(
            f"{path}: fine-tuned with global pooling: its fc_norm normalises the mean of all "
            "tokens, and it has no norm of the"
            " tokens themselves, which features need; nothing was imported: take the weights from "
            "before that fine-tuning"
        )
    counts = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    raise BadInput(
        f"{path}: read as {found.dialect}, but only a part fits: {'; '.join(counts)}; nothing was "
        "imported;"
        " if timm has this model, say --timm NAME"
    )


def _source(
    path: Path | None, dialect: str, foreign: Foreign | None, assumed: list[str]
) -> dict[str, Any]:
    """Where the weights come from: what was taken, what was left, and what nobody said."""
    files = [] if path is None else files_of(path)
    epoch = foreign.facts.get("epoch") if foreign else None
    return {
        "file": path and path.name,
        "sha256": file_digest(files[0]) if files else None,
        "shards": {shard.name: file_digest(shard) for shard in files[1:]},
        "dialect": dialect,
        "epoch": epoch if isinstance(epoch, int) else None,
        "taken": foreign and foreign.taken,
        "other_weights": foreign.others if foreign else [],
        "beside": foreign.beside if foreign else [],
        "left_out": foreign.left_out if foreign else [],
        "assumed": assumed,
    }


def _card(
    path: Path,
    name: str,
    found: Translated,
    foreign: Foreign,
    numbers: Numbers,
    said: ImportOverrides,
    model: Pretraining | None,
) -> dict[str, Any]:
    size = numbers.size if model is not None else replace(numbers.size, decoder_width=0)
    card: dict[str, Any] = {
        "run": name,
        "imported": _source(path, found.dialect, foreign, numbers.assumed),
        "objective": said.objective or OBJECTIVE_OF.get(found.dialect),
        "dataset": said.dataset,
        "steps": None,
        "versions": {"mimic": version("mimic"), "torch": torch.__version__},
        "model": size.as_card(),
    }
    if model is not None and numbers.masking is not None:
        card |= {
            "mask_ratio": numbers.masking.mask_ratio,
            "visible_rounding": numbers.masking.visible_rounding,
            "visible_patches": model.visible,
            "norm_pix_loss": numbers.masking.norm_pix,
        }
    return card


def told(source: dict[str, Any]) -> list[str]:
    """What a reader of an import should know, in lines, from `imported` of its card."""
    lines = []
    if source["taken"]:
        lines.append(f"taken: the weights under {source['taken']!r}")
    for name in source["other_weights"]:
        lines.append(f"not taken: the weights under {name!r}; --key {name} takes them")
    if source["beside"]:
        lines.append(f"left out, no weights of the model: {', '.join(source['beside'])}")
    if source["left_out"]:
        lines.append(f"left out, no part of the encoder: {', '.join(source['left_out'])}")
    lines += [f"nobody says it, so it was assumed: {what}" for what in source["assumed"]]
    return lines


# ---------------------------------------------------------------------------- out


def export_weights(folder: Path, form: Written, out: Path) -> list[str]:
    """Write a published model as another project reads it.

    Returns:
        What the reader should know, in lines.

    Raises:
        BadInput: the model cannot be said in this format without changing its features.
    """
    if os.path.lexists(out):  # before any work is done, and again at the end
        raise BadInput(f"--out {out}: {THERE}")
    encoder, card = load_encoder(folder)
    state = {key: value.detach().contiguous() for key, value in encoder.state_dict().items()}
    whole = load_model(folder).state_dict() if (folder / "model.safetensors").exists() else {}
    decoder = {
        key.removeprefix("decoder."): value.contiguous()
        for key, value in whole.items()
        if key.startswith("decoder.")
    } or None
    try:
        written = _written(form, state, decoder, encoder.grid)
    except ValueError as error:
        raise BadInput(f"{folder}: --format {form}: {error}") from None
    content: dict[str, Any] = {"model": written} | (
        {"croco_kwargs": _croco_kwargs(card)} if form == "croco" else {}
    )
    with replacing(out, new=True) as scratch:
        if form == "timm":
            safetensors.torch.save_file(
                written, scratch, metadata={"mimic": json.dumps(card, sort_keys=True)}
            )
        else:
            torch.save(content, scratch)
    return _told(form, written, decoder, card)


def _written(
    form: Written,
    encoder: dict[str, Tensor],
    decoder: dict[str, Tensor] | None,
    grid: tuple[int, int],
) -> dict[str, Tensor]:
    ways: dict[str, Callable[[], dict[str, Tensor]]] = {
        "timm": lambda: dialects.to_timm(encoder),
        "mae": lambda: dialects.to_mae(encoder, decoder),
        "croco": lambda: dialects.to_croco(encoder, decoder),
        "multimae": lambda: dialects.to_multimae(encoder, grid),
        "vitpose": lambda: dialects.to_vitpose(encoder, grid),
    }
    return {key: value.detach().clone() for key, value in ways[form]().items()}


def _told(
    form: Written,
    written: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor] | None,
    card: dict[str, Any],
) -> list[str]:
    lines = []
    if form == "croco" and card["model"]["positions"] == "sincos":
        lines.append(
            "its positions are tables (pos_embed cosine): not for DUSt3R and MASt3R, which need "
            "RoPE (model.positions: rope)"
        )
    if decoder is not None and not any(
        "decoder" in key or key.startswith("dec_") for key in written
    ):
        lines.append("the decoder has no place in this format and was left out")
    if form == "multimae":
        lines.append("MultiMAE has no final norm: it was left out")
        if "global_tokens" not in written:
            lines.append("no class token: build MultiMAE with num_global_tokens=0")
    if form == "vitpose":
        lines.append(
            "the table of positions was resized to 16 x 12 patches; ViTPose ignores the class token"
        )
    return lines


def _croco_kwargs(card: dict[str, Any]) -> dict[str, Any]:
    """The arguments CroCoNet is built with; its released files carry them, and its reader needs
    them."""
    size = card["model"]
    base = float(size.get("rope_base", ROPE_BASE))
    kwargs = {
        "img_size": tuple(size["size_px"]),
        "patch_size": size["patch_px"],
        "enc_embed_dim": size["width"],
        "enc_depth": size["depth"],
        "enc_num_heads": size["heads"],
        "pos_embed": "cosine"
        if size["positions"] == "sincos"
        else f"RoPE{int(base) if base.is_integer() else base!r}",
    }
    if size.get("decoder_width") and card.get("objective") == "croco":
        kwargs |= {
            "dec_embed_dim": size["decoder_width"],
            "dec_depth": size["decoder_depth"],
            "dec_num_heads": size["decoder_heads"],
        }
        kwargs |= {"mask_ratio": card["mask_ratio"]}
    return kwargs
