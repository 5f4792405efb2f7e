"""How the field names the weights of these models, and the way from each name to ours and back.
Dictionaries in, dictionaries out.

    timm      cls_token pos_embed patch_embed.* blocks.N.* norm.*
            our encoder's own names; of a rotary encoder, queries and keys in timm's order, see
            `timm_rope`
    mae       the same, and mask_token decoder_embed.* decoder_pos_embed decoder_blocks.N.*
              decoder_norm.* decoder_pred.*
    mimic     as mae, but decoder_blocks_croco.N.* with cross-attention
    vit, vit_mae   Hugging Face's, see `hugging_face`
    croco     enc_blocks.N.* enc_norm.* dec_blocks.N.* dec_norm.* prediction_head.*; tables
              enc_pos_embed, dec_pos_embed without a batch
              axis; v2 has neither table, its positions are rotary
    dust3r  as croco v2, with a second decoder and heads of its own, see `dust3r`

In all of them attention, its projections, the MLP and the order of pixels inside a patch agree, so
that a way is a renaming. Two more are written only: multimae (encoder.N.*, input_adapters.rgb.*)
and vitpose (a table for 256 x 192 images).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mimic.models.formats import dust3r, hugging_face, timm_rope, unlike
from mimic.models.formats.prefixes import few

Weights = Mapping[str, Tensor]
Read = Literal["timm", "mae", "mimic", "croco", "dust3r", "vit", "vit_mae"]
Written = Literal["timm", "hub", "mae", "croco", "dust3r", "multimae", "vitpose"]

TO_OURS: dict[str, tuple[tuple[str, str], ...]] = {
    "mae": (
        (r"^mask_token$", "decoder.mask_token"),
        (r"^decoder_pos_embed$", "decoder.pos_embed"),
        (r"^decoder_embed\.", "decoder.embed."),
        (r"^decoder_blocks(_croco)?\.", "decoder.blocks."),
        (r"^decoder_norm\.", "decoder.norm."),
        (r"^decoder_pred\.", "decoder.pred."),
    ),
    "croco": (
        (r"^mask_token$", "decoder.mask_token"),
        (r"^dec_pos_embed$", "decoder.pos_embed"),
        (r"^decoder_embed\.", "decoder.embed."),
        (r"^dec_blocks\.", "decoder.blocks."),
        (r"^dec_norm\.", "decoder.norm."),
        (r"^prediction_head\.", "decoder.pred."),
        (r"^enc_pos_embed$", "encoder.pos_embed"),
        (r"^enc_blocks\.", "encoder.blocks."),
        (r"^enc_norm\.", "encoder.norm."),
    ),
}
FROM_OURS = {
    "mae": {
        "mask_token": "mask_token",
        "pos_embed": "decoder_pos_embed",
        "embed": "decoder_embed",
        "norm": "decoder_norm",
    }
    | {"pred": "decoder_pred"},
    "croco": {
        "mask_token": "mask_token",
        "pos_embed": "dec_pos_embed",
        "embed": "decoder_embed",
        "norm": "dec_norm",
    }
    | {"pred": "prediction_head", "blocks": "dec_blocks"},
}
OBJECTIVE_OF = {  # whose network a file's names are of, where they tell
    "mae": "mae",
    "vit_mae": "mae",
    "mimic": "croco",
    "croco": "croco",
    "dust3r": "croco",
}
POSE_GRID = (16, 12)  # patches of a 256 x 192 image


@dataclass(frozen=True)
class Translated:
    """A foreign checkpoint in our names ("encoder.*", "decoder.*"), and what it was.

    Attributes:
        left_out: parts that no model here has.
        zero: weights that no file of this kind holds; they are zero.
    """

    dialect: Read
    weights: dict[str, Tensor]
    left_out: list[str] = field(default_factory=list)
    zero: list[str] = field(default_factory=list)

    @property
    def has_decoder(self) -> bool:
        return any(key.startswith("decoder.") for key in self.weights)


def translate(weights: Weights, of_dust3r: bool = False) -> Translated:
    """Recognise a checkpoint by its keys and rename it.

    Args:
        of_dust3r: what lies around the weights says so; an encoder alone has CroCo's keys.

    Raises:
        ValueError: it is of no family known here, or two of its keys are one of ours.
    """
    unlike.refuse(weights)
    dialect = _dialect(weights)
    if dialect == "croco" and of_dust3r:
        dialect = "dust3r"
    if dialect in ("vit", "vit_mae"):
        return Translated(dialect, hugging_face.to_ours(weights))
    if dialect == "dust3r":
        renamed, left_out, zero = dust3r.to_croco(weights)
        rules = TO_OURS["croco"]
        zero = [_renamed(key, rules) for key in zero]
        return Translated(dialect, _all_renamed(renamed, rules), left_out, zero)
    return Translated(
        dialect, _all_renamed(weights, TO_OURS.get("mae" if dialect == "mimic" else dialect, ()))
    )


def _all_renamed(weights: Weights, rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    for key, value in weights.items():
        ours = _renamed(key, rules)
        if ours in sources:
            raise ValueError(
                f"it holds {sources[ours]} and {key}, of which a model here has one, as of two "
                "decoders in one file; keep one in it"
            )
        sources[ours] = key
        renamed[ours] = value
    for key in ("encoder.pos_embed", "decoder.pos_embed"):
        if key in renamed and renamed[key].ndim == 2:
            renamed[key] = renamed[key][None]
    return renamed


def _dialect(weights: Weights) -> Read:
    if "enc_blocks.0.norm1.weight" in weights:
        return "dust3r" if dust3r.is_trained(weights) else "croco"
    if hugging_face.SIGN in weights or f"vit.{hugging_face.SIGN}" in weights:
        return "vit_mae" if "decoder.mask_token" in weights else "vit"
    if "blocks.0.norm1.weight" not in weights or "patch_embed.proj.weight" not in weights:
        raise ValueError(
            "no vision transformer in the names of MAE, CroCo, DUSt3R, MIMIC, timm or Hugging "
            f"Face; its first keys: {few(weights)};"
            " say --key or --prefix if its weights lie deeper, or --timm NAME if timm has this "
            "model"
        )
    if "decoder_blocks_croco.0.norm1.weight" in weights:
        return "mimic"
    return "mae" if "decoder_blocks.0.norm1.weight" in weights else "timm"


def _renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in rules:
        renamed, count = re.subn(pattern, ours, key)
        if count:
            return renamed
    return f"encoder.{key}"


def to_timm(encoder: Weights, heads: int) -> dict[str, Tensor]:
    """Our encoder is timm's, key by key; rotary queries and keys take timm's order."""
    return dict(encoder) if "pos_embed" in encoder else timm_rope.reordered(encoder, heads)


def to_mae(encoder: Weights, decoder: Weights | None) -> dict[str, Tensor]:
    """MAE's names; a decoder with cross-attention gets MIMIC's.

    Raises:
        ValueError: no class token, which models in this format have, or rotary positions.
    """
    if "cls_token" not in encoder or "pos_embed" not in encoder:
        what = "class token" if "cls_token" not in encoder else "table of positions"
        raise ValueError(
            f"models in this format have a {what} and this encoder has none: features would "
            "change; use --format croco"
        )
    cross = decoder is not None and "blocks.0.norm_y.weight" in decoder
    names = FROM_OURS["mae"] | {"blocks": "decoder_blocks_croco" if cross else "decoder_blocks"}
    return dict(encoder) | _named(decoder, names)


def to_croco(encoder: Weights, decoder: Weights | None) -> dict[str, Tensor]:
    """CroCo's names, v1 with tables of positions or v2 without; a decoder only with
    cross-attention.

    Raises:
        ValueError: a class token, which models in this format do not have.
    """
    if "cls_token" in encoder:
        raise ValueError(
            "models in this format have no class token and this encoder has one: features would "
            "change; use --format mae"
        )
    renames = {"pos_embed": "enc_pos_embed", "blocks": "enc_blocks", "norm": "enc_norm"}
    renamed = _named(encoder, renames | {"patch_embed": "patch_embed"})
    if decoder is not None and "blocks.0.norm_y.weight" in decoder:
        renamed |= _named(decoder, FROM_OURS["croco"])
    return {
        key: value[0] if key.endswith("_pos_embed") else value for key, value in renamed.items()
    }


def to_dust3r(encoder: Weights, decoder: Weights | None) -> dict[str, Tensor]:
    """What DUSt3R and MASt3R start from, see `dust3r`.

    Raises:
        ValueError: tables of positions, or a class token.
    """
    return dust3r.from_croco(to_croco(encoder, decoder))


def _named(weights: Weights | None, names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in (weights or {}).items():
        first, _, rest = key.partition(".")
        renamed[f"{names[first]}.{rest}" if rest else names[first]] = value
    return renamed


def _position_table(encoder: Weights) -> Tensor:
    """f32 [1, tokens, width], the class token's first."""
    if "pos_embed" not in encoder:
        raise ValueError(
            "models in this format add a table of positions and this encoder has rotary ones; use "
            "--format croco"
        )
    return encoder["pos_embed"]


