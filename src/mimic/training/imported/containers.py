"""The one set of weights in a checkpoint that holds more: which is taken, what lies beside it, how
its keys are wrapped.

Nothing is chosen silently: every other set of weights is named with the option that takes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic.errors import BadInput
from mimic.models.formats.prefixes import without
from mimic.training.imported.safe_load import read_file

# Where the field keeps weights, the first that is there is taken; averages (EMA) only where nothing
# else is.
PLACES = (
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    "net",
    "network",
    "teacher",  # DINO: what its authors evaluate, an average of the student
    "encoder",
    "backbone",
    "model_ema",
    "state_dict_ema",
    "ema",
    "student",
)
FACTS = ("epoch", "croco_kwargs", "args", "arch", "mimic")  # read for what they say of the weights


@dataclass(frozen=True)
class Foreign:
    """Weights in fp32 under their bare names, and what lies around them.

    Attributes:
        facts: epoch, croco_kwargs, args, arch and what we state in exports, where they are there.
        taken: the entry that the weights come from; None = the file is the weights.
        others: further sets of weights in the file, which were not taken.
        beside: entries that are no weights and were left out, such as the optimizer.
        left_out: keys of the weights that are no part of the encoder or its decoder.
    """

    weights: dict[str, Tensor]
    facts: dict[str, Any]
    taken: str | None
    others: list[str]
    beside: list[str]
    left_out: list[str]


def read_checkpoint(path: Path, key: str | None = None, prefix: str | None = None) -> Foreign:
    """Weights of a .pth, .pt or .safetensors file, of a folder of shards or of its index.

    Args:
        key: the entry that holds the weights, dots between nested ones; None = where the field
            keeps them.
        prefix: what stands before the names, and nothing outside of it; None = the words of the
            field.

    Raises:
        BadInput: not a whole file of weights, or one that holds more than weights; nothing in it
            was executed.
    """
    content = read_file(path)
    if not isinstance(content, Mapping) or not content:
        raise BadInput(
            f"{path}: holds {type(content).__name__}, not named weights; expected a state_dict, or "
            "one under 'model'"
        )
    taken = key or next((entry for entry in PLACES if _is_weights(content.get(entry))), None)
    tensors = _at(content, taken, path)
    _refuse_more(tensors, taken, path)
    try:
        bare = without(list(tensors), prefix)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    weights = _plain(tensors, bare, path)
    others = (
        []
        if taken is None
        else [str(name) for name in content if name != taken and _is_weights(content[name])]
    )
    beside = (
        []
        if taken is None
        else [str(name) for name in content if name not in (taken, *others, *FACTS)]
    )
    return Foreign(
        weights,
        {
            name: _plain_fact(content[name])
            for name in FACTS
            if taken is not None and name in content
        },
        taken,
        sorted(others),
        sorted(beside),
        sorted(name for name in tensors if name not in bare),
    )


def _is_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and any(isinstance(item, Tensor) for item in value.values())
    )


def _at(content: Mapping[Any, Any], key: str | None, path: Path) -> Mapping[Any, Any]:
    """The entry under a key, or under each of its words in turn."""
    if key is None:
        return content
    if key in content and isinstance(content[key], Mapping):
        return content[key]
    entry: Any = content
    for word in key.split("."):
        if not isinstance(entry, Mapping) or word not in entry:
            entries = ", ".join(str(name)[:40] for name in list(content)[:8])
            raise BadInput(f"{path}: holds nothing under --key {key}; its entries: {entries}")
        entry = entry[word]
    if not isinstance(entry, Mapping):
        raise BadInput(f"{path}: --key {key} is {type(entry).__name__}, not named weights")
    return entry


def _refuse_more(tensors: Mapping[Any, Any], taken: str | None, path: Path) -> None:
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            deeper = _deeper(tensors)
            inside = (
                ""
                if deeper is None
                else f"; say --key {'.'.join([taken, deeper] if taken else [deeper])}"
            )
            raise BadInput(
                f"{path}: {str(name)[:60]!r} is {type(value).__name__}, not a tensor; expected a "
                f"state_dict, or one under 'model'{inside}"
            )


def _deeper(content: Mapping[Any, Any], levels: int = 4) -> str | None:
    """Where the first set of weights below lies, if there is one; not every nesting is worth
    following."""
    for name, value in content.items():
        if _is_weights(value):
            return str(name)[:60]
        below = _deeper(value, levels - 1) if levels and isinstance(value, Mapping) else None
        if below is not None:
            return f"{str(name)[:60]}.{below}"
    return None


def _plain(tensors: Mapping[str, Tensor], bare: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    """Finite numbers in fp32, each under its own bare name."""
    weights = {}
    for name, short in bare.items():
        value = tensors[name]
        if value.layout != torch.strided or not value.is_floating_point():
            raise BadInput(
                f"{path}: {name} is {value.dtype} ({value.layout}), not plain floating-point "
                "weights"
            )
        if value.is_meta:
            raise BadInput(
                f"{path}: holds no numbers: tensors on the meta device, such as {name}; save them "
                "once the weights are loaded"
            )
        numbers = value.detach().float()
        if not torch.isfinite(numbers).all():
            raise BadInput(
                f"{path}: {name} holds values that are not finite; the checkpoint is of a run that "
                "diverged"
            )
        weights[short] = numbers.contiguous()
    return weights


def _plain_fact(value: Any) -> Any:
    return vars(value) if isinstance(value, argparse.Namespace) else value
