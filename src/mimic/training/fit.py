"""The training loop: step, log, save. Pretraining, fine-tuning and probes share it, on one process
or many.

Nothing is read back from the device between two log steps, and nothing that is not finite is ever
saved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.infra.cluster import Stop
from mimic.infra.cluster.stop import listening_stop
from mimic.infra.cluster.world import SINGLE_PROCESS, World
from mimic.training import checkpoint
from mimic.training.augment import generator
from mimic.training.batches import prefetch
from mimic.training.optim import set_lr
from mimic.training.training_stats import LogRecord, LogWindow, TrainingStats

T = TypeVar("T")


@dataclass(frozen=True)
class Saving:
    """Where and how often a run is saved. Calling `fit` again with the same folder resumes it."""

    folder: Path
    every: int  # steps
    keep: int  # the newest so many
    keep_every: int | None  # of the checkpoints written, every so many-th is also kept for good


@dataclass(frozen=True)
class Runtime:
    """Where a loop runs: one of how many ranks, and who may ask it to stop."""

    world: World
    stop: Stop | None


THIS_PROCESS = Runtime(SINGLE_PROCESS, None)  # until it is done


@dataclass(frozen=True)
class MicroBatch:
    """Some samples of a step's batch: what one rank does in one forward and backward pass."""

    samples: slice
    share: float  # of the whole batch; those of all ranks' micro-batches sum to 1


FROM_THE_START = checkpoint.Restored(0, None)
FULL_BATCH = (MicroBatch(slice(None), 1.0),)


@dataclass(frozen=True)
class Optim:
    """How weights move: `schedule` is the learning rate of a step, `clip_norm` the largest gradient
    norm (None = not clipped)."""

    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    clip_norm: float | None = None


@dataclass(frozen=True)
class RunSpec:
    """How far and how a loop runs.

    Args:
        steps: optimizer steps in all.
        seed: of the random numbers of each step.
        precision: "fp32", or "bf16" for autocast (weights stay fp32).
        workers: threads that load batches ahead of time; 0 = this one.
        log_every: steps between two log lines; the last step has one as well.
    """

    steps: int
    seed: int
    precision: str
    workers: int
    log_every: int


