"""How a foreign model is built: from shapes, from what the file says of itself, and from what the
user says.

The user comes first, then the file, then the official code's defaults, then the published recipes.
Whatever only the last two tell is listed in `Numbers.assumed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from mimic.licences import UNSTATED, Licence
from mimic.models import ROPE_BASE, Masking, ViTSize
from mimic.models.formats.checkpoint_formats import Translated
from mimic.models.layers import TABLE_TOLERANCE, sincos_table
from mimic.models.spec import Rounding
from mimic.training.imported.self_description import UNSAID_PIXELS, stated_by
from mimic.training.imported.shown_sizes import require_as_stated

# Of the field's usual widths; no file of weights tells. Encoders of a width of 512 have 8 or 16.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
DECODER_HEADS = {**HEADS, 512: 16}  # MAE and CroCo
MASKING: dict[str, tuple[float, Rounding]] = {  # as published
    "mae": (0.75, "down"),
    "vit_mae": (0.75, "down"),
    "mimic": (0.9, "down"),
    "croco": (0.9, "up"),
    "dust3r": (0.9, "up"),  # of the weights it starts from
}


ENCODER_OF_CROCO = (
    "ImageNet's pixel statistics, as CroCo has; an encoder that was taken out of DUSt3R or MASt3R "
    "has others (give the complete file, or the folder with its config.json)"
)
MOCO_SMALL = 12  # heads of MoCo v3's ViT-S, of a width of 384, where all others have 6


@dataclass(frozen=True)
class ImportOverrides:
    """What the user says of a file because the file does not."""

    size_px: tuple[int, int] | None
    heads: int | None
    decoder_heads: int | None
    objective: str | None
    dataset: str | None
    key: str | None = None
    prefix: str | None = None
    rope_base: float | None = None
    mask_ratio: float | None = None
    norm_pix_loss: bool | None = None
    licence: Licence = UNSTATED


@dataclass(frozen=True)
class Numbers:
    """What the model is built with, and which of it nobody said."""

    size: ViTSize
    masking: Masking | None  # None: the file holds no decoder
    assumed: list[str]


def numbers_of(
    checkpoint: Translated, facts: Mapping[str, Any], overrides: ImportOverrides
) -> Numbers:
    """All numbers of a model.

    Raises:
        ValueError: shapes that are no vision transformer's, numbers that cannot be, or one that
            nobody tells.
    """
    stated = stated_by(facts)
    weights = checkpoint.weights
    assumed: list[str] = []
    if UNSAID_PIXELS in stated and not _is_of_mae(checkpoint):
        assumed.append(stated[UNSAID_PIXELS])
    if checkpoint.dialect == "croco" and not checkpoint.has_decoder and "enc_depth" not in stated:
        assumed.append(ENCODER_OF_CROCO)
    width, patch_px = _patches(weights)
    positions = weights.get("encoder.pos_embed")
    size_px = _size(weights, patch_px, stated, overrides.size_px, assumed)
    stated_heads = stated.get("enc_num_heads", _heads_of_moco(checkpoint, facts))
    heads = _heads(width, overrides.heads, stated_heads, "--heads", assumed)
    sizes: dict[str, Any] = {
        "size_px": size_px,
        "patch_px": patch_px,
        "width": width,
        "depth": _depth(weights, "encoder"),
        "heads": heads,
        "class_token": "encoder.cls_token" in weights,
        "positions": "rope" if positions is None else "sincos",
        "norm_eps": float(stated.get("norm_eps", 1e-6)),
    }
    decoder_depth = _depth(weights, "decoder")
    has_decoder = "decoder.embed.weight" in weights
    if has_decoder:
        decoder_width = int(weights["decoder.embed.weight"].shape[0])
        sizes["decoder_width"] = decoder_width
        sizes["decoder_depth"] = decoder_depth
        sizes["decoder_heads"] = _heads(
            decoder_width,
            overrides.decoder_heads,
            stated.get("dec_num_heads"),
            "--decoder-heads",
            assumed,
        )
    if positions is None or overrides.rope_base is not None or "pos_embed" in stated:
        base = _rope_base(positions, stated.get("pos_embed"), overrides.rope_base, assumed)
        sizes |= {} if base is None else {"rope_base": base}
    require_as_stated(sizes, stated)
    masking = _masking(checkpoint, stated, overrides, assumed) if has_decoder else None
    return Numbers(ViTSize(**sizes), masking, assumed)


# ---------------------------------------------------------------------------- each number


def _is_of_mae(checkpoint: Translated) -> bool:
    """Whether a file with timm's names has a fixed table: such are the encoders of MAE's and
    MoCo-v3's code, which trains on ImageNet's pixel statistics. timm learns its tables."""
    positions = checkpoint.weights.get("encoder.pos_embed")
    if checkpoint.dialect != "timm" or positions is None:
        return False
    count = positions.shape[1] - int("encoder.cls_token" in checkpoint.weights)
    return _grid_of_table(positions, count) is not None


def _heads_of_moco(checkpoint: Translated, facts: Mapping[str, Any]) -> int | None:
    """Of a file of MoCo v3's code, which calls its ViT-S by that name alone."""
    is_small = facts.get("arch") == "vit_small" and _is_of_mae(checkpoint)
    return MOCO_SMALL if is_small else None


