"""Training a task's model: the one place where tasks call the loop.

`train` samples and reads examples as they are needed; `finetune.finetune` is for images with dense
labels, and adds features that are computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mimic.tasks.engine.saved_weights import BestCheckpoint, train_once
from mimic.tasks.engine.step_progress import saving_of, show_steps
from mimic.tasks.sections import TrainedTask
from mimic.training.fit import Optim, RunSpec, choose_device, fit
from mimic.training.machine import memory
from mimic.training.optim import Layered, adamw, cosine_lr, layer_decay_groups
from mimic.training.training_stats import LogRecord

T = TypeVar("T")
READERS = 2  # threads that prepare the next steps


def croco_rate(step: int, task: TrainedTask) -> float:
    """Learning rate of CroCo's fine-tuning: step / warm-up, reaching the peak after it; then half a
    cosine to 0."""
    warmup = round(task.warmup * task.steps)
    return cosine_lr(step, peak=task.lr, floor=0.0, warmup=warmup, horizon=task.steps)


def layer_decayed(model: Layered, task: TrainedTask) -> torch.optim.Optimizer:
    """AdamW with the layer-wise rates of a task."""
    groups = layer_decay_groups(model, task.weight_decay, task.layer_decay)
    return adamw(groups, betas=task.betas)


def train(
    model: nn.Module,
    task: TrainedTask,
    sample: Callable[[int], T],
    loss: Callable[[T], Tensor],
    optimizer: Callable[[], torch.optim.Optimizer],
    folder: Path,
    schedule: Callable[[int], float] | None = None,
) -> float | None:
    """Train in place by a task's numbers; the mean loss of the last tenth of the steps (None: not
    known).

    Args:
        sample: a step's examples; pure, called from threads.
        optimizer: made once the model is on its device.
        folder: where a long run keeps its checkpoints; calling again resumes it.
        schedule: learning rate of a step; None = `croco_rate`.
    """
    model.to(choose_device())

    def trained() -> float | None:
        optim = Optim(
            optimizer(), schedule or (lambda step: croco_rate(step, task)), task.clip_grad
        )
        return train_steps(model, task, sample, lambda _, batch: loss(batch), optim, folder)

    return train_once(model, folder, trained)


def train_steps(
    model: nn.Module,
    task: TrainedTask,
    sample: Callable[[int], T],
    loss: Callable[[nn.Module, T], Tensor],
    optim: Optim,
    folder: Path,
    *,
    title: str = "train",
    workers: int = READERS,
    best: BestCheckpoint | None = None,
) -> float | None:
    """All steps of a task's training, shown and saved; the loss that was logged last.

    Args:
        loss: of the model it is given (the same one, gradients shared) on a step's examples.
        workers: threads that call `sample` ahead of time; 0 = none.
        best: looked at on the way; afterwards the model is the best one.
    """
    advice = memory.lower_batch(title, task.batch)
    with show_steps(title, task.steps) as shown, memory.advised(advice):

        def record(now: LogRecord) -> None:
            shown.record(now)
            if best is not None:
                best.update(model, now.step)

        run = RunSpec(
            steps=task.steps,
            seed=task.seed,
            precision=task.precision,
            workers=workers,
            log_every=max(1, task.steps // 10) if best is None else best.every,
        )
        fit(
            model,
            lambda called, batch: shown.counted(loss(called, batch)),
            lambda step: [sample(step)],
            optim,
            run,
            log=record,
            resumed=shown.resumed,
            saving=saving_of(task, folder),
        )
    if best is not None:
        best.restore(model)
    return shown.loss
