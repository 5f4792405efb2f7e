"""The encoder: a plain vision transformer whose weights are timm's, key by key.

    vit = timm.models.VisionTransformer(**card["timm"]["kwargs"])
    vit.load_state_dict(encoder.state_dict(), strict=True)

gives equal `forward_features` (tested). timm itself is not needed here. With rotary positions
(CroCo v2) the twin is timm's Eva, whose queries and keys have another order (`formats.timm_rope`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from mimic.models.layers import (
    Block,
    PatchEmbed,
    fixed_positions,
    gather,
    resample_positions,
    rope_table,
)
from mimic.models.spec import ViTSize, patch_grid

IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, RGB, of values in 0..1
IMAGE_STD = (0.229, 0.224, 0.225)


@runtime_checkable
class Encoder(Protocol):
    """What a downstream task may rely on. Images are normalised (`normalise`), float, [b, 3, h, w],
    with sides that `patch_px` divides."""

    patch_px: int
    width: int
    depth: int
    heads: int
    size_px: tuple[int, int]  # (h, w) it was trained at; other sizes work
    class_token: bool

    def intermediates(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Patch tokens as they leave the given blocks (0 = first), before the final norm, as [b, c,
        h / patch, w / patch]."""
        ...

    def tokens(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """The class token [b, c] (None without one) and the patch tokens [b, n, c] in row-major
        order, after the final norm."""
        ...


@lru_cache
def on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Constants, sent to a device once: sending them at every step would make the processor wait
    for a GPU each time."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def image_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """IMAGE_MEAN and IMAGE_STD."""
    return on_device(IMAGE_MEAN, device), on_device(IMAGE_STD, device)


def normalise(images: UInt8[Tensor, "... h w 3"]) -> Float[Tensor, "... 3 h w"]:
    """RGB bytes, channels last, to the encoder's input: fp32, channels first, ImageNet mean and
    deviation."""
    mean, std = (values * 255 for values in image_statistics(images.device))
    return ((images - mean) / std).movedim(-1, -3)


def denormalise(images: Float[Tensor, "... 3 h w"]) -> UInt8[Tensor, "... h w 3"]:
    """The inverse of `normalise`, rounded and clipped to bytes."""
    mean, std = (values * 255 for values in image_statistics(images.device))
    return (images.movedim(-3, -1) * std + mean).round().clamp(0, 255).to(torch.uint8)


class VisionTransformer(nn.Module):
    """ViT encoder, tiny to ViT-L by numbers; satisfies `Encoder`.

    Args:
        size: its numbers; those of the decoder are ignored.
        attention: "auto", "sdpa" or "manual", see `layers.attend`.
    """

    plain = True  # nothing in it but what is declared here, so that a task may change its parts

    def __init__(self, size: ViTSize, *, attention: str) -> None:
        super().__init__()
        width = size.width
        self.size_px = size.size_px
        self.patch_px = size.patch_px
        self.width = width
        self.depth = size.depth
        self.heads = size.heads
        self.class_token = size.class_token
        self.positions = size.positions
        self.rope_base = size.rope_base
        self.grid = size.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if size.class_token else None
        self.pos_embed = fixed_positions(size, width)
        self.patch_embed = PatchEmbed(size.patch_px, width)
        self.blocks = nn.ModuleList(
            Block(width, size.heads, size.norm_eps, attention) for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(width, eps=size.norm_eps)

    @property
    def final_norm(self) -> nn.Module:
        """Of every token after the last block."""
        return self.norm

    def grid_of(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Patches down and across an image."""
        return patch_grid((height_px, width_px), self.patch_px)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], keep: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b t c"]:
        """All tokens after the final norm, the class token first if there is one.

        Args:
            keep: per image the indices of the patches to encode, in any order; None = all.
        """
        x, rope = self._embed(images, keep)
        for block in self.blocks:
            x = block(x, rope)
        return self.norm(x)

    def tokens(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c"] | None, Float[Tensor, "b n c"]]:
        """See `Encoder.tokens`."""
        x = self(images)
        return (x[:, 0], x[:, 1:]) if self.class_token else (None, x)

    def intermediates(
        self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int]
    ) -> list[Float[Tensor, "b c rows columns"]]:
        """See `Encoder.intermediates`; blocks after the last one asked for are not run."""
        x, rope = self._embed(images, None)
        grid = self.grid_of(*images.shape[-2:])
        maps = {}
        for index, block in enumerate(self.blocks[: max(blocks) + 1]):
            x = block(x, rope)
            if index in blocks:
                maps[index] = x[:, int(self.class_token) :].transpose(1, 2).unflatten(2, grid)
        return [maps[index] for index in blocks]

    def _embed(
        self, images: Float[Tensor, "b 3 h w"], keep: Int[Tensor, "b k"] | None
    ) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "2 b1 t d"] | None]:
        """Tokens that enter the first block, and their rotary positions."""
        grid = self.grid_of(*images.shape[-2:])
        x = self.patch_embed(images)
        rope = None
        if self.pos_embed is not None:
            x = x + resample_positions(self.pos_embed[:, int(self.class_token) :], self.grid, grid)
        else:
            head = self.width // self.heads
            rope = rope_table(
                grid, head, x.device, class_token=False, base=self.rope_base, dtype=x.dtype
            )
        if keep is not None:
            x = gather(x, keep)
            rope = None if rope is None else gather(rope, keep)
        if self.cls_token is not None:
            first = (
                self.cls_token if self.pos_embed is None else self.cls_token + self.pos_embed[:, :1]
            )
            x = torch.cat([first.expand(len(x), -1, -1), x], dim=1)
            rope = None if rope is None else _unturned_first(rope)
        return x, rope


def _unturned_first(rope: Float[Tensor, "2 b n d"]) -> Float[Tensor, "2 b t d"]:
    """Put the class token's rotation, none, first."""
    none = torch.zeros_like(rope[:, :, :1])
    none[0] = 1
    return torch.cat([none, rope], dim=2)
