"""Siamese masked autoencoding: the order of a block, the use of the past frame, a loss that
falls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mimic import models
from mimic.models import Masking, ViTSize
from mimic.models.layers import initialise
from mimic.models.objectives.masking import patchify
from mimic.models.objectives.siamese import CrossSelfBlock, SiameseAutoencoder

TINY: dict[str, Any] = {
    "size_px": (32, 32),
    "patch_px": 8,
    "width": 32,
    "depth": 2,
    "heads": 2,
    "class_token": True,
    "positions": "sincos",
    "norm_eps": 1e-6,
    "decoder_width": 32,
    "decoder_depth": 2,
    "decoder_heads": 2,
}
HIDING: dict[str, Any] = {"mask_ratio": 0.9, "visible_rounding": "down", "norm_pix": True}


def tiny(**hiding: Any) -> SiameseAutoencoder:
    model = models.build("siamese", ViTSize(**TINY), Masking(**HIDING | hiding))
    assert isinstance(model, SiameseAutoencoder)
    initialise(model, torch.Generator().manual_seed(0))
    return model


def _norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt()


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head, written out."""
    return ((q @ k.transpose(-2, -1)) / q.shape[-1] ** 0.5).softmax(-1) @ v


def test_a_block_attends_across_then_to_itself_then_applies_the_mlp() -> None:
    block = CrossSelfBlock(8, 1, 1e-6, "auto")
    initialise(block, torch.Generator().manual_seed(3))  # norms are the identity's
    x, memory = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    cross, own, mlp = block.cross_attn, block.attn, block.mlp
    query, past = _norm(x, block.norm2), _norm(memory, block.norm_y)
    keys, values = past @ cross.projk.weight.T, past @ cross.projv.weight.T
    after = x + _attention(query @ cross.projq.weight.T, keys, values) @ cross.proj.weight.T
    q, k, v = (_norm(after, block.norm1) @ own.qkv.weight.T).chunk(3, dim=-1)
    after = after + _attention(q, k, v) @ own.proj.weight.T
    hidden = F.gelu(_norm(after, block.norm3) @ mlp.fc1.weight.T)
    expected = after + hidden @ mlp.fc2.weight.T
    assert torch.allclose(block(x, memory, None), expected, atol=1e-5)


def test_the_weights_of_its_cross_attention_are_those_before_the_self_attention() -> None:
    block = CrossSelfBlock(8, 2, 1e-6, "auto")
    initialise(block, torch.Generator().manual_seed(3))
    x, memory = torch.randn(1, 5, 8), torch.randn(1, 7, 8)
    weights = block.cross_weights(x, memory, None)
    assert weights.shape == (1, 2, 5, 7)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 2, 5))
    before = block.cross_weights(x, memory, None)
    torch.nn.init.zeros_(block.attn.proj.weight)
    assert torch.equal(block.cross_weights(x, memory, None), before)


def test_the_loss_is_of_normalised_pixels_of_hidden_patches() -> None:
    model = tiny()
    images, noise = torch.randn(2, 2, 3, 32, 32), torch.rand(2, 16)
    loss, prediction, mask = model(images, noise)
    target = patchify(images[:, 0], 8)
    deviation = (target.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (prediction - (target - target.mean(-1, keepdim=True)) / deviation) ** 2
    hidden = mask.bool()
    assert loss.item() == pytest.approx(error.mean(-1)[hidden].mean().item(), rel=1e-5)
    assert hidden.sum().item() == 2 * (16 - model.visible)


def test_the_published_ratio_leaves_nine_patches() -> None:
    size = ViTSize(**TINY | {"size_px": (224, 224), "patch_px": 16})
    with torch.device("meta"):
        model = models.build("siamese", size, Masking(**HIDING | {"mask_ratio": 0.95}))
    assert model.visible == 9


def test_the_cost_model_counts_its_numbers() -> None:
    trained = sum(p.numel() for p in tiny().parameters() if p.requires_grad)
    assert models.OBJECTIVES["siamese"].parameters(ViTSize(**TINY)) == trained


def test_the_past_frame_is_whole_and_hidden_patches_of_the_future_are_not_seen() -> None:
    model = tiny()
    images, noise = torch.randn(1, 2, 3, 32, 32), torch.rand(1, 16)
    _, prediction, mask = model(images, noise)
    hidden = int(mask[0].nonzero()[0])
    row, column = divmod(hidden, 4)
    for view, changes in ((0, False), (1, True)):
        other = images.clone()
        other[:, view, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 1
        moved = (model(other, noise)[1] - prediction).abs().max().item()
        assert (moved > 1e-5) == changes


def test_the_loss_falls_and_another_past_frame_raises_it() -> None:
    """Frames that move by whole patches: which way is told by the visible patches, the rest by the
    past."""
    torch.manual_seed(0)
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def batch(count: int) -> Tensor:
        past = torch.randn(count, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
        texture = torch.linspace(-1, 1, 8).repeat(4)  # else a patch has no deviation
        past = past * texture
        future = past.roll(8, dims=-1)
        return torch.stack([future, past], dim=1)

    def loss(images: Tensor) -> Tensor:
        return model(images, torch.rand(len(images), 16))[0]

    first = loss(batch(64)).item()
    for _ in range(150):
        optimizer.zero_grad()
        now = loss(batch(32))
        now.backward()
        optimizer.step()
    with torch.no_grad():
        images = batch(64)
        right = loss(images).item()
        wrong = loss(torch.stack([images[:, 0], images[:, 1].roll(1, dims=0)], dim=1)).item()
    assert right < 0.6 * first
    assert wrong > 1.3 * right


def test_it_has_no_loss_on_correspondences() -> None:
    with pytest.raises(ValueError, match="matching"):
        tiny(matching=0.5)
