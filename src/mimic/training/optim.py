"""AdamW as the references use it, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

REFERENCE_BATCH = 256  # learning rates are quoted for this batch
UNDECAYED = ("cls_token", "reg_token", "mask_token", "pos_embed")  # ends of names
Described = tuple[Hashable, nn.Parameter, dict[str, Any]]  # key of its group, and its options


def scaled_lr(base_lr: float, batch: int) -> float:
    """Learning rate for a batch: base_lr * batch / 256 (MAE, CroCo, MIMIC)."""
    return base_lr * batch / REFERENCE_BATCH


def cosine_lr(
    step: int,
    *,
    peak: float,
    floor: float,
    warmup: int,
    horizon: int,
    peak_in_warmup: bool = False,
) -> float:
    """Learning rate of step `step` (0 = first): linear from 0 to `peak` over `warmup` steps, then
    half a cosine down to `floor`.

    Args:
        horizon: step at which `floor` is reached. One beyond the end of the run stops on the way
            down, as CroCo v1 does (cosine over 800 epochs, stopped at 400).
        peak_in_warmup: the last step of the warm-up reaches the peak already (MultiMAE's
            fine-tuning); else the first one after it does (MAE, CroCo).
    """
    if step < warmup:
        if peak_in_warmup:
            return float(np.linspace(0.0, peak, warmup)[step])
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / max(1, horizon - warmup))
    angle = math.pi * progress
    if peak_in_warmup:  # the same in MultiMAE's order of operations: equal to its last digit
        angle = math.pi * (step - warmup) / (horizon - warmup)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(angle))


def multistep_lr(
    step: int, *, peak: float, warmup: int, warmup_from: float, drops: Sequence[float]
) -> float:
    """Learning rate of step `step`: linear from `warmup_from` * rate over `warmup` steps; the rate
    is `peak`, and a tenth of what it was from each step of `drops` on (ViTPose)."""
    rate = peak * 0.1 ** sum(step >= drop for drop in drops)
    if step >= warmup:
        return rate
    return rate * (warmup_from + (1 - warmup_from) * step / warmup)


class Layered(Protocol):
    """A model whose parameters lie in layers, counted from the input."""

    last_layer: int  # of the head

    def layer_of(self, name: str) -> int:
        """The layer of a parameter, by its name."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by whether they decay: matrices and tokens do, vectors (biases, norms)
    do not."""

    def described() -> Iterator[Described]:
        for parameter in model.parameters():
            if parameter.requires_grad:
                decays = parameter.ndim > 1
                yield decays, parameter, {"weight_decay": weight_decay if decays else 0.0}

    return _grouped(described())


def layer_decay_groups(
    model: Layered,
    weight_decay: float,
    layer_decay: float,
    *,
    undecayed: tuple[str, ...] = UNDECAYED,
) -> list[dict[str, Any]]:
    """Trainable parameters by layer and by whether they decay.

    The rate of a layer is `layer_decay` times that of the next, that of the head is the scheduled
    one (`lr_scale`). Vectors and biases do not decay, nor does what is `undecayed`: in fine-tuning
    tokens and positions, in pretraining nothing.
    """

    def described() -> Iterator[Described]:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                layer = model.layer_of(name)
                decays = parameter.ndim > 1 and not name.endswith(undecayed)
                options = {
                    "weight_decay": weight_decay if decays else 0.0,
                    "lr_scale": layer_decay ** (model.last_layer - layer),
                }
                yield (layer, decays), parameter, options

    return _grouped(described())


def _grouped(described: Iterable[Described]) -> list[dict[str, Any]]:
    """A group for each key, in the order of their first parameters."""
    groups: dict[Hashable, dict[str, Any]] = {}
    for key, parameter, options in described:
        groups.setdefault(key, {"params": [], **options})["params"].append(parameter)
    return list(groups.values())


def adamw(groups: Iterable[dict[str, Any]], *, betas: tuple[float, float]) -> torch.optim.AdamW:
    """Fused AdamW, which is faster than a loop over parameters on a CPU, too; `set_lr` gives it
    its rate at every step.

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
