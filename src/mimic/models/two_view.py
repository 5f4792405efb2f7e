"""Two views through a whole cross-view model, unmasked: dense maps of how view a moves to view b,
one pose, or what attends to what.

The hooks are counted over the encoder's blocks and then the decoder's (CroCo v2 for flow and
stereo): the last block of each is read after its norm, the others raw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mimic.models.dpt_head import DptHead
from mimic.models.objectives.base import Pretraining

LEVELS = 4
SUM_MIN = 1e-3  # of two singular values; below, the nearest rotation is all but undefined


def hooks(
    blocks: tuple[int, ...] | None, encoder_depth: int, decoder_depth: int
) -> tuple[int, ...]:
    """Blocks that the head reads: as given, or as published: from the last one back, a third of the
    decoder apart.

    12 + 12 blocks: 11, 15, 19, 23; 12 + 8 blocks: 10, 13, 16, 19.

    Raises:
        ValueError: not four blocks that the model has.
    """
    total = encoder_depth + decoder_depth
    if blocks is None:
        step = -(-decoder_depth // (LEVELS - 1))
        blocks = tuple(max(0, total - 1 - step * index) for index in reversed(range(LEVELS)))
    if len(blocks) != LEVELS or not all(0 <= block < total for block in blocks):
        raise ValueError(
            f"blocks {list(blocks)}: the head reads {LEVELS} of {encoder_depth} + {decoder_depth} "
            "blocks (counted from 0)"
        )
    return blocks


class TwoViews(nn.Module):
    """A pretrained cross-view model without its mask and its pixels.

    Args:
        model: its encoder and decoder are used, not copied.
    """

    def __init__(self, model: Pretraining) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.decoder = model.decoder
        self.last_layer = self.encoder.depth + len(self.decoder.blocks) + 1
        for unused in (self.decoder.mask_token, *self.decoder.pred.parameters()):
            unused.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def freeze(self, what: str) -> None:
        """Of encoder and decoder: "blocks" their blocks, "encoder" everything; the head always
        trains. Fixed positions never do."""
        for name, parameter in self.named_parameters():
            pretrained = not name.startswith("head.")
            if pretrained and (what == "encoder" or (what == "blocks" and ".blocks." in name)):
                parameter.requires_grad_(False)

    def layer_of(self, name: str) -> int:
        """Patches 0, then the blocks of the encoder, those of the decoder, and the head.

        Each final norm goes with the last block before it, as in CroCo's official grouping.
        """
        part, kind = name.split(".")[:2]
        if part == "head":
            return self.last_layer
        if kind == "blocks":
            before = self.encoder.depth if part == "decoder" else 0
            return 1 + before + int(name.split(".")[2])
        if part == "encoder":
            return self.encoder.depth if kind == "norm" else 0
        return self.last_layer - 1 if kind == "norm" else self.encoder.depth

    def levels(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], blocks: Sequence[int]
    ) -> list[Float[Tensor, "b _ rows columns"]]:
        """Patch maps of view a from the given blocks; the decoder's have seen view b."""
        depth = self.encoder.depth
        grid = self.encoder.grid_of(*a.shape[-2:])
        tokens_a = self.encoder(a)
        tokens_b = self.encoder(b)
        raw = [block for block in blocks if block < depth - 1]
        maps = dict(zip(raw, self.encoder.intermediates(a, raw), strict=True)) if raw else {}
        first = int(self.encoder.class_token)
        maps[depth - 1] = tokens_a[:, first:].transpose(1, 2).unflatten(2, grid)
        for index, tokens in enumerate(self.decoder.stages(tokens_a, tokens_b, grid)):
            maps[depth + index] = tokens[:, first:].transpose(1, 2).unflatten(2, grid)
        return [maps[block] for block in blocks]

    def attention(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b n n"]:
        """How much each patch of a attends to each of b: the mean over heads and blocks of the
        decoder's cross-attention."""
        grid = self.encoder.grid_of(*a.shape[-2:])
        first = int(self.encoder.class_token)
        return self.decoder.attention(self.encoder(a), self.encoder(b), grid)[:, first:, first:]


class DenseMotion(TwoViews):
    """With a DPT head: `channels` of motion and one of confidence for every pixel of view a."""

    def __init__(
        self, model: Pretraining, head_width: int, channels: int, blocks: tuple[int, ...]
    ) -> None:
        super().__init__(model)
        self.blocks = blocks
        widths = [
            self.encoder.width if block < self.encoder.depth else self.decoder.width
            for block in blocks
        ]
        self.head = DptHead(widths, head_width, channels + 1, self.encoder.patch_px)

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Channels of motion, then that of confidence, at the size of a."""
        return self.head(self.levels(a, b, self.blocks))


class RelativePose(TwoViews):
    """With a pooled head: the pose of camera a in the axes of camera b, rotation and translation in
    metres; untrained, no motion."""

    def __init__(self, model: Pretraining, head_width: int) -> None:
        super().__init__(model)
        last = nn.Linear(head_width, 12)
        self.head = nn.Sequential(nn.Linear(self.decoder.width, head_width), nn.ReLU(), last)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.cat([torch.eye(3).flatten(), torch.zeros(3)]))

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 3"]]:
        """Rotations and translations in metres: point_b = rotation @ point_a + translation."""
        tokens = self.levels(a, b, [self.encoder.depth + len(self.decoder.blocks) - 1])[0]
        numbers = self.head(tokens.mean(dim=(2, 3))).float()
        return nearest_rotation(numbers[:, :9].unflatten(1, (3, 3))), numbers[:, 9:]


def nearest_rotation(matrix: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """The rotation closest to each matrix (special orthogonal Procrustes): singular values become
    1, 1 and the determinant's sign."""
    with torch.autocast(
        matrix.device.type, enabled=False
    ):  # a rotation of 8 bits is off by a quarter of a degree
        return _NearestRotation.apply(matrix)


class _NearestRotation(torch.autograd.Function):
    """With its derivative in closed form: the singular vectors' own is infinite where singular
    values are equal, as of any rotation.

    With m = r h, h symmetric of eigenvalues s: in the axes of h, r' dr is (r' dm - dm' r) / (s_i +
    s_j).
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        u, values, vt = torch.linalg.svd(matrix)
        sign = torch.ones_like(values)
        sign[:, 2] = torch.det(u @ vt)
        u = u * sign[:, None, :]
        ctx.save_for_backward(u, values * sign, vt)
        return u @ vt

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        u, values, vt = ctx.saved_tensors
        turn = u.mT @ gradient @ vt.mT
        sums = (values[:, :, None] + values[:, None, :]).clamp(min=SUM_MIN)
        return u @ ((turn - turn.mT) / sums) @ vt


def laplace_flow(
    output: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 2 h w"], valid: Tensor
) -> Float[Tensor, ""]:
    """Negative log-likelihood of a Laplacian of bounded scale (CroCo v2): |error|_1 / s + log s, s
    = 0.25 + 3.75 sigmoid(c)."""
    scale = 0.25 + 3.75 * output[:, 2].sigmoid()
    return _mean((output[:, :2] - truth).abs().sum(dim=1) / scale + scale.log(), valid)


def laplace_stereo(
    output: Float[Tensor, "b 2 h w"], truth: Float[Tensor, "b 1 h w"], valid: Tensor
) -> Float[Tensor, ""]:
    """The same for a disparity: d = 6 (sigmoid(c / 3) - 0.5), |error| / exp(d) + d."""
    log_scale = 6 * ((output[:, 1] / 3).sigmoid() - 0.5)
    return _mean((output[:, 0] - truth[:, 0]).abs() / log_scale.exp() + log_scale, valid)


def _mean(cost: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, cost, 0.0).sum() / valid.sum().clamp(min=1)
