"""AdamW's averages in a checkpoint of MAE, CroCo or MIMIC, under the names of its weights.

An optimizer numbers its parameters and knows no names. The official code of all three fills two
groups in the order of the model's parameters: vectors and biases, which do not decay, and the rest.
A model's weights are saved in that order as well, tables of positions between them, which are not
trained. So the n-th of a group is the n-th name of its kind. Whatever cannot be checked (another
order of the weights, other groups, a shape that differs) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic.errors import BadInput
from mimic.training.imported.safe_load import read_file
from mimic.training.optimizer_state import AVERAGES, OptimizerState

ENTRY = "optimizer"


def read_averages(path: Path, weights: Mapping[str, Tensor]) -> OptimizerState:
    """The optimizer of a checkpoint, by the names that its weights have there.

    Args:
        weights: bare names and tensors in the order of the file.

    Raises:
        BadInput: there is none, or its parameters cannot be told with certainty.
    """
    content = read_file(path)
    state = content.get(ENTRY) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state):
        raise BadInput(f"{path}: holds no optimizer; import it without --optimizer")
    try:
        return _named(state, weights)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: its optimizer cannot be read with certainty: {error}; import it without "
            "--optimizer"
        ) from None


def _named(state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> OptimizerState:
    groups = state["param_groups"]
    _refuse_other_order(list(weights))
    if len(groups) != 2:
        raise ValueError(
            f"it has {len(groups)} groups of parameters, and the official code makes 2"
        )
    trained = {key: one for key, one in weights.items() if not key.endswith("pos_embed")}
    vectors = [key for key, one in trained.items() if one.ndim == 1]
    others = [key for key in trained if key not in vectors]
    averages: dict[str, dict[str, Tensor]] = {average: {} for average in AVERAGES}
    steps: set[int] = set()
    plain = sorted(groups, key=lambda group: _ndim(state, group) != 1)
    for group, names in zip(plain, (vectors, others), strict=True):
        if len(group["params"]) != len(names):
            raise ValueError(f"a group has {len(group['params'])} parameters for {len(names)}")
        for number, name in zip(group["params"], names, strict=True):
            steps.add(_take(state["state"], number, name, weights[name], averages))
    betas = {tuple(float(beta) for beta in group["betas"]) for group in groups}
    if len(steps) != 1 or len(betas) != 1:
        raise ValueError("its parameters differ in their steps or betas")
    first, second = betas.pop()
    return OptimizerState(steps.pop(), (first, second), averages)


def _ndim(state: Mapping[str, Any], group: Mapping[str, Any]) -> int:
    """Axes of a group's parameters: 1 for vectors, 2 for all the rest."""
    shapes = {min(state["state"][number][AVERAGES[0]].ndim, 2) for number in group["params"]}
    if len(shapes) != 1:
        raise ValueError("a group mixes vectors with other parameters")
    return shapes.pop()


def _take(
    states: Mapping[Any, Any],
    number: int,
    name: str,
    weight: Tensor,
    averages: dict[str, dict[str, Tensor]],
) -> int:
    """Copy the averages of one parameter; its step."""
    one = states[number]
    if set(one) != {"step", *AVERAGES}:
        raise ValueError(f"parameter {number} holds {', '.join(sorted(map(str, one)))}")
    for average in AVERAGES:
        value = one[average]
        if value.shape != weight.shape:
            raise ValueError(f"{list(value.shape)} for {name}, which is {list(weight.shape)}")
        if not torch.isfinite(value).all() or (average == AVERAGES[1] and (value < 0).any()):
            raise ValueError(f"the averages of {name} are not those of AdamW")
        averages[average][name] = value.detach().float().contiguous()
    return int(one["step"])


def _refuse_other_order(names: Sequence[str]) -> None:
    """A model saves its own parameters first, blocks by number, and of a layer the weight before
    the bias; a file that was sorted or put together anew does not."""
    position = {name: index for index, name in enumerate(names)}
    for name, index in position.items():
        weight = re.sub(r"\.bias$", ".weight", name)
        if position.get(weight, index) > index:
            raise ValueError(f"{name} lies before {weight}")
    blocks = [match for name in names if (match := re.match(r"(.*?blocks\w*)\.(\d+)\.", name))]
    for part in {match[1] for match in blocks}:
        numbers = [int(match[2]) for match in blocks if match[1] == part]
        if numbers != sorted(numbers):
            raise ValueError(f"{part} are not in their order")
    tokens = [position[name] for name in names if "." not in name]
    if tokens != list(range(len(tokens))):
        raise ValueError("its tokens do not lie before its layers")
