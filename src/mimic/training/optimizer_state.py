"""AdamW's averages of a foreign checkpoint, in one file beside its weights, and into an optimizer.

models/<import>/optimizer.safetensors    exp_avg.<tensor>, exp_avg_sq.<tensor>; the step is in
                                         its metadata
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.training.checkpoint import read_weights, write_weights

FILE = "optimizer.safetensors"
AVERAGES = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class OptimizerState:
    """Averages by the names that tensors have in our models.

    Attributes:
        step: optimizer steps that were made.
        betas: decay of the two averages.
    """

    step: int
    betas: tuple[float, float]
    averages: dict[str, dict[str, Tensor]]  # "exp_avg" and "exp_avg_sq" by name of a tensor

    def write(self, path: Path) -> None:
        """One .safetensors file: averages as exp_avg.<tensor>, step and betas in its metadata."""
        tensors = {
            f"{average}.{name}": value
            for average, values in self.averages.items()
            for name, value in values.items()
        }
        write_weights(tensors, path, {"step": self.step, "betas": list(self.betas)})

    @classmethod
    def read(cls, path: Path) -> OptimizerState:
        """
        Raises:
            BadInput: it is damaged, or none that `import-weights --optimizer` wrote.
        """
        tensors = read_weights(path)
        try:
            with safe_open(path, "pt") as file:
                metadata = json.loads((file.metadata() or {})["mimic"])
            step = int(metadata["step"])
            first, second = metadata["betas"]
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise BadInput(f"{path}: not an optimizer's averages ({error}); import again") from None
        averages: dict[str, dict[str, Tensor]] = {average: {} for average in AVERAGES}
        for key, value in tensors.items():
            average, _, name = key.partition(".")
            averages.get(average, {})[name] = value
        return cls(step, (float(first), float(second)), averages)

    def problem(self, model: nn.Module, betas: tuple[float, float]) -> str | None:
        """Why an optimizer of `model` cannot go on with this, in a few words."""
        shapes = {n: p.shape for n, p in model.named_parameters() if p.requires_grad}
        for values in self.averages.values():
            for name in sorted(shapes.keys() | values.keys()):
                if name not in values:
                    return f"it has no averages of {name}"
                if name not in shapes:
                    return f"it has averages of {name}, which the recipe's model has not"
                if values[name].shape != shapes[name]:
                    stored = list(values[name].shape)
                    expected = list(shapes[name])
                    return f"{name} is {stored} there and {expected} in the recipe's model"
        if self.betas != tuple(betas):
            return f"its betas are {list(self.betas)} and the recipe's {list(betas)}"
        return None

    def load_into(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Give every parameter its averages, as if the optimizer had made the steps itself."""
        names: Mapping[nn.Parameter, str] = {p: name for name, p in model.named_parameters()}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[parameter]
                state = {key: self.averages[key][name].to(parameter) for key in AVERAGES}
                step = torch.tensor(float(self.step), dtype=torch.float32, device=parameter.device)
                optimizer.state[parameter] = {"step": step, **state}
