"""DUSt3R's and MASt3R's names of weights: CroCo's, with a second decoder and heads of their own.

    patch_embed.proj.*  enc_blocks.N.*  enc_norm.*  decoder_embed.*  mask_token (frozen, unused)
    dec_blocks.N.*      the decoder of the first view
    dec_blocks2.N.*     that of the second view; where a file lacks it, it starts as a copy
    dec_norm.*          of both decoders
    downstream_head1.*  downstream_head2.*     points, confidence, descriptors

All positions are rotary. There is no prediction of pixels. Both decoders run at the same time, each
block attending to what the other decoder has made of the other view; CroCo's decoder attends to the
second view as it left the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD

SECOND = "dec_blocks2."
HEADS = ("downstream_head1.", "downstream_head2.")
PIXELS = (0.5, 0.5)  # mean and deviation that DUSt3R's images are normalised with
PREDICTION = "prediction_head."


def is_trained(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of DUSt3R or MASt3R, and not those it starts from."""
    return any(key.startswith((SECOND, *HEADS)) for key in weights)


def to_croco(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The encoder and the first decoder in CroCo's names.

    Images here are normalised with ImageNet's statistics; the projection of patches absorbs the
    difference, so that features of an image are equal.

    Returns:
        Weights, what was left out, and what no file of this kind holds and is zero.
    """
    left_out = [
        f"{prefix}* ({count} tensors)"
        for prefix in (SECOND, *HEADS)
        if (count := sum(key.startswith(prefix) for key in weights))
    ]
    kept = {key: value for key, value in weights.items() if not key.startswith((SECOND, *HEADS))}
    kept |= _for_our_pixels(kept)
    return kept, left_out, _fill(kept)


def _for_our_pixels(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The projection of patches for pixels (p - IMAGE_MEAN) / IMAGE_STD instead of PIXELS'."""
    weight = weights.get("patch_embed.proj.weight")
    bias = weights.get("patch_embed.proj.bias")
    if weight is None or bias is None or weight.ndim != 4 or weight.shape[1] != len(IMAGE_MEAN):
        return {}  # refused later, by its shape
    mean, deviation = PIXELS
    scale = torch.tensor(IMAGE_STD, dtype=torch.float64) / deviation
    shift = (torch.tensor(IMAGE_MEAN, dtype=torch.float64) - mean) / deviation
    exact = weight.double()
    moved = bias.double() + (exact.sum(dim=(2, 3)) * shift).sum(dim=1)
    return {
        "patch_embed.proj.weight": (exact * scale[:, None, None]).to(weight.dtype),
        "patch_embed.proj.bias": moved.to(bias.dtype),
    }


def _fill(weights: dict[str, Tensor]) -> list[str]:
    """Put zeros where our decoder has weights and theirs has none; names what it put there."""
    embed = weights.get("decoder_embed.weight")
    patches = weights.get("patch_embed.proj.weight")
    if embed is None or patches is None or "dec_norm.weight" not in weights:
        return []
    width = int(embed.shape[0])
    pixels = int(patches[0].numel())
    wanted = {
        "mask_token": (1, 1, width),
        f"{PREDICTION}weight": (pixels, width),
        f"{PREDICTION}bias": (pixels,),
    }
    missing = {key: shape for key, shape in wanted.items() if key not in weights}
    weights |= {key: embed.new_zeros(shape) for key, shape in missing.items()}
    return list(missing)


def from_croco(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What DUSt3R starts from: CroCo's names without the prediction of pixels, which it does not
    have. It copies dec_blocks to dec_blocks2 when it loads them.

    Raises:
        ValueError: tables of positions.
    """
    if "enc_pos_embed" in weights:
        raise ValueError(
            "DUSt3R and MASt3R turn queries and keys (RoPE), and this encoder adds tables of "
            "positions, which they would silently ignore; train with model: {positions: rope}"
        )
    return {key: value for key, value in weights.items() if not key.startswith(PREDICTION)}
