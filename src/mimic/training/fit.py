"""The training loop: step, log, save. Pretraining, fine-tuning and probes share it.

Nothing is read back from the device between two log steps, and nothing that is not finite is ever saved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.training import checkpoint
from mimic.training.augment import generator
from mimic.training.batches import prefetch
from mimic.training.optim import set_lr

T = TypeVar("T")
NEVER = 2**62


@dataclass(frozen=True)
class Record:
    """One log line; averages over the steps since the last one."""

    step: int  # optimizer steps made so far
    loss: float
    lr: float
    grad_norm: float
    steps_per_second: float


@dataclass(frozen=True)
class Saving:
    """Where and how often a run is saved. Calling `fit` again with the same folder resumes it."""

    folder: Path
    every: int
    keep: int


def fit(
    model: nn.Module,
    loss: Callable[[T], Tensor],
    batch: Callable[[int], T],
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    *,
    steps: int,
    seed: int,
    precision: str,
    workers: int,
    clip_norm: float | None,
    log_every: int,
    log: Callable[[Record], None],
    saving: Saving | None,
) -> None:
    """Train `model` in place up to `steps` optimizer steps.

    A run that is killed at any moment and called again ends with the weights of one that never stopped: the batch, the learning rate and
    the random numbers (also torch's global ones, for dropout) of a step depend on its number alone.

    Args:
        loss: scalar loss of a batch; it moves the batch to the device and closes over the model.
        batch: of a step (0 = first); pure, and called ahead of time in `workers` threads (0 = in this one).
        schedule: learning rate of a step.
        precision: "fp32", or "bf16" for autocast (weights stay fp32).
        clip_norm: largest gradient norm; None = not clipped.
        log: called every `log_every` steps and after the last.
        saving: None = nothing is saved, nothing resumed.

    Raises:
        BadInput: the loss or a gradient is not finite (names the step), or a checkpoint does not fit the model.
    """
    device = next(model.parameters()).device
    done = checkpoint.restore(saving.folder, model, optimizer) if saving else 0
    watch = _Watch(device)
    model.train()
    for step, data in prefetch(batch, done, steps, workers):
        torch.manual_seed(generator(seed, step).initial_seed())
        lr = schedule(step)
        set_lr(optimizer, lr)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = loss(data)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        watch.add(step, value.detach(), _grad_norm(model, clip_norm))
        optimizer.step()
        done = step + 1
        last = done == steps
        if done % log_every == 0 or last:
            log(watch.record(done, lr))
        if saving and (done % saving.every == 0 or last):
            watch.check(model)
            checkpoint.save(saving.folder, done, model, optimizer, saving.keep)
            watch.restart_clock()
    watch.check(model)


def choose_precision(choice: str, device: torch.device) -> str:
    """Resolve "auto": bf16 where the processor multiplies it natively (recent GPUs; AMX or AVX512-BF16), else fp32.

    Emulated bf16 is far slower: 14 against 113 GFLOP/s on two AVX2 cores.
    """
    if choice != "auto":
        return choice
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def choose_device() -> torch.device:
    """The first GPU, set to reproduce its results exactly, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


def _grad_norm(model: nn.Module, clip_norm: float | None) -> Tensor:
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None], foreach=True)
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm, foreach=True)
    return norm


class _Watch:
    """Sums on the device, read back only when a record or a check is asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bad = torch.full((), NEVER, dtype=torch.int64, device=device)
        self._reset()

    def _reset(self) -> None:
        self._loss = torch.zeros((), device=self._device)
        self._norm = torch.zeros((), device=self._device)
        self._count = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the speed what is not training."""
        self._since, self._timed = time.perf_counter(), 0

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        self._loss += loss
        self._norm += norm
        self._count += 1
        self._timed += 1
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._bad = torch.where(finite, self._bad, self._bad.clamp(max=step))

    def record(self, done: int, lr: float) -> Record:
        loss, norm = torch.stack([self._loss, self._norm]).div(self._count).tolist()
        self._refuse()
        speed = self._timed / (time.perf_counter() - self._since)
        self._reset()
        return Record(step=done, loss=loss, lr=lr, grad_norm=norm, steps_per_second=speed)

    def check(self, model: nn.Module) -> None:
        """Refuse to go on when a loss, a gradient or a weight is not finite."""
        self._refuse()
        finite = torch.stack([parameter.isfinite().all() for parameter in model.parameters()])
        if not bool(finite.all()):
            name = next(name for (name, _), good in zip(model.named_parameters(), finite.tolist(), strict=True) if not good)
            raise BadInput(f"training stopped: weight {name} is not finite, nothing was saved; lower base_lr, or use precision fp32")

    def _refuse(self) -> None:
        step = int(self._bad)
        if step != NEVER:
            raise BadInput(
                f"training stopped: the loss or a gradient is not finite at step {step}; nothing was saved from there on; "
                "lower base_lr, or use precision fp32"
            )
