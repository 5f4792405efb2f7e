"""`mimic export-weights`: a model of models/ as other projects read it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mimic import licences
from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra.storage import THERE, Workspace
from mimic.infra.writing import writing
from mimic.models import ROPE_BASE, ViTSize
from mimic.models.encoder import VisionTransformer
from mimic.models.formats import checkpoint_formats, timm_config
from mimic.models.formats.checkpoint_formats import Written
from mimic.params import load_params, terms
from mimic.training.checkpoint import load_encoder, load_model, network_of

KNOWN_ELSEWHERE = ("mae", "croco")  # objectives whose decoders other projects run
FILE_ENDS = {"timm": ".safetensors", "hub": ""}
# Their code builds layer norms of this epsilon and takes no other.
FIXED_EPS = ("mae", "croco", "dust3r", "multimae", "vitpose")
CROCO_ARGUMENTS = ("croco", "dust3r")


@dataclass(frozen=True)
class Exported:
    """Weights under another project's names, and the model they are of."""

    weights: dict[str, Tensor]
    decoder: bool  # whether the model has one
    encoder: VisionTransformer
    card: dict[str, Any]

    @property
    def size(self) -> ViTSize:
        """Raises ValueError for a model that timm computes."""
        return ViTSize.of_card(self.card["model"])


def default_place(name: str, form: Written) -> Path:
    """NAME-FORMAT in the current folder: a file, or a folder for the hub."""
    return Path(f"{name.replace('/', '-')}-{form}{FILE_ENDS.get(form, '.pth')}")


def model_folder(workspace: Workspace, name: str) -> Path:
    """The folder of a model, or of one of its seeds.

    Raises:
        BadInput: this is no name of either, or a run of several seeds.
    """
    run, _ = seed_of(name)
    if Path(run).name != run or run in ("", ".."):
        raise BadInput(
            f"export-weights: {name!r} is not the name of a folder in models/; `ls models` lists "
            "them"
        )
    encoders = workspace.encoders(name)
    if len(encoders) > 1 or (encoders and name not in encoders):
        raise BadInput(
            f"export-weights: {name} holds {len(encoders)} seeds; name one, such as {min(encoders)}"
        )
    return encoders.get(name, workspace.model(name))


def export_weights(folder: Path, form: Written, out: Path) -> list[str]:
    """Write a published model as another project reads it, into a file.

    Returns:
        What the user of the file should know, in lines.

    Raises:
        BadInput: this format cannot express the model without changing its features, or something
            lies at `out`.
    """
    refuse_taken(out)
    exported = converted(folder, form)
    with writing(out, new=True) as file:
        if form == "timm":
            metadata = {"mimic": json.dumps(exported.card, sort_keys=True)}
            if exported.encoder.plain:
                metadata["timm"] = json.dumps(timm_arguments(exported.size), sort_keys=True)
            file.write(safetensors.torch.save(exported.weights, metadata=metadata))
        else:
            content: dict[str, Any] = {"model": exported.weights}
            if form in CROCO_ARGUMENTS:
                content["croco_kwargs"] = _croco_kwargs(exported)
            if form in ("mae", "croco"):  # what no argument of theirs in the file says
                content["mimic"] = _unsaid(form, exported)
            torch.save(content, file)
    return notes(form, exported)


def refuse_taken(out: Path) -> None:
    """Before any work is done, and again at the end.

    Raises:
        BadInput: something lies at `out`.
    """
    if out.is_dir():
        raise BadInput(f"--out {out}: is there already; name a new file in this folder")
    if os.path.lexists(out):
        raise BadInput(f"--out {out}: {THERE}")


def converted(folder: Path, form: Written) -> Exported:
    """A published model under another project's names.

    Raises:
        BadInput: this format cannot express the model without changing its features.
    """
    encoder, card = load_encoder(folder)
    card = present_terms(card, folder)
    card.pop("weights", None)  # of files that stay here
    state = {key: value.detach().contiguous() for key, value in encoder.state_dict().items()}
    decoder = _decoder_weights(folder)
    # The others' have the same names, and would be run in another order.
    elsewhere = decoder if network_of(card) in KNOWN_ELSEWHERE else None
    try:
        _refuse_other_layers(form, encoder, card)
        written = _convert(form, state, elsewhere, encoder)
    except ValueError as error:
        raise BadInput(f"{folder}: --format {form}: {error}") from None
    return Exported(written, decoder is not None, encoder, card)


