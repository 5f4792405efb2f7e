"""AdamW as the references use it, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

REFERENCE_BATCH = 256  # learning rates are quoted for this batch


def scaled_lr(base_lr: float, batch: int) -> float:
    """Learning rate for a batch: base_lr * batch / 256 (MAE, CroCo, MIMIC)."""
    return base_lr * batch / REFERENCE_BATCH


def cosine_lr(step: int, *, peak: float, floor: float, warmup: int, horizon: int) -> float:
    """Learning rate of step `step` (0 = first): linear from 0 to `peak` over `warmup` steps, then
    half a cosine down to `floor`.

    Args:
        horizon: step at which `floor` is reached. One beyond the end of the run stops on the way
            down, as CroCo v1 does (cosine over 800 epochs, stopped at 400).
    """
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / max(1, horizon - warmup))
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def param_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices and tokens decay, vectors (biases, norms) do
    not."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {
            "params": [parameter for parameter in trainable if parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {
            "params": [parameter for parameter in trainable if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]


def adamw(groups: Iterable[dict[str, Any]], *, betas: tuple[float, float]) -> torch.optim.AdamW:
    """Fused AdamW (four times faster than the per-parameter loop on a CPU); `set_lr` gives it its
    rate at every step.

    A group may carry `lr_scale`, its share of the scheduled rate (layer-wise decay).
    """
    return torch.optim.AdamW(
        [{"lr_scale": 1.0, **group} for group in groups if group["params"]],
        lr=0.0,
        betas=betas,
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
