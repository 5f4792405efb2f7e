"""The decoder that both objectives share: mask tokens, positions, blocks, a prediction of every
patch's pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mimic.models.layers import (
    Block,
    CrossBlock,
    fixed_positions,
    gather,
    resample_positions,
    rope_table,
)
from mimic.models.spec import ViTSize


class Decoder(nn.Module):
    """Predicts the pixels of all patches from the visible ones and, if `cross`, from a second view.

    Args:
        size: of the whole model. The encoder's class token, if it has one, stays in the query and
            in the memory (MIMIC).
        cross: with attention to a second view (CroCo), or without (MAE).
        attention: as in the encoder.
    """

    def __init__(self, size: ViTSize, *, cross: bool, attention: str) -> None:
        super().__init__()
        width = size.decoder_width
        self.grid = size.grid
        self.width = width
        self.head_width = width // size.decoder_heads
        self.class_token = size.class_token
        self.cross = cross
        self.rope_base = size.rope_base
        self.embed = nn.Linear(size.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = fixed_positions(size, width)
        block = CrossBlock if cross else Block
        self.blocks = nn.ModuleList(
            block(width, size.decoder_heads, size.norm_eps, attention)
            for _ in range(size.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=size.norm_eps)
        self.pred = nn.Linear(width, size.patch_px * size.patch_px * 3)

    def forward(
        self,
        visible: Float[Tensor, "b k c"],
        restore: Int[Tensor, "b n"],
        memory: Float[Tensor, "b s c"] | None,
    ) -> Float[Tensor, "b n d"]:
        """
        Args:
            visible: the encoder's tokens of the masked view.
            restore: from `masking.split`.
            memory: the encoder's tokens of the second view; None exactly when not `cross`.

        Returns:
            Predicted pixels of every patch, hidden or not, in patch order.
        """
        first = int(self.class_token)
        x = self.embed(visible)
        patches = torch.cat(
            [
                x[:, first:],
                self.mask_token.to(x.dtype).expand(
                    len(x), restore.shape[1] + first - x.shape[1], -1
                ),
            ],
            dim=1,
        )
        x = self._place(torch.cat([x[:, :first], gather(patches, restore)], dim=1))
        rope = None if self.pos_embed is not None else self._rope(self.grid, x)
        if self.cross:
            assert memory is not None
            memory = self._place(self.embed(memory))
            for block in self.blocks:
                x = block(x, memory, rope)
        else:
            for block in self.blocks:
                x = block(x, rope)
        return self.pred(self.norm(x[:, first:]))

    def stages(
        self, tokens: Float[Tensor, "b t c"], memory: Float[Tensor, "b t c"], grid: tuple[int, int]
    ) -> list[Float[Tensor, "b t d"]]:
        """What each block makes of two whole views, nothing hidden, on any grid; the last after the
        norm. Needs `cross`."""
        x, memory, rope = self._prepared(tokens, memory, grid)
        outputs = []
        for block in self.blocks:
            x = block(x, memory, rope)
            outputs.append(x)
        return [*outputs[:-1], self.norm(outputs[-1])]

    def attention(
        self, tokens: Float[Tensor, "b t c"], memory: Float[Tensor, "b t c"], grid: tuple[int, int]
    ) -> Float[Tensor, "b t t"]:
        """From each token of the first view to each of the second: the mean over heads and blocks
        of the cross-attention. Needs `cross`."""
        x, memory, rope = self._prepared(tokens, memory, grid)
        weights = []
        for block in self.blocks:
            assert isinstance(block, CrossBlock)
            weights.append(block.cross_weights(x, memory, rope).mean(dim=1))
            x = block(x, memory, rope)
        return torch.stack(weights).mean(dim=0)

    def _prepared(
        self, tokens: Tensor, memory: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Both views embedded and placed on `grid`, and its rotary positions."""
        if not self.cross:
            raise ValueError("a decoder without cross-attention has not seen a second view")
        x = self.embed(tokens)
        memory = self.embed(memory)
        if self.pos_embed is None:
            return x, memory, self._rope(grid, x)
        first = int(self.class_token)
        table = torch.cat(
            [
                self.pos_embed[:, :first],
                resample_positions(self.pos_embed[:, first:], self.grid, grid),
            ],
            dim=1,
        )
        return x + table, memory + table, None

    def _place(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        return x if self.pos_embed is None else x + self.pos_embed

    def _rope(self, grid: tuple[int, int], x: Tensor) -> Float[Tensor, "2 1 t d"]:
        return rope_table(
            grid,
            self.head_width,
            x.device,
            class_token=self.class_token,
            base=self.rope_base,
            dtype=x.dtype,
        )
