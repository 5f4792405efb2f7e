"""Layer-wise learning rates of a model of two views: every parameter's layer, written down."""

from __future__ import annotations

import pytest

from mimic.models import Masking, ViTSize, build
from mimic.models.two_view import RelativePose
from mimic.training.optim import layer_decay_groups

SIZE = ViTSize(
    size_px=(32, 32),
    patch_px=8,
    width=24,
    depth=3,
    heads=2,
    decoder_width=16,
    decoder_depth=2,
    decoder_heads=2,
    class_token=True,
    positions="sincos",
    norm_eps=1e-6,
)
LAYERS = {
    "encoder.cls_token": 0,
    "encoder.patch_embed.proj.weight": 0,
    "encoder.patch_embed.proj.bias": 0,
    "encoder.blocks.0.attn.qkv.weight": 1,
    "encoder.blocks.2.norm1.bias": 3,
    "encoder.norm.weight": 3,
    "decoder.embed.weight": 3,
    "decoder.blocks.0.cross_attn.projq.weight": 4,
    "decoder.blocks.1.mlp.fc2.bias": 5,
    "decoder.norm.bias": 5,
    "head.0.weight": 6,
    "head.2.bias": 6,
}


@pytest.fixture
def model() -> RelativePose:
    masking = Masking(mask_ratio=0.9, visible_rounding="up", norm_pix=True)
    return RelativePose(build("croco", SIZE, masking), head_width=8)


def test_rates_fall_from_the_head_to_the_patches(model: RelativePose) -> None:
    groups = layer_decay_groups(model, 0.05, 0.5)
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {name_of[id(one)]: group["lr_scale"] for group in groups for one in group["params"]}
    decays = {
        name_of[id(one)]: group["weight_decay"] for group in groups for one in group["params"]
    }
    assert {name: scales[name] for name in LAYERS} == {
        name: 0.5 ** (6 - layer) for name, layer in LAYERS.items()
    }
    assert scales.keys() == {name for name, one in model.named_parameters() if one.requires_grad}
    assert {name for name, decay in decays.items() if decay} == {
        name
        for name, one in model.named_parameters()
        if one.requires_grad and one.ndim > 1 and not name.endswith("cls_token")
    }


@pytest.mark.parametrize(
    ("what", "trained"),
    [("blocks", "encoder.patch_embed.proj.weight"), ("encoder", "head.0.weight")],
)
def test_what_is_frozen(model: RelativePose, what: str, trained: str) -> None:
    model.freeze(what)
    names = {name for name, one in model.named_parameters() if one.requires_grad}
    assert trained in names
    assert not any(".blocks." in name for name in names)
    assert all(name.startswith("head.") for name in names) == (what == "encoder")