def _patches(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Width and side of a patch."""
    projection = weights["encoder.patch_embed.proj.weight"]
    if (
        projection.ndim != 4
        or projection.shape[1] != 3
        or projection.shape[2] != projection.shape[3]
    ):
        raise ValueError(
            f"patches are read by weights of shape {list(projection.shape)}; expected [width, 3, "
            "patch, patch]"
        )
    return int(projection.shape[0]), int(projection.shape[2])


def _size(
    weights: Mapping[str, Tensor],
    patch_px: int,
    stated: Mapping[str, Any],
    override: tuple[int, int] | None,
    assumed: list[str],
) -> tuple[int, int]:
    """Height and width: said, told, or what the table of positions shows; they must fit
    together."""
    _require_whole_patches(override, patch_px)
    written = stated.get("img_size")
    size_px = override or (None if written is None else _pair(written))
    positions = weights.get("encoder.pos_embed")
    if positions is None:
        if size_px is None:
            raise ValueError(
                "rotary positions do not tell the image size; say --size-px HEIGHT WIDTH"
            )
        return size_px
    count = positions.shape[1] - int("encoder.cls_token" in weights)
    shown = _grid_of_table(positions, count)
    if size_px is None:
        known = shown or _grid_of_inputs(count, patch_px, stated.get("input_size"))
        if known is None and "encoder.cls_token" in weights:
            _refuse_positions_without(positions.shape[1])
        rows, columns = known or _square(count, assumed)
        return rows * patch_px, columns * patch_px
    grid = size_px[0] / patch_px, size_px[1] / patch_px
    if shown is not None and grid != shown:
        fits = f"{shown[0] * patch_px} {shown[1] * patch_px}"
        raise ValueError(
            f"its table of positions is that of --size-px {fits}, not of {size_px[0]} x "
            f"{size_px[1]} px"
        )
    if grid[0] * grid[1] != count:
        if "encoder.cls_token" in weights and grid[0] * grid[1] == positions.shape[1]:
            _refuse_positions_without(positions.shape[1])
        raise ValueError(
            f"{size_px[0]} x {size_px[1]} px are not the {count} patches of {patch_px} px that it "
            "has positions for"
        )
    return size_px


def _require_whole_patches(override: tuple[int, int] | None, patch_px: int) -> None:
    """The product of two negative sides would pass for a number of patches."""
    if override and any(side < 1 or side % patch_px for side in override):
        raise ValueError(
            f"--size-px {override[0]} {override[1]}: height and width have to be positive "
            f"multiples of its patch of {patch_px} px"
        )


def _refuse_positions_without(count: int) -> None:
    """
    Raises:
        ValueError: so many positions are those of a square of patches, without a class token's.
    """
    if math.isqrt(count) ** 2 == count:
        raise ValueError(
            "its class token has no position, which plain models here have; import it with --timm "
            "NAME. If it has one, the patches lie in no square: say --size-px HEIGHT WIDTH"
        )


def _grid_of_inputs(count: int, patch_px: int, input_size: Any) -> tuple[int, int] | None:
    """The grid of the images that a learned table was trained on, if they are stated and fit.

    Args:
        input_size: as MAE's arguments (a side) or timm's config.json (channels, height, width)
            state it.
    """
    sides = [input_size, input_size] if isinstance(input_size, int) else input_size
    if isinstance(sides, list | tuple) and all(isinstance(side, int) for side in sides):
        rows, columns = ([0, 0, *(side // patch_px for side in sides)])[-2:]
        if min(rows, columns) > 0 and rows * columns == count:
            return rows, columns
    return None


def _square(count: int, assumed: list[str]) -> tuple[int, int]:
    """The grid of a learned table of which nothing is said."""
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"{count} positions are no square of patches; say --size-px HEIGHT WIDTH")
    assumed.append(
        f"a square grid of {side} x {side} patches, as it holds {count} positions and does not say "
        "how they lie (--size-px)"
    )
    return side, side


def _grid_of_table(positions: Tensor, count: int) -> tuple[int, int] | None:
    """The grid whose sine-cosine table this is; None for a learned table, which no formula
    tells."""
    width = int(positions.shape[2])
    table = positions[0, positions.shape[1] - count :]
    if width % 4:
        return None
    for rows in range(1, count + 1):
        if count % rows:
            continue
        formula = sincos_table((rows, count // rows), width, class_token=False)[0]
        if torch.allclose(table, formula, atol=TABLE_TOLERANCE, rtol=0):
            return rows, count // rows
    return None


def _pair(size: Any) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else size
    if (
        not isinstance(sides, list | tuple)
        or len(sides) != 2
        or not all(isinstance(side, int) and side > 0 for side in sides)
    ):
        raise ValueError(
            f"the file says an image size of {str(size)[:40]}; expected two numbers of pixels"
        )
    return sides[0], sides[1]


def _depth(weights: Mapping[str, Tensor], part: str) -> int:
    """Blocks of a part, counted without gaps; a missing one is found when the weights are
    compared."""
    prefix = f"{part}.blocks."
    numbers = {key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)}
    if not all(number.isdigit() and len(number) < 4 for number in numbers):
        raise ValueError(f"blocks are not numbered: {', '.join(sorted(numbers)[:3])}")
    return max(map(int, numbers)) + 1 if numbers else 0


def _heads(width: int, override: int | None, stated: Any, option: str, assumed: list[str]) -> int:
    heads = stated if override is None else override
    if heads is None:
        usual = HEADS if option == "--heads" else DECODER_HEADS
        if width not in usual:
            raise ValueError(
                f"weights of width {width} do not tell the number of attention heads; say {option}"
            )
        heads = usual[width]
        assumed.append(f"{heads} attention heads, usual at a width of {width} ({option})")
    if not isinstance(heads, int) or heads < 1 or width % heads:
        source = "the file says" if override is None else option
        raise ValueError(
            f"{source} {str(heads)[:20]} attention heads, which do not divide a width of {width}"
        )
    return heads


def _rope_base(
    positions: Tensor | None, stated: Any, override: float | None, assumed: list[str]
) -> float | None:
    """The base that rotary positions turn with; None for a table of positions."""
    if positions is not None:
        if override is not None or stated != "cosine":
            what = (
                f"--rope-base {override:g}"
                if override is not None
                else f"pos_embed {str(stated)[:20]!r}"
            )
            raise ValueError(
                f"{what} speaks of rotary positions, but the file holds a table of positions"
            )
        return None
    if override is not None:
        base = override
    elif stated is None:
        base = ROPE_BASE
        assumed.append(f"rotary positions of base {base:g}, as published (--rope-base)")
    else:
        base = _written_base(stated)
    if not (math.isfinite(base) and base > 1):
        raise ValueError(
            f"rotary positions of base {base:g}; expected a number above 1, as in RoPE100"
        )
    return base


def _written_base(stated: Any) -> float:
    """The number in CroCo's "RoPE100"."""
    try:
        if isinstance(stated, str) and stated.startswith("RoPE"):
            return float(stated.removeprefix("RoPE"))
    except ValueError:
        pass
    raise ValueError(
        f"pos_embed is {str(stated)[:20]!r}, but the file holds no table of positions; say "
        "--rope-base, such as 100"
    )


def _masking(
    checkpoint: Translated,
    stated: Mapping[str, Any],
    overrides: ImportOverrides,
    assumed: list[str],
) -> Masking:
    """How it was trained to complete images: recorded, and what the reconstruction task does with
    it."""
    if checkpoint.dialect not in MASKING:
        raise ValueError("it holds a decoder, and its names do not tell whose")
    ratio, rounding = MASKING[checkpoint.dialect]
    if overrides.mask_ratio is not None:
        ratio = overrides.mask_ratio
    elif "mask_ratio" in stated:
        ratio = stated["mask_ratio"]
    else:
        assumed.append(f"mask ratio {ratio:g}, as published (--mask-ratio)")
    if not isinstance(ratio, int | float) or not 0 < ratio < 1:
        raise ValueError(
            f"a mask ratio of {str(ratio)[:20]} hides all patches or none; say --mask-ratio"
        )
    rounding = stated.get("visible_rounding", rounding)
    if rounding not in get_args(Rounding):
        raise ValueError(f"visible_rounding is {str(rounding)[:20]!r}; expected up or down")
    normalised = (
        overrides.norm_pix_loss
        if overrides.norm_pix_loss is not None
        else stated.get("norm_pix_loss")
    )
    if normalised is None:
        normalised = True
        assumed.append("pixels normalised within their patch, as published (--norm-pix-loss)")
    if normalised not in (0, 1):
        raise ValueError(
            f"norm_pix_loss is {str(normalised)[:20]!r}; expected true or false; say "
            "--norm-pix-loss"
        )
    return Masking(mask_ratio=float(ratio), visible_rounding=rounding, norm_pix=bool(normalised))
