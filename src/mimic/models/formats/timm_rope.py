"""Queries and keys of rotary attention in timm's order of channels, and back.

A head of d channels holds two halves, one that turns with the row and one that turns with the
column. In CroCo v2 and here channels k and k + d/4 of one half form a plane. timm's Eva (with
`rope_rotate_half`) pairs channel k with k + d/2, so that its first d/4 channels are the first ones
of the row planes, the next d/4 those of the column planes, and so on: rows of the projections to
queries and keys move within their head by [0:d/4, d/2:3d/4, d/4:d/2, 3d/4:d]. Scores are sums over
the channels of a head, so no other weight changes. The order is its own inverse.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

PROJECTION = ".attn.qkv."


def reordered(weights: Mapping[str, Tensor], heads: int) -> dict[str, Tensor]:
    """An encoder's weights with the rows of its queries and keys in the other order.

    Args:
        weights: under timm's keys, with queries, keys and values in one projection.
    """
    return {
        key: _queries_and_keys(value, heads) if PROJECTION in key else value
        for key, value in weights.items()
    }


def _queries_and_keys(value: Float[Tensor, "three_c *k"], heads: int) -> Tensor:
    """Weights or biases of the projection to queries, keys and values."""
    q, k, v = value.chunk(3)
    return torch.cat([_within_heads(q, heads), _within_heads(k, heads), v])


def _within_heads(rows: Float[Tensor, "c *k"], heads: int) -> Tensor:
    first, second, third, fourth = rows.unflatten(0, (heads, -1)).chunk(4, dim=1)
    return torch.cat([first, third, second, fourth], dim=1).flatten(0, 1)
