"""What one model takes from another, tensor by tensor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mimic.models import Masking, ViTSize, build
from mimic.models.inheritance import Ancestor, LayeredModel, groups, inherit
from mimic.models.layers import CrossBlock, initialise, sincos_table
from mimic.models.objectives.base import Pretraining
from mimic.training.optim import layer_decay_groups

SIZE = ViTSize(
    size_px=(32, 32),
    patch_px=8,
    width=32,
    depth=2,
    heads=2,
    class_token=True,
    positions="sincos",
    norm_eps=1e-6,
    decoder_width=16,
    decoder_depth=2,
    decoder_heads=2,
)
MASKING = Masking(mask_ratio=0.75, visible_rounding="down", norm_pix=True)


def made(objective: str, size: ViTSize = SIZE, seed: int = 0) -> Pretraining:
    """A model with numbers in every tensor, norms and biases as well."""
    model = build(objective, size, MASKING)
    random = torch.Generator().manual_seed(seed)
    initialise(model, random)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.ndim == 1:
            parameter.data.add_(torch.randn(parameter.shape, generator=random))
    return model


def ancestor(objective: str, size: ViTSize = SIZE) -> Ancestor:
    return Ancestor(size, objective, made(objective, size, seed=1).state_dict())


CROSS = ("cross_attn", "norm_y", "norm2")


@pytest.mark.parametrize("there", ["mae", "croco", "siamese"])
@pytest.mark.parametrize("here", ["mae", "croco", "siamese"])
def test_of_the_decoder_what_plays_the_same_part(there: str, here: str) -> None:
    start = ancestor(there)
    model = made(here)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = inherit(model, here, SIZE, start)
    assert sorted([*found.taken, *found.fresh]) == sorted(before)
    for name, value in model.state_dict().items():
        source = found.taken.get(name)
        assert torch.equal(value, start.weights[source] if source else before[name]), name
    blocks = {name for name in found.fresh if ".blocks." in name}
    if there == here:
        assert not found.fresh
        assert found.decoder is None
    elif {there, here} == {"croco", "siamese"}:
        assert all(name.startswith("decoder.") for name in found.fresh)
        assert not [name for name in found.taken if name.startswith("decoder.")]
        assert found.decoder == f"{there} runs its blocks in another way than {here}"
    elif here == "mae":
        assert not found.fresh
        assert found.taken["decoder.blocks.1.norm2.bias"] == "decoder.blocks.1.norm3.bias"
    else:
        assert {name.split(".")[3] for name in blocks} == set(CROSS)
        assert set(found.fresh) == blocks
        assert found.taken["decoder.blocks.1.norm3.bias"] == "decoder.blocks.1.norm2.bias"


def test_a_decoder_without_its_other_view_computes_what_mae_does() -> None:
    """Which norm is which is no matter of names: with attention to the other view silenced, CroCo's
    decoder is MAE's."""
    start = made("mae", seed=1)
    model = made("croco")
    inherit(model, "croco", SIZE, Ancestor(SIZE, "mae", start.state_dict()))
    for block in model.decoder.blocks:
        assert isinstance(block, CrossBlock)
        block.cross_attn.proj.weight.data.zero_()
        block.cross_attn.proj.bias.data.zero_()
    random = torch.Generator().manual_seed(2)
    tokens = torch.randn(2, 1 + 4, 32, generator=random)
    memory = torch.randn(2, 1 + 16, 32, generator=random)
    restore = torch.stack([torch.randperm(16, generator=random) for _ in range(2)])
    with torch.no_grad():
        wanted = start.decoder(tokens, restore, None)
        assert torch.allclose(model.decoder(tokens, restore, memory), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"decoder_width": 32}, {"decoder_depth": 1}, {"decoder_heads": 4}]
)
def test_a_decoder_of_other_sizes_is_fresh(change: dict[str, Any]) -> None:
    here = replace(SIZE, **change)
    found = inherit(made("mae", here), "mae", here, ancestor("mae"))
    assert {name.partition(".")[0] for name in found.fresh} == {"decoder"}
    assert {name.partition(".")[0] for name in found.taken} == {"encoder"}
    assert found.decoder is not None
    assert "it is 16 wide, 2 deep with 2 heads" in found.decoder