def micro_batches(batch: int, largest: int | None, world: World) -> tuple[MicroBatch, ...]:
    """This rank's slice of a batch, cut evenly into micro-batches of at most `largest` samples
    (None = one).

    Raises:
        BadInput: there are more ranks than samples.
    """
    if batch < world.size:
        raise BadInput(
            f"a batch of {batch} is too small for {world.size} processes; raise batch, or lower "
            "cluster.pretrain.tasks_per_node"
        )
    first, last = (rank * batch // world.size for rank in (world.rank, world.rank + 1))
    count = -(-(last - first) // (largest or last - first))
    edges = [first + index * (last - first) // count for index in range(count + 1)]
    return tuple(
        MicroBatch(slice(start, stop), (stop - start) / batch) for start, stop in pairwise(edges)
    )


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, T], Tensor],
    batch: Callable[[int], Sequence[T]],
    optim: Optim,
    run: RunSpec,
    *,
    log: Callable[[LogRecord], None],
    resumed: Callable[[int], None] | None = None,
    saving: Saving | None = None,
    parts: Sequence[MicroBatch] = FULL_BATCH,
    runtime: Runtime = THIS_PROCESS,
) -> None:
    """Train `model` in place up to `run.steps` optimizer steps.

    A run that is killed at any moment and called again ends with the weights of one that never
    stopped: the batch, the learning rate and the random numbers (also torch's global ones, for
    dropout) of a step depend on its number alone. At another world size, or cut into other
    micro-batches, the same sums are added in another order: equal to floating-point tolerance.

    Args:
        loss: mean loss over the samples of a micro-batch; it is given the model to call (the same
            one, gradients shared), moves the micro-batch to the device, and must be a mean over
            samples, each weighing the same.
        batch: of a step (0 = first), what each of `parts` holds; pure, and called ahead of time in
            threads.
        log: called every `run.log_every` steps and after the last; a resumed run gives it what an
            uninterrupted one would have.
        resumed: called once, before the first step, with the number of steps made by earlier calls,
            if there are any.
        saving: None = nothing is saved, nothing resumed.
        parts: of this rank, see `micro_batches`; gradients add up over them and are exchanged once.

    Raises:
        BadInput: the loss or a gradient is not finite (names the step), or a checkpoint does not
            fit the model.
        Stopped: `runtime.stop` was asked to, or whoever hears this process's signals, where a run
            is saved at all; the step that was under way is saved.
    """
    device = next(model.parameters()).device
    world = runtime.world
    stop = _asked_to_stop(runtime, saving)
    optimizer = optim.optimizer
    restored = FROM_THE_START
    if saving:
        restored = checkpoint.restore(saving.folder, model, optimizer, world)
    first = restored.step
    if first and resumed is not None:
        resumed(first)
    if first and saving and world.rank == 0:
        _keep(saving, first)  # a process may have been killed between saving it and keeping it
    shared = world.data_parallel(model)
    stats = TrainingStats(device, world, restored.window)
    shares = [part.share for part in parts]
    model.train()
    for step, data in prefetch(batch, first, run.steps, run.workers):
        if step == first and world.size > 1:
            # A discarded pass: DDP re-orders its buckets after the first one, and a sum over ranks
            # depends, in its last bits, on the place in a bucket. A resumed run starts where the
            # uninterrupted one has long been.
            _backward(shared, loss, data[:1], [1.0], run.precision, world)
        torch.manual_seed(generator(run.seed, step).initial_seed())
        lr = optim.schedule(step)
        set_lr(optimizer, lr)
        optimizer.zero_grad(set_to_none=True)
        value = _backward(shared, loss, data, shares, run.precision, world)
        stats.add(step, value, _grad_norm(model, optim.clip_norm))
        optimizer.step()
        done = step + 1
        last = done == run.steps
        if done % run.log_every == 0 or last:
            log(stats.record(done, lr))
        leaving = stop is not None and stop.requested() and not last
        if saving and (done % saving.every == 0 or last or leaving):
            stats.check(model)
            _save(saving, done, model, optimizer, world, stats.window())
            stats.restart_clock()
        if leaving and stop is not None:
            stop.exit()
    stats.check(model)


def _asked_to_stop(runtime: Runtime, saving: Saving | None) -> Stop | None:
    """A loop that nobody gave a Stop, such as a task's, heeds the signals of the job that it is in.

    One that saves nothing goes on: leaving early would lose all, and it may end in time.
    """
    if runtime.stop is not None or saving is None:
        return runtime.stop
    return listening_stop()


def _save(
    saving: Saving,
    done: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    world: World,
    window: LogWindow,
) -> None:
    if world.rank != 0:
        return
    checkpoint.save(saving.folder, done, model, optimizer, world, saving.keep, window)
    _keep(saving, done)


def _keep(saving: Saving, done: int) -> None:
    """Keep the checkpoint of this step, if it is one of those that are published."""
    if saving.keep_every and done % (saving.every * saving.keep_every) == 0:
        checkpoint.keep_for_good(saving.folder, done)


def _backward(
    model: nn.Module,
    loss: Callable[[nn.Module, T], Tensor],
    data: Sequence[T],
    shares: Sequence[float],
    precision: str,
    world: World,
) -> Tensor:
    """Gradients of the mean loss over the whole batch, exchanged with the last part; returns this
    rank's share of the loss."""
    total: Tensor | None = None
    for index, (part, share) in enumerate(zip(data, shares, strict=True)):
        with nullcontext() if index + 1 == len(shares) else world.no_sync(model):
            with torch.autocast(
                next(model.parameters()).device.type, torch.bfloat16, enabled=precision == "bf16"
            ):
                value = loss(model, part)
            (value * (share * world.size)).backward()  # ranks are averaged, not summed
        portion = value.detach() * share
        total = portion if total is None else total + portion
    assert total is not None
    return total


def choose_device() -> torch.device:
    """The first GPU, set to reproduce its results exactly, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda", torch.cuda.current_device())


def _grad_norm(model: nn.Module, clip_norm: float | None) -> Tensor:
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm(
        [parameter.grad for parameter in parameters if parameter.grad is not None], foreach=True
    )
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm, foreach=True)
    return norm
