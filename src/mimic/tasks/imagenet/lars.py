"""LARS (You et al. 2017): momentum SGD whose steps are scaled, tensor by tensor, to the size of the
weights they change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Lars(torch.optim.Optimizer):
    """As linear probes are trained (MAE, MoCo v3): only tensors of more than one axis decay and
    adapt; biases get plain momentum.

    Args:
        trust: a step's norm as a share of the weights' norm, before the learning rate.
    """

    def __init__(
        self, params: Iterable[Any], *, momentum: float, trust: float, weight_decay: float
    ) -> None:
        super().__init__(
            params, {"lr": 0.0, "momentum": momentum, "trust": trust, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient, at the group's learning rate."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        update = parameter.grad
        assert update is not None
        if parameter.ndim > 1:
            update = update.add(parameter, alpha=group["weight_decay"])
            weight_norm = parameter.norm(2.0)
            update_norm = update.norm(2.0)
            scale = group["trust"] * weight_norm / update_norm
            update = update * torch.where((weight_norm > 0) & (update_norm > 0), scale, 1.0)
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter)
        velocity = state["velocity"].mul_(group["momentum"]).add_(update)
        parameter.add_(velocity, alpha=-group["lr"])
