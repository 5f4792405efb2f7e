"""Heads: published parameter counts, and the arithmetic against independent formulations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mimic.models.dpt_head import DptHead
from mimic.models.heads import (
    ClassifierHead,
    ConvNextBlock,
    ConvNextHead,
    LinearHead,
    StandardisedLevels,
    initialise,
    parameter_count,
)


def test_published_parameter_counts() -> None:
    assert parameter_count(DptHead(768, 256, 1, 16)) == 20_065_921
    assert parameter_count(DptHead(768, 256, 3, 16)) == 20_065_921 + 66
    assert parameter_count(ConvNextHead(768, 384, 150, 16, 4, 4)) == 9_588_630
    assert parameter_count(ClassifierHead(768, 1000)) == 769_000


@pytest.mark.parametrize(
    ("patch_px", "grid"), [(16, (16, 16)), (16, (24, 24)), (8, (8, 11)), (14, (5, 7))]
)
def test_outputs_have_the_pixels_of_the_image(patch_px: int, grid: tuple[int, int]) -> None:
    levels = [torch.randn(1, 32, *grid) for _ in range(4)]
    size = (grid[0] * patch_px, grid[1] * patch_px)
    assert DptHead(32, 16, 2, patch_px)(levels).shape == (1, 2, *size)
    assert LinearHead(32, 5, patch_px)(levels).shape == (1, 5, *size)
    if patch_px % 4 == 0:
        assert ConvNextHead(32, 16, 3, patch_px, 4, 1)(levels).shape == (1, 3, *size)


def _dpt_by_hand(weights: dict[str, torch.Tensor], levels: list[torch.Tensor]) -> torch.Tensor:
    """The description of the head, written with functions only, for four even levels of 16-px
    patches."""

    def conv(x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **options)

    def unit(x: torch.Tensor, name: str) -> torch.Tensor:
        return (
            conv(conv(x.relu(), f"{name}.first", padding=1).relu(), f"{name}.second", padding=1) + x
        )

    def double(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    maps = [conv(level, f"levels.{i}.0") for i, level in enumerate(levels)]
    maps[0] = F.conv_transpose2d(
        maps[0], weights["levels.0.1.weight"], weights["levels.0.1.bias"], stride=4
    )
    maps[1] = F.conv_transpose2d(
        maps[1], weights["levels.1.1.weight"], weights["levels.1.1.bias"], stride=2
    )
    maps[3] = conv(maps[3], "levels.3.1", stride=2, padding=1)
    maps = [conv(level, f"projections.{i}", padding=1) for i, level in enumerate(maps)]
    x = conv(double(unit(maps[3], "fusions.3.refine")), "fusions.3.mix")
    for i in (2, 1, 0):
        x = conv(
            double(unit(x + unit(maps[i], f"fusions.{i}.skip"), f"fusions.{i}.refine")),
            f"fusions.{i}.mix",
        )
    x = conv(double(conv(x, "reduce", padding=1)), "output.0", padding=1)
    return conv(x.relu(), "output.2")


def test_dpt_equals_its_description() -> None:
    torch.manual_seed(0)
    head = DptHead(24, 16, 1, 16).double()
    levels = [torch.randn(2, 24, 4, 6, dtype=torch.float64) for _ in range(4)]
    torch.testing.assert_close(head(levels), _dpt_by_hand(dict(head.named_parameters()), levels))


def test_dpt_equals_transformers() -> None:
    """The library's neck and head with our weights; its last ReLU, which would clip standardised
    depth, is taken off."""
    from transformers import DPTConfig
    from transformers.models.dpt.modeling_dpt import DPTDepthEstimationHead, DPTNeck

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=32,
        neck_hidden_sizes=[96, 192, 384, 768],
        fusion_hidden_size=256,
        reassemble_factors=[4, 2, 1, 0.5],
        readout_type="ignore",
        is_hybrid=False,
        use_batch_norm_in_fusion_residual=False,
        add_projection=False,
        head_in_index=-1,
    )
    neck, top = DPTNeck(config).eval(), DPTDepthEstimationHead(config).eval()
    top.head[-1] = torch.nn.Identity()
    head = DptHead(32, 256, 1, 16)
    theirs = {
        **{f"neck.{k}": v for k, v in neck.state_dict().items()},
        **{f"top.{k}": v for k, v in top.state_dict().items()},
    }
    head.load_state_dict({ours: theirs[name] for ours, name in _transformers_names(head).items()})
    levels = [torch.randn(2, 32, 8, 8) for _ in range(4)]
    tokens = [
        torch.cat([torch.zeros(2, 1, 32), level.flatten(2).transpose(1, 2)], dim=1)
        for level in levels
    ]
    fused = neck(tokens, 8, 8)
    torch.testing.assert_close(head(levels)[:, 0], top(fused).squeeze(1), rtol=0, atol=1e-6)


def _transformers_names(head: DptHead) -> dict[str, str]:
    names = {}
    for ours in head.state_dict():
        part, *rest = ours.split(".")
        kind = rest[-1]
        if part == "levels":
            layer = "projection" if rest[1] == "0" else "resize"
            names[ours] = f"neck.reassemble_stage.layers.{rest[0]}.{layer}.{kind}"
        elif part == "projections":
            names[ours] = f"neck.convs.{rest[0]}.{kind}"
        elif part == "fusions":
            at = 3 - int(rest[0])  # theirs count from the deepest
            if rest[1] == "mix":
                names[ours] = f"neck.fusion_stage.layers.{at}.projection.{kind}"
            else:
                unit = {"skip": 1, "refine": 2}[rest[1]]
                layer = f"neck.fusion_stage.layers.{at}.residual_layer{unit}"
                names[ours] = f"{layer}.convolution{1 if rest[2] == 'first' else 2}.{kind}"
        else:
            place = {"reduce": 0, "output.0": 2, "output.2": 4}[".".join([part, *rest[:-1]])]
            names[ours] = f"top.head.{place}.{kind}"
    return names


def test_convnext_block_equals_timm() -> None:
    from timm.models import convnext  # slow; only here

    torch.manual_seed(0)
    theirs = convnext.ConvNeXtBlock(16, ls_init_value=None).eval()
    ours = ConvNextBlock(16)
    names = {"depthwise": "conv_dw", "norm": "norm", "expand": "mlp.fc1", "contract": "mlp.fc2"}
    weights = theirs.state_dict()
    ours.load_state_dict(
        {
            key: weights[f"{names[key.split('.')[0]]}.{key.split('.')[1]}"]
            for key in ours.state_dict()
        }
    )
    x = torch.randn(2, 16, 12, 10)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)


def test_convnext_cells_lie_inside_their_patch() -> None:
    """Changing one token changes only cells near its place: the split keeps raster order."""
    head = ConvNextHead(8, 4, 1, 16, 4, 0)
    tokens = torch.zeros(1, 8, 3, 3)
    before = head([tokens])
    tokens[0, :, 1, 2] = 1
    changed = (head([tokens]) - before).abs()[0, 0]
    rows, columns = torch.nonzero(changed > 1e-7, as_tuple=True)
    assert int(rows.min()) >= 16 - 4
    assert int(rows.max()) < 32 + 4
    assert int(columns.min()) >= 32 - 4
    assert int(columns.max()) < 48


def test_initialise_is_xavier_for_linear_layers() -> None:
    torch.manual_seed(0)
    head = ConvNextHead(96, 32, 3, 16, 4, 1)
    convolution = head.output.weight.clone()
    initialise(head)
    bound = (6 / (96 + 512)) ** 0.5
    assert head.split.weight.abs().max() <= bound
    assert head.split.weight.abs().max() > 0.99 * bound
    assert not head.split.bias.any()
    assert torch.equal(head.output.weight, convolution)


def test_standardised_levels_hide_the_scale_of_the_residual_stream() -> None:
    """Ten times the features, and an offset a channel, give a head the same to learn and to say."""
    random = torch.Generator().manual_seed(0)
    levels = [torch.randn(4, 32, 8, 8, generator=random) for _ in range(4)]
    offset = torch.randn(1, 32, 1, 1, generator=random)
    grown = [10 * level + 5 * offset for level in levels]
    torch.manual_seed(0)
    raw = DptHead(32, 16, 1, 8)
    head = StandardisedLevels(raw, [32] * 4)
    torch.testing.assert_close(head(grown), head(levels), atol=1e-4, rtol=1e-4)
    assert (raw(grown) - raw(levels)).abs().max() > 0.1
    for _ in range(200):  # until the running statistics are those of these levels
        head(grown)
    head.eval()
    once = head(grown)
    torch.testing.assert_close(head(grown)[:1], once[:1])
    torch.testing.assert_close(
        once, raw([_standard(level) for level in grown]), atol=0.02, rtol=0.1
    )
    assert parameter_count(head) == parameter_count(raw)


def _standard(level: torch.Tensor) -> torch.Tensor:
    deviation, mean = torch.std_mean(level, dim=(0, 2, 3), keepdim=True)
    return (level - mean) / deviation
