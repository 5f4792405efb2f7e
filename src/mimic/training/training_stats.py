"""What a loop knows of itself: loss, gradient norm, speed and memory, summed on the device and read
back only when asked for."""

from __future__ import annotations

import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.infra.cluster.world import World

NEVER = 2**62


@dataclass(frozen=True)
class LogRecord:
    """One log line; averages over the steps since the last one, and over all ranks."""

    step: int  # optimizer steps made so far
    loss: float
    lr: float
    grad_norm: float  # before clipping
    steps_per_second: float
    memory_gb: float  # most that this rank has held so far, on its GPU if it has one


@dataclass(frozen=True)
class LogWindow:
    """Sums of the steps since the last log line, as a checkpoint keeps them."""

    losses: list[float]  # of each rank, its share
    norm: float
    count: int

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)


class TrainingStats:
    """Sums on the device. Reading them is a collective.

    Args:
        window: of a run that is resumed; None = no step was made since the last log line.
    """

    def __init__(self, device: torch.device, world: World, window: LogWindow | None = None) -> None:
        self._device = device
        self._world = world
        self._bad = torch.full((), NEVER, dtype=torch.int64, device=device)
        self._reset()
        if window is not None:
            self._go_on(window)

    def _go_on(self, window: LogWindow) -> None:
        """Each rank with its own sum where there are as many as before; else the first has all."""
        losses = window.losses
        if len(losses) != self._world.size:
            losses = [sum(losses), *[0.0] * (self._world.size - 1)]
        self._loss += losses[self._world.rank]
        self._norm += window.norm
        self._count = window.count

    def window(self) -> LogWindow:
        """What a run that is resumed here needs for its first log line."""
        losses = torch.zeros(self._world.size, device=self._device)
        losses[self._world.rank] = self._loss
        losses = self._world.all_reduce_sum(losses)
        return LogWindow(losses.tolist(), self._norm.item(), self._count)

    def _reset(self) -> None:
        self._loss = torch.zeros((), device=self._device)
        self._norm = torch.zeros((), device=self._device)
        self._count = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the speed what is not training."""
        self._since = time.perf_counter()
        self._timed = 0

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Note a step: this rank's share of the loss, and the norm of the gradient that all ranks
        have."""
        self._loss += loss
        self._norm += norm
        self._count += 1
        self._timed += 1
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._bad = torch.where(finite, self._bad, self._bad.clamp(max=step))

    def record(self, done: int, lr: float) -> LogRecord:
        """The log line of the steps since the last one; raises BadInput as `check` does."""
        loss, norm = (
            torch.stack([self._world.all_reduce_sum(self._loss), self._norm])
            .div(self._count)
            .tolist()
        )
        self._refuse()
        speed = self._timed / (time.perf_counter() - self._since) if self._timed else 0.0
        self._reset()
        return LogRecord(
            step=done,
            loss=loss,
            lr=lr,
            grad_norm=norm,
            steps_per_second=speed,
            memory_gb=_memory_gb(self._device),
        )

    def check(self, model: nn.Module) -> None:
        """Refuse to go on when a loss, a gradient or a weight is not finite.

        Raises:
            BadInput: names the first such step, or the weight.
        """
        self._refuse()
        finite = torch.stack([parameter.isfinite().all() for parameter in model.parameters()])
        if not bool(finite.all()):
            name = next(
                name
                for (name, _), good in zip(model.named_parameters(), finite.tolist(), strict=True)
                if not good
            )
            raise BadInput(
                f"training stopped: weight {name} is not finite, nothing was saved; lower base_lr, "
                "or use precision fp32"
            )

    def _refuse(self) -> None:
        step = int(self._world.all_reduce_min(self._bad))
        if step != NEVER:
            raise BadInput(
                f"training stopped: the loss or a gradient is not finite at step {step}; nothing "
                "was saved from there on; "
                "lower base_lr, or use precision fp32"
            )


def _memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kibibytes on Linux
