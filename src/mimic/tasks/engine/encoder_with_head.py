"""An encoder with a head for a task: what is frozen, which blocks the head reads, stochastic
depth.

The recipe of the multi-modal MAE line: no final norm, positions not trained, the class token
dropped before the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer

POSITIONS = "pos_embed"  # of the encoder: never trained
FINAL_NORM = ("norm.", "fc_norm.")  # of the encoder: trained only where it is read
FIRST_LAYER = (
    "encoder.patch_embed.",
    "encoder.cls_token",
    "encoder.reg_token",
    "encoder.pos_embed",
    "encoder.norm_pre.",
)


class EncoderWithHead(nn.Module):
    """An encoder with a head on the outputs of some of its blocks.

    Args:
        freeze: "none"; "blocks" trains the patch projection and class token beside the head (what
            the peers' flag does, stochastic depth stays on); "encoder" trains the head alone, on
            features made in eval mode without gradient.
        norm: the head reads the last of its blocks through the encoder's final norm, as linear
            probes and CroCo's own DPT do.
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        head: nn.Module,
        blocks: Sequence[int],
        freeze: str,
        drop_path: float,
        *,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.blocks = tuple(blocks)
        self.freeze = freeze
        self.norm = norm
        self.last_layer = encoder.depth + 1
        unread = (POSITIONS,) if norm else (POSITIONS, *FINAL_NORM)
        for name, parameter in encoder.named_parameters():
            fixed = (
                name.startswith(unread)
                or freeze == "encoder"
                or (freeze == "blocks" and name.startswith("blocks."))
            )
            parameter.requires_grad_(not fixed)
        if drop_path and freeze != "encoder":
            add_drop_path(encoder, drop_path)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def layer_of(self, name: str) -> int:
        """0: patch projection, class token, positions; i + 1: block i; `last_layer`: everything
        else."""
        if name.startswith("encoder.blocks."):
            return int(name.split(".")[2]) + 1
        return 0 if name.startswith(FIRST_LAYER) else self.last_layer

    def train(self, mode: bool = True) -> EncoderWithHead:
        super().train(mode)
        self.encoder.train(mode and self.freeze != "encoder")
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """What the head reads: one map [batch, width, rows, columns] per block."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.freeze != "encoder"):
            return with_final_norm(
                self.encoder, self.encoder.intermediates(images, self.blocks), self.norm
            )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def freeze_in_words(freeze: str, pretrained: str = "encoder") -> str:
    """For the protocol line: which of the pretrained weights were not trained."""
    return {
        "none": "fine-tuned",
        "blocks": "blocks frozen",
        "encoder": f"{pretrained} frozen",
    }[freeze]


def with_final_norm(encoder: VisionTransformer, levels: list[Tensor], norm: bool) -> list[Tensor]:
    """Maps [b, width, rows, columns] of the blocks a head reads, with `norm` the last of them after
    the final norm."""
    return (
        [*levels[:-1], encoder.final_norm(levels[-1].movedim(1, -1)).movedim(-1, 1)]
        if norm
        else levels
    )


def norm_in_words(last_norm: bool) -> str:
    """For the protocol line of a DPT head."""
    return "last block read after the final norm, " if last_norm else "blocks read raw, "


def read_blocks(blocks: tuple[int, ...] | None, depth: int, levels: int) -> tuple[int, ...]:
    """The encoder blocks a head of `levels` levels reads: as given, or evenly spaced and ending
    with the last (2, 5, 8, 11 of 12).

    Raises:
        BadInput: the encoder has no such block, or the head reads another number of blocks.
    """
    if blocks is None and depth < levels:
        raise BadInput(
            f"blocks null: the head reads {levels} blocks, the encoder has {depth}; pretrain a "
            f"deeper one, or say which to read (one may be read twice), such as "
            f"blocks: {[index * depth // levels for index in range(levels)]}"
        )
    if blocks is None:
        return tuple((index + 1) * depth // levels - 1 for index in range(levels))
    if len(blocks) != levels or not all(0 <= block < depth for block in blocks):
        raise BadInput(
            f"blocks {list(blocks)}: the head reads {levels} blocks of an encoder of {depth} "
            "(counted from 0); null = evenly spaced"
        )
    return blocks


def require_patches(size_px: int, patch_px: int) -> None:
    """Raises BadInput if a square of size_px is not whole patches."""
    if size_px % patch_px:
        nearest = max(1, round(size_px / patch_px)) * patch_px
        raise BadInput(
            f"size_px {size_px}: the encoder's patches of {patch_px} px do not divide it; "
            f"{nearest} would do"
        )


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module whose random initial weights depend on `seed` alone; the caller's random state is
    left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def add_drop_path(encoder: VisionTransformer, rate: float) -> None:
    """Stochastic depth on both branches of each block while training: linear from 0 at the first
    block to `rate` at the last."""
    for block, share in zip(
        encoder.blocks, torch.linspace(0, rate, len(encoder.blocks)).tolist(), strict=True
    ):
        for branch in (block.get_submodule("attn"), block.get_submodule("mlp")):
            branch.register_forward_hook(_drop(share))


def _drop(rate: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not module.training or rate == 0:
            return output
        kept = torch.rand(len(output), *[1] * (output.ndim - 1), device=output.device) >= rate
        return output * kept / (1 - rate)

    return hook
