"""Hugging Face's names of ViT and ViT-MAE, and the way to ours. Queries, keys and values lie apart
there.

vit.embeddings.*  vit.encoder.layer.N.*  vit.layernorm.*
        the first word only where a head is beside
decoder.decoder_layers.N.* or decoder.decoder_encoder.layer.N.*  decoder.decoder_{embed,norm,pred}.*
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

SIGN = "embeddings.patch_embeddings.projection.weight"
PLACES = (
    (r"^(vit\.)?embeddings\.cls_token$", "encoder.cls_token"),
    (r"^(vit\.)?embeddings\.position_embeddings$", "encoder.pos_embed"),
    (r"^(vit\.)?embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    (r"^(vit\.)?encoder\.layer\.", "encoder.blocks."),
    (r"^(vit\.)?(layernorm|norm)\.", "encoder.norm."),
    (r"^decoder\.(decoder_layers|decoder_encoder\.layer)\.", "decoder.blocks."),
    (r"^decoder\.decoder_", "decoder."),
)
PARTS = (
    (".attention.output.dense.", ".attn.proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
)
APART = re.compile(r"^(.*\.blocks\.\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)$")


def to_ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names; a name that is none of Hugging Face's stays, and has no place.

    Raises:
        ValueError: a block lacks its queries, keys or values.
    """
    renamed: dict[str, Tensor] = {}
    apart: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        name = _renamed(key)
        match = APART.match(name)
        if match is None:
            renamed[name] = value
        else:
            apart.setdefault(f"{match[1]}.attn.qkv.{match[3]}", {})[match[2]] = value
    for name, parts in apart.items():
        renamed[name] = _together(name, parts)
    return renamed


def _together(name: str, parts: Mapping[str, Tensor]) -> Tensor:
    order = ("query", "key", "value")
    missing = [part for part in order if part not in parts]
    if missing:
        raise ValueError(f"{name}: the file holds no {', '.join(missing)} of this block")
    return torch.cat([parts[part] for part in order])


def _renamed(key: str) -> str:
    for pattern, ours in PLACES:
        key, count = re.subn(pattern, ours, key)
        if count:
            break
    for theirs, ours in PARTS:
        key = key.replace(theirs, ours)
    return key