def to_multimae(encoder: Weights, grid: tuple[int, int]) -> dict[str, Tensor]:
    """MultiMAE's names. It has no final norm, which is left out; without a class token, build it
    with num_global_tokens=0.

    Raises:
        ValueError: rotary positions.
    """
    table = _position_table(encoder)
    first = int("cls_token" in encoder)
    renamed = {
        f"input_adapters.rgb.{key.removeprefix('patch_embed.')}": encoder[key]
        for key in encoder
        if key.startswith("patch_embed.")
    }
    renamed |= {
        f"encoder.{key.removeprefix('blocks.')}": encoder[key]
        for key in encoder
        if key.startswith("blocks.")
    }
    positions = table[:, first:]
    renamed["input_adapters.rgb.pos_emb"] = (
        positions.transpose(1, 2).unflatten(2, grid).contiguous()
    )
    if first:
        renamed["global_tokens"] = encoder["cls_token"] + table[:, :1]
    return renamed


def to_vitpose(encoder: Weights, grid: tuple[int, int]) -> dict[str, Tensor]:
    """ViTPose's backbone: no class token in the forward pass, its position added to all patches, a
    table of 16 x 12 patches.

    Raises:
        ValueError: rotary positions.
    """
    table = _position_table(encoder)
    first = int("cls_token" in encoder)
    patches = table[:, first:].transpose(1, 2).unflatten(2, grid).float()
    resized = (
        torch.nn.functional.interpolate(patches, POSE_GRID, mode="bicubic", align_corners=False)
        .flatten(2)
        .transpose(1, 2)
    )
    head = table[:, :1] if first else torch.zeros_like(table[:, :1])
    backbone = {
        key: value for key, value in encoder.items() if key.startswith(("patch_embed.", "blocks."))
    }
    norm = {
        f"last_norm.{key.removeprefix('norm.')}": value
        for key, value in encoder.items()
        if key.startswith("norm.")
    }
    return backbone | norm | {"pos_embed": torch.cat([head.float(), resized], dim=1)}
