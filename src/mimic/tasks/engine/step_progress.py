"""The steps of a task's training: shown as they are made, saved as the task says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from mimic.infra.progress import ProgressTracker, track
from mimic.tasks.sections import TrainedTask
from mimic.training.fit import Saving
from mimic.training.training_stats import LogRecord


class StepProgress:
    """Counts steps and keeps the loss that was logged last; None if none was."""

    def __init__(self, shown: ProgressTracker) -> None:
        self._shown = shown
        self.loss: float | None = None

    def counted(self, loss: Tensor) -> Tensor:
        """The loss of a step, as it was."""
        self._shown.advance(1)
        return loss

    def record(self, now: LogRecord) -> None:
        """What the loop logged: shown, and steps that were made before a resumption counted."""
        self.loss = now.loss
        self._shown.note = f"loss {now.loss:.4g}"

    def resumed(self, steps: int) -> None:
        """So many were made by an earlier process."""
        self._shown.resume(steps)


@contextmanager
def show_steps(title: str, steps: int) -> Iterator[StepProgress]:
    with track(title, steps, "steps", None, brief=True) as shown:
        yield StepProgress(shown)


def saving_of(task: TrainedTask, folder: Path) -> Saving | None:
    """Where and how often the task has its training saved; None = not."""
    if task.save_every is None:
        return None
    return Saving(folder, task.save_every, keep=1, keep_every=None)
