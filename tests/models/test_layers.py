"""Positions, attention and blocks against formulas written out in loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from mimic.models import layers


@pytest.mark.parametrize("class_token", [True, False])
def test_sincos_table_is_the_formula(class_token: bool) -> None:
    """Channel k of the first half: sin or cos of column / 10000^(k / (c/4)); of the second half: of
    the row."""
    grid, width = (3, 5), 16
    table = layers.sincos_table(grid, width, class_token=class_token)[0]
    if class_token:
        assert (table[0] == 0).all()
        table = table[1:]
    quarter = width // 4
    for row in range(grid[0]):
        for column in range(grid[1]):
            for k in range(quarter):
                turns = 10000.0 ** (k / quarter)
                expected = [
                    f(place / turns) for place in (column, row) for f in (math.sin, math.cos)
                ]
                found = table[row * grid[1] + column].unflatten(0, (4, quarter))[:, k].tolist()
                assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("target", [(16, 12), (4, 6)])
def test_resampling_positions_is_timms_without_antialiasing(target: tuple[int, int]) -> None:
    from timm.layers import resample_abs_pos_embed as resample  # slow; only here

    positions = layers.sincos_table((8, 8), 16, class_token=False)
    assert layers.resample_positions(positions, (8, 8), (8, 8)) is positions
    expected = resample(positions, target, (8, 8), num_prefix_tokens=0, antialias=False)
    assert torch.allclose(layers.resample_positions(positions, (8, 8), target), expected, atol=1e-6)


def test_rope_is_a_rotation_of_planes() -> None:
    """Channels k and k + d/4 of the row half turn by row * 100^(-2k / (d/2)); the column half by
    the column."""
    grid, d = (3, 4), 16
    x = torch.randn(2, 3, 12, d)
    result = layers.rotate(x, layers.rope_table(grid, d, x.device, class_token=False))
    half, quarter = d // 2, d // 4
    for token in range(12):
        for offset, place in ((0, token // 4), (half, token % 4)):
            for k in range(quarter):
                angle = place * 100.0 ** (-2 * k / half)
                u, v = x[:, :, token, offset + k], x[:, :, token, offset + k + quarter]
                assert torch.allclose(
                    result[:, :, token, offset + k],
                    u * math.cos(angle) - v * math.sin(angle),
                    atol=1e-6,
                )
                assert torch.allclose(
                    result[:, :, token, offset + k + quarter],
                    u * math.sin(angle) + v * math.cos(angle),
                    atol=1e-6,
                )


def test_rope_depends_on_differences_of_places_only() -> None:
    rope = layers.rope_table((6, 6), 8, torch.device("cpu"), class_token=False)
    q, k = torch.randn(2, 1, 1, 1, 8).expand(-1, -1, -1, 36, -1)
    scores = layers.rotate(q, rope) @ layers.rotate(k, rope).mT
    assert torch.allclose(
        scores[0, 0, 0, 7], scores[0, 0, 14, 21], atol=1e-5
    )  # one down, one right
    assert not torch.allclose(scores[0, 0, 0, 7], scores[0, 0, 0, 6], atol=1e-3)


def test_rope_leaves_a_class_token_alone() -> None:
    rope = layers.rope_table((2, 2), 8, torch.device("cpu"), class_token=True)
    x = torch.randn(1, 1, 5, 8)
    assert torch.equal(layers.rotate(x, rope)[:, :, 0], x[:, :, 0])


def test_backends_agree_and_auto_follows_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    expected = torch.stack(
        [
            torch.stack([(q[b, h] @ k[b, h].T / 8**0.5).softmax(-1) @ v[b, h] for h in range(4)])
            for b in range(2)
        ]
    )
    for backend in layers.BACKENDS:
        if backend in ("efficient", "cudnn"):  # of GPUs
            with pytest.raises(RuntimeError, match="No (available kernel|viable backend)"):
                layers.attend(q, k, v, backend)
            continue
        assert torch.allclose(layers.attend(q, k, v, backend), expected, atol=1e-5)
    fused = []

    def note(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        fused.append(q.dtype)
        return q

    monkeypatch.setattr(layers.F, "scaled_dot_product_attention", note)
    layers.attend(q, k, v, "auto")
    layers.attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), "auto")
    assert fused == [torch.float32]


def test_cross_block_is_the_published_order() -> None:
    """x += SA(n1(x)); x += CA(n2(x), norm_y(memory)); x += MLP(n3(x)), against torch's own
    attention."""
    width, heads = 16, 4
    block = layers.CrossBlock(width, heads, 1e-6, "manual")
    layers.initialise(block, torch.Generator().manual_seed(0))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, memory = torch.randn(2, 5, width), torch.randn(2, 7, width)

    def attention(
        weight: torch.Tensor,
        bias: torch.Tensor,
        out: nn.Linear,
        query: torch.Tensor,
        key: torch.Tensor,
    ) -> torch.Tensor:
        reference = nn.MultiheadAttention(width, heads, batch_first=True)
        reference.load_state_dict(
            {
                "in_proj_weight": weight,
                "in_proj_bias": bias,
                "out_proj.weight": out.weight,
                "out_proj.bias": out.bias,
            }
        )
        return reference(query, key, key)[0]

    cross = block.cross_attn
    projections = (cross.projq, cross.projk, cross.projv)
    y = block.norm1(x)
    expected = x + attention(block.attn.qkv.weight, block.attn.qkv.bias, block.attn.proj, y, y)
    weight, bias = (
        torch.cat([p.weight for p in projections]),
        torch.cat([p.bias for p in projections]),
    )
    expected = expected + attention(
        weight, bias, cross.proj, block.norm2(expected), block.norm_y(memory)
    )
    expected = expected + block.mlp(block.norm3(expected))
    assert torch.allclose(block(x, memory, None), expected, atol=1e-4)


def test_gather_picks_rows() -> None:
    tokens, index = torch.randn(2, 6, 3), torch.tensor([[5, 0], [2, 2]])
    assert torch.equal(
        layers.gather(tokens, index), torch.stack([tokens[0, [5, 0]], tokens[1, [2, 2]]])
    )
    shared = torch.randn(2, 1, 6, 3)
    assert torch.equal(
        layers.gather(shared, index)[1], torch.stack([shared[1, 0, [5, 0]], shared[1, 0, [2, 2]]])
    )


def test_initial_weights_depend_on_the_generator_only() -> None:
    def make(seed: int) -> layers.CrossBlock:
        block = layers.CrossBlock(16, 4, 1e-6, "auto")
        layers.initialise(block, torch.Generator().manual_seed(seed))
        return block

    first, again, other = make(0), make(0), make(1)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.attn.qkv.weight, other.attn.qkv.weight)
    bound = (6 / (16 + 48)) ** 0.5
    assert 0.9 * bound < first.attn.qkv.weight.abs().max() <= bound
    assert (first.attn.qkv.bias == 0).all()


def test_rotary_tables_follow_the_base_and_the_precision() -> None:
    """The formula in float64, channel by channel."""
    table = layers.rope_table(
        (2, 3), 8, torch.device("cpu"), class_token=False, base=50.0, dtype=torch.float64
    )
    assert table.dtype == torch.float64
    for place in range(6):
        for channel in range(8):
            turned = place // 3 if channel < 4 else place % 3
            angle = turned * 50.0 ** (-2 * (channel % 2) / 4)
            assert table[0, 0, place, channel].item() == pytest.approx(math.cos(angle), abs=1e-14)
            assert table[1, 0, place, channel].item() == pytest.approx(math.sin(angle), abs=1e-14)


def test_the_patch_projections_bias_starts_as_the_official_code_leaves_it() -> None:
    """Uniform within 1 / sqrt(3 * 16 * 16), of deviation 0.0208; a linear layer's starts at
    zero."""
    embed, linear = layers.PatchEmbed(16, 4096), torch.nn.Linear(4, 4)
    model = torch.nn.Sequential(embed, linear)
    layers.initialise(model, torch.Generator().manual_seed(0))
    bias: Any = embed.proj.bias
    assert bias.abs().max() <= 768**-0.5
    assert bias.std().item() == pytest.approx(0.0208, abs=5e-4)
    assert not linear.bias.any()