def test_an_encoder_alone_is_taken_alone() -> None:
    weights = {f"encoder.{k}": v for k, v in made("mae", seed=1).encoder.state_dict().items()}
    size = replace(SIZE, decoder_width=0, decoder_depth=0, decoder_heads=0)
    found = inherit(made("mae"), "mae", SIZE, Ancestor(size, None, weights))
    assert set(found.taken) == set(weights)
    assert found.decoder == "the weights hold an encoder only"
    assert groups(found.taken) == {
        "encoder.blocks": 24,
        "encoder.cls_token": 1,
        "encoder.norm": 2,
        "encoder.patch_embed": 2,
        "encoder.pos_embed": 1,
    }


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("here", [True, False])
def test_the_class_token(there: bool, here: bool) -> None:
    start = ancestor("mae", replace(SIZE, class_token=there))
    size = replace(SIZE, class_token=here)
    model = made("mae", size)
    before = None if model.encoder.cls_token is None else model.encoder.cls_token.clone()
    found = inherit(model, "mae", size, start)
    words = {(1, 1): "taken", (1, 0): "dropped", (0, 1): "fresh", (0, 0): "none"}
    assert found.class_token == words[there, here]
    token = model.encoder.cls_token
    if there and here:
        assert torch.equal(token, start.weights["encoder.cls_token"])
    elif here:
        assert torch.equal(token, before)
        assert found.fresh == ["encoder.cls_token"]
    for part in ("encoder", "decoder"):
        table = model.state_dict()[f"{part}.pos_embed"]
        assert torch.equal(
            table[:, int(here) :], start.weights[f"{part}.pos_embed"][:, int(there) :]
        )


def test_fixed_positions_are_computed_and_learned_ones_resampled() -> None:
    size = replace(SIZE, size_px=(16, 48))
    start = ancestor("mae")
    model = made("mae", size)
    found = inherit(model, "mae", size, start)
    assert found.positions == {f"{part}.pos_embed": "recomputed" for part in ("encoder", "decoder")}
    formula = sincos_table((2, 6), 32, class_token=True)
    assert torch.equal(model.encoder.state_dict()["pos_embed"], formula)

    learned = torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(3))
    weights = dict(start.weights) | {"encoder.pos_embed": learned}
    found = inherit(model, "mae", size, Ancestor(SIZE, "mae", weights))
    assert found.positions["encoder.pos_embed"] == "resampled"
    table = model.encoder.state_dict()["pos_embed"]
    image = learned[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    wanted = F.interpolate(image, (2, 6), mode="bicubic", align_corners=False)
    assert torch.equal(table[:, 1:], wanted.permute(0, 2, 3, 1).flatten(1, 2))
    assert torch.equal(table[:, :1], learned[:, :1])

    model = made("mae")
    assert inherit(model, "mae", SIZE, Ancestor(SIZE, "mae", weights)).positions == {
        f"{part}.pos_embed": "taken" for part in ("encoder", "decoder")
    }
    assert torch.equal(model.encoder.state_dict()["pos_embed"], learned)


def test_rotary_positions_need_nothing_but_the_same_base() -> None:
    size = replace(SIZE, class_token=False, positions="rope")
    larger = replace(size, size_px=(64, 32))
    found = inherit(made("croco", larger), "croco", larger, ancestor("croco", size))
    assert found.positions == {"encoder": "rotary"}
    with pytest.raises(ValueError, match="the encoders differ in rope_base"):
        inherit(
            made("croco", size),
            "croco",
            size,
            ancestor("croco", replace(size, rope_base=50.0)),
        )


@pytest.mark.parametrize(
    "change", [{"width": 64}, {"depth": 1}, {"heads": 4}, {"patch_px": 16}, {"norm_eps": 1e-5}]
)
def test_another_encoder_is_refused_before_anything_is_copied(change: dict[str, Any]) -> None:
    model = made("mae")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"the encoders differ in {next(iter(change))}"):
        inherit(model, "mae", SIZE, ancestor("mae", replace(SIZE, **change)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rates_fall_towards_the_input_of_what_was_inherited() -> None:
    """By hand: two blocks, so patches are three layers below the norm."""
    layered = LayeredModel(made("mae"), fresh=["encoder.cls_token"])
    found = layer_decay_groups(layered, 0.05, 0.5, undecayed=())
    scale = {id(p): group["lr_scale"] for group in found for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in found for p in group["params"]}
    names = {name: p for name, p in layered.named_parameters() if p.requires_grad}
    assert set(scale) == {id(p) for p in names.values()}
    for name, wanted in {
        "encoder.patch_embed.proj.weight": 0.125,
        "encoder.blocks.0.attn.qkv.weight": 0.25,
        "encoder.blocks.1.norm1.bias": 0.5,
        "encoder.norm.weight": 1.0,
        "encoder.cls_token": 1.0,
        "decoder.blocks.0.attn.qkv.weight": 1.0,
        "decoder.mask_token": 1.0,
    }.items():
        assert scale[id(names[name])] == wanted, name
    assert decay[id(names["decoder.mask_token"])] == 0.05  # as in pretraining from random weights
    assert decay[id(names["encoder.blocks.1.norm1.bias"])] == 0.0


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_fixed_positions_that_went_through_half_precision_are_still_fixed(
    precision: torch.dtype,
) -> None:
    size = replace(SIZE, size_px=(16, 48))
    start = ancestor("mae")
    weights = {name: value.to(precision).float() for name, value in start.weights.items()}
    result = inherit(made("mae", size), "mae", size, Ancestor(SIZE, "mae", weights))
    assert set(result.positions.values()) == {"recomputed"}
