"""Training a task's model on examples that are drawn and read as they are needed, for tasks whose
input is more than one labelled image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mimic.tasks.engine.saved_weights import once
from mimic.tasks.engine.step_progress import saving, stepping
from mimic.tasks.sections import TrainedTask
from mimic.training.fit import HERE, WHOLE, choose_device, fit
from mimic.training.optim import cosine_lr

T = TypeVar("T")
READERS = 2  # threads that prepare the next steps


def croco_rate(step: int, task: TrainedTask) -> float:
    """Learning rate of CroCo's fine-tuning: step / warm-up, reaching the peak after it; then half a
    cosine to 0."""
    warmup = round(task.warmup * task.steps)
    return cosine_lr(step, peak=task.lr, floor=0.0, warmup=warmup, horizon=task.steps)


def train(
    model: nn.Module,
    task: TrainedTask,
    draw: Callable[[int], T],
    loss: Callable[[T], Tensor],
    optimizer: Callable[[], torch.optim.Optimizer],
    folder: Path,
    schedule: Callable[[int], float] | None = None,
) -> float | None:
    """Train in place by a task's numbers; the mean loss of the last tenth of the steps (None: not
    known).

    Args:
        draw: a step's examples; pure, called from threads.
        optimizer: made once the model is on its device.
        folder: where a long run keeps its checkpoints; calling again resumes it.
        schedule: learning rate of a step; None = `croco_rate`.
    """
    model.to(choose_device())

    def trained() -> float | None:
        with stepping("train", task.steps) as shown:
            fit(
                model,
                lambda _, drawn: shown.counted(loss(drawn)),
                lambda step: [draw(step)],
                optimizer(),
                schedule or (lambda step: croco_rate(step, task)),
                parts=WHOLE,
                steps=task.steps,
                seed=task.seed,
                precision=task.precision,
                workers=READERS,
                clip_norm=task.clip_grad,
                log_every=max(1, task.steps // 10),
                log=shown.record,
                saving=saving(task, folder),
                place=HERE,
            )
        return shown.loss

    return once(model, folder, trained)
