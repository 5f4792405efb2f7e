"""What is tried: MIMIC's ViT-B/16 CroCo at 224 px on the GPU, or a model of toy size, as a
rehearsal, on any device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.pretraining import PAPER, PEAK_BF16, prepared
from mimic import config
from mimic.models.objectives.base import Pretraining
from mimic.params import load_params
from mimic.training.fit import choose_device
from mimic.training.precision import choose_precision

TOY = {
    "width": 32,
    "depth": 1,
    "heads": 2,
    "decoder_width": 32,
    "decoder_depth": 1,
    "decoder_heads": 2,
}


@dataclass(frozen=True)
class Subject:
    """The model's recipe, the device, and how much of everything."""

    recipe: config.Recipe
    device: torch.device
    rehearsal: bool

    @property
    def precision(self) -> str:
        return choose_precision(self.recipe.precision, self.device)

    @property
    def small_batch(self) -> int:
        """Pairs of a correctness check."""
        return 2 if self.rehearsal else 16

    @property
    def batches(self) -> tuple[int, ...]:
        """Pairs of a step whose speed and memory are measured."""
        return (2, 4) if self.rehearsal else (64, 128, 256, 512)

    @property
    def turns(self) -> int:
        return 2 if self.rehearsal else 20

    @property
    def attention_shape(self) -> tuple[int, int, int, int]:
        """Batch, heads, tokens, channels of a head."""
        size = self.recipe.model.size()
        heads = size.heads
        tokens = size.grid[0] * size.grid[1] + int(size.class_token)
        return self.small_batch, heads, tokens, size.width // heads

    @property
    def peak(self) -> float | None:
        """FLOP a second in bf16, from the makers' data sheets; None of a device that is not
        listed."""
        if self.device.type != "cuda":
            return None
        name = torch.cuda.get_device_name()
        return next((value for key, value in PEAK_BF16.items() if key in name), None)

    def prepared(self, batch: int, attention: str) -> tuple[Pretraining, Tensor, Tensor]:
        return prepared(self.recipe, batch, self.device, attention)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of one call: the median, after two that are not counted."""
        spent = []
        for turn in range(self.turns + 2):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if turn >= 2:
                spent.append(time.perf_counter() - start)
        return statistics.median(spent)


def subject(*, rehearsal: bool) -> Subject:
    recipe = load_params(PAPER).pretrain["mimic"]
    if rehearsal:
        model = recipe.model.model_copy(update=TOY)
        recipe = recipe.model_copy(update={"model": model, "device_batch": None, "workers": 1})
    return Subject(recipe, choose_device(), rehearsal)
