"""Learning rates of the papers, and which parameters decay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mimic.training import optim


def test_rate_of_the_papers() -> None:
    assert optim.scaled_lr(1.5e-4, 4096) == pytest.approx(2.4e-3)  # MAE, MIMIC
    assert optim.scaled_lr(1.5e-4, 256) == pytest.approx(1.5e-4)  # CroCo


def test_warm_up_then_half_a_cosine() -> None:
    rates = [
        optim.cosine_lr(step, peak=2.0, floor=0.5, warmup=10, horizon=50) for step in range(60)
    ]
    assert rates[:11] == pytest.approx([0.2 * step for step in range(11)])
    assert rates[30] == pytest.approx(0.5 + 1.5 * 0.5)
    assert rates[20] == pytest.approx(0.5 + 1.5 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert rates[50:] == pytest.approx([0.5] * 10)
    assert optim.cosine_lr(0, peak=2.0, floor=0.0, warmup=0, horizon=0) == 2.0


def test_cosine_over_800_stopped_at_400_ends_high() -> None:
    """CroCo v1: warm-up 40, cosine to epoch 800, stopped at 400: the last rate is still 0.54 of the
    peak."""
    last = optim.cosine_lr(400, peak=1.0, floor=0.0, warmup=40, horizon=800)
    assert last == pytest.approx(0.5 * (1 + math.cos(math.pi * 360 / 760)))
    assert last > 0.5


def test_vectors_do_not_decay_and_fixed_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    model.table = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    matrices, vectors = optim.parameter_groups(model, 0.05)
    assert matrices["params"] == [model[0].weight]
    assert matrices["weight_decay"] == 0.05
    assert len(vectors["params"]) == 3
    assert vectors["weight_decay"] == 0.0


def test_groups_share_the_rate_by_their_scale() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = optim.adamw(
        [{"params": [a]}, {"params": [b], "lr_scale": 0.5}, {"params": []}], betas=(0.9, 0.95)
    )
    optim.set_lr(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]
    assert all(group["betas"] == (0.9, 0.95) and group["fused"] for group in optimizer.param_groups)
