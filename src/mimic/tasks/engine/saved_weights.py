"""What a task has trained, kept until the evaluation is published: measuring it may fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.infra.progress import say
from mimic.infra.storage import write_json
from mimic.training.checkpoint import read_weights, write_weights

WEIGHTS = "trained.safetensors"
TRAINED = "trained.json"


def train_once(model: nn.Module, folder: Path, train: Callable[[], float | None]) -> float | None:
    """Train a model in place, or take the weights that it was given in this folder before.

    Args:
        folder: of one model of one evaluation: same numbers, encoder and data.
        train: its answer, the loss, is what `train_once` answers.
    """
    weights = folder / WEIGHTS
    record = folder / TRAINED
    if record.exists():
        say(f"{folder}: trained before, not trained again")
        _load(model, read_weights(weights), weights)
        return _loss(record)
    loss = train()
    write_weights(_changed(model), weights, {})
    write_json(record, {"train_loss": loss})  # last: it says that the weights are whole
    return loss


def has_trained(folder: Path) -> bool:
    """Whether an evaluation that keeps its work in this folder has trained a model."""
    return any(folder.rglob(TRAINED))


class BestCheckpoint:
    """The weights that did best so far on validation images, kept on disk: a run that is killed and
    resumed forgets none.

    Args:
        every: steps between two looks; the last step is looked at as well.
        score: of the model as it is; lower is better.
        folder: of best.safetensors and best.json.
    """

    def __init__(self, every: int, score: Callable[[], float], folder: Path) -> None:
        self.every = every
        self._score = score
        self._weights = folder / "best.safetensors"
        self._record = folder / "best.json"
        record = json.loads(self._record.read_text()) if self._record.exists() else {}
        self.step = record.get("step")
        self.value = record.get("value", math.inf)

    def update(self, model: nn.Module, step: int) -> None:
        """Score the model, and keep its weights where it did better than at any step before."""
        value = self._score()
        if value < self.value:
            write_weights(model.state_dict(), self._weights, {})
            write_json(self._record, {"step": step, "value": value})
            self.step = step
            self.value = value

    def restore(self, model: nn.Module) -> None:
        if self._weights.exists():
            model.load_state_dict(read_weights(self._weights))


def _loss(path: Path) -> float | None:
    loss: float | None = json.loads(path.read_text())["train_loss"]
    return loss


def _changed(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that have a gradient, and running statistics."""
    fixed = {name for name, one in model.named_parameters() if not one.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in fixed}


def _load(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    shapes = {name: value.shape for name, value in _changed(model).items()}
    if {name: value.shape for name, value in weights.items()} != shapes:
        raise BadInput(f"{path}: weights of another model; remove {path.parent} and evaluate again")
    model.load_state_dict(weights, strict=False)