def present_terms(card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The card of a model with what the workspace's own licences answer now."""
    workspaces = (above.parent for above in folder.absolute().parents if above.name == "models")
    params = next(workspaces, folder) / terms.STATED_HERE
    stated = {licence.stated_by for _, licence in licences.parts_of(card)}
    if terms.STATED_HERE not in stated or not params.exists():
        return card
    return terms.present(load_params(params), card)


def _refuse_other_layers(form: Written, encoder: VisionTransformer, card: dict[str, Any]) -> None:
    if form not in FIXED_EPS:
        return
    if not encoder.plain:
        raise ValueError(
            f"timm computes this model ({card['model']['timm']}), and that code cannot; use "
            "--format timm or hub"
        )
    if card["model"]["norm_eps"] != timm_config.NORM_EPS:
        raise ValueError(
            f"its layer norms have an epsilon of {card['model']['norm_eps']:g} and that code takes "
            f"{timm_config.NORM_EPS:g}: features would change; use --format timm"
        )


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
    state: dict[str, Tensor],
    decoder: dict[str, Tensor] | None,
    encoder: VisionTransformer,
) -> dict[str, Tensor]:
    def timm() -> dict[str, Tensor]:
        return checkpoint_formats.to_timm(state, encoder.heads) if encoder.plain else state

    ways: dict[str, Callable[[], dict[str, Tensor]]] = {
        "timm": timm,
        "hub": timm,
        "mae": lambda: checkpoint_formats.to_mae(state, decoder),
        "croco": lambda: checkpoint_formats.to_croco(state, decoder),
        "dust3r": lambda: checkpoint_formats.to_dust3r(state, decoder),
        "multimae": lambda: checkpoint_formats.to_multimae(state, encoder.grid),
        "vitpose": lambda: checkpoint_formats.to_vitpose(state, encoder.grid),
    }
    return {key: value.detach().clone() for key, value in ways[form]().items()}


def notes(form: Written, exported: Exported) -> list[str]:
    """What the user of an export should know, in lines."""
    lines = []
    if form == "croco" and exported.size.positions == "sincos":
        lines.append(
            "its positions are sin-cos tables (pos_embed cosine): DUSt3R and MASt3R need RoPE "
            "(model.positions: rope) and would silently ignore these tables"
        )
    if form == "dust3r" and not any(key.startswith("dec_blocks.") for key in exported.weights):
        lines.append("it has no decoder with cross-attention: theirs start from random weights")
    elif exported.decoder and not any(
        "decoder" in key or key.startswith("dec_") for key in exported.weights
    ):
        lines.append("this format has no decoder: it was left out")
    if form == "dust3r":
        lines.append(
            "it was trained on images normalised with ImageNet's mean and deviation, as CroCo's "
            "own weights; DUSt3R's loaders use 0.5"
        )
    if form == "multimae":
        lines.append("MultiMAE has no final norm: it was left out")
        if "global_tokens" not in exported.weights:
            lines.append("no class token: build MultiMAE with num_global_tokens=0")
    if form == "vitpose":
        lines.append(
            "the position embedding was resized to 16 x 12 patches; ViTPose ignores the class token"
        )
    return lines


def timm_arguments(size: ViTSize) -> dict[str, Any]:
    """What lies in a timm file beside its weights: the class, its arguments, and the epsilon of its
    layer norms."""
    return {
        "architecture": timm_config.ARCHITECTURES[size.positions],
        "class": timm_config.CLASSES[size.positions],
        "model_args": timm_config.class_kwargs(size),
        "norm_eps": size.norm_eps,
    }


def _croco_kwargs(exported: Exported) -> dict[str, Any]:
    """The arguments CroCoNet is built with; its released files carry them, and its reader needs
    them."""
    size = exported.card["model"]
    kwargs = {
        "img_size": tuple(size["size_px"]),
        "patch_size": size["patch_px"],
        "enc_embed_dim": size["width"],
        "enc_depth": size["depth"],
        "enc_num_heads": size["heads"],
        "pos_embed": _croco_positions(size),
    }
    if size.get("decoder_width") and network_of(exported.card) == "croco":
        kwargs |= {
            "dec_embed_dim": size["decoder_width"],
            "dec_depth": size["decoder_depth"],
            "dec_num_heads": size["decoder_heads"],
        }
        kwargs |= {"mask_ratio": exported.card["mask_ratio"]}
    return kwargs


def _unsaid(form: Written, exported: Exported) -> dict[str, Any]:
    """Numbers of the model that a file of this format has no place for."""
    size = exported.card["model"]
    of_encoder = ("heads", "size_px", "norm_eps") if form == "mae" else ()
    of_decoder = ("mask_ratio", "visible_rounding", "norm_pix_loss") if exported.decoder else ()
    heads = {"decoder_heads": size["decoder_heads"]} if exported.decoder and form == "mae" else {}
    stated = {name: size[name] for name in of_encoder} | heads
    return stated | {name: exported.card[name] for name in of_decoder if name in exported.card}


def _croco_positions(size: Mapping[str, Any]) -> str:
    if size["positions"] == "sincos":
        return "cosine"
    base = float(size.get("rope_base", ROPE_BASE))
    return f"RoPE{int(base) if base.is_integer() else base!r}"
