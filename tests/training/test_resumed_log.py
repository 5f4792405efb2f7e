"""A resumed run logs and shows what an uninterrupted one would have: no step is left out of an
average, and none that an earlier process made counts for the rate."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mimic.infra import progress
from mimic.infra.cluster.world import SINGLE_PROCESS, World
from mimic.tasks.engine.step_progress import show_steps
from mimic.training import checkpoint
from mimic.training.augment import generator
from mimic.training.fit import Optim, RunSpec, Saving, fit
from mimic.training.optim import adamw, parameter_groups
from mimic.training.training_stats import LogRecord, LogWindow, TrainingStats

STEPS = 12


class Killed(Exception):
    pass


def train(
    folder: Path,
    *,
    killed_at: int | None = None,
    every: int = 3,
    resumed: Callable[[int], None] | None = None,
) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of the log lines, by step."""
    lines = {}
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))

    def batch(step: int) -> list[Tensor]:
        if step == killed_at:
            raise Killed
        return [torch.rand(8, 4, generator=generator(5, step))]

    def note(now: LogRecord) -> None:
        lines[now.step] = (now.loss, now.grad_norm)

    optimizer = adamw(parameter_groups(model, 0.1), betas=(0.9, 0.95))
    with contextlib.suppress(Killed):
        fit(
            model,
            lambda called, data: (called(data) - data.sum(1, keepdim=True)).square().mean(),
            batch,
            Optim(optimizer, lambda step: 0.01),
            RunSpec(steps=STEPS, seed=1, precision="fp32", workers=0, log_every=5),
            log=note,
            resumed=resumed,
            saving=Saving(folder, every=every, keep=2, keep_every=None),
        )
    return lines


@pytest.mark.parametrize("every", [3, 5])
def test_killed_at_any_step_it_logs_the_same_lines(tmp_path: Path, every: int) -> None:
    whole = train(tmp_path / "whole", every=every)
    assert list(whole) == [5, 10, 12]
    for stop in range(1, STEPS):
        folder = tmp_path / str(stop)
        before = train(folder, killed_at=stop, every=every)
        assert before | train(folder, every=every) == whole, f"killed at step {stop}"


def test_a_checkpoint_of_before_still_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of the line under way, which averages the steps from there on."""
    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patched:
        save = checkpoint.save
        patched.setattr(checkpoint, "save", lambda *told: save(*told[:-1]))
        train(tmp_path / "old", killed_at=8)
    after = train(tmp_path / "old")
    assert list(after) == [10, 12]
    assert after[12] == whole[12]
    assert after[10] != whole[10]


def test_sums_of_several_ranks_are_each_ones_own_or_all_the_first_ones() -> None:
    window = LogWindow([1.0, 2.0, 4.0], 6.0, 3)
    kept = [TrainingStats(torch.device("cpu"), World(rank, 3), window) for rank in range(3)]
    assert [float(stats._loss) for stats in kept] == [1.0, 2.0, 4.0]
    fewer = [TrainingStats(torch.device("cpu"), World(rank, 2), window) for rank in range(2)]
    assert [float(stats._loss) for stats in fewer] == [7.0, 0.0]
    alone = TrainingStats(torch.device("cpu"), SINGLE_PROCESS, window)
    assert alone.window() == LogWindow([7.0], 6.0, 3)
    assert alone.record(9, 0.1).loss == pytest.approx(7 / 3)


def test_steps_made_before_say_nothing_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """900 of 2000 steps were made yesterday; this process makes 15 in ten seconds."""
    clock = iter([0.0, 20.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    track = progress.ProgressTracker("resume", 2000, "steps")
    track.resume(900)
    track.advance(15)
    assert track.line() == "resume: 915/2000 steps, 1.5 steps/s, 12:03 left"


def test_the_loop_tells_the_bar_where_it_goes_on(tmp_path: Path) -> None:
    told: list[int] = []
    train(tmp_path, killed_at=8, resumed=told.append)
    assert told == []
    train(tmp_path, resumed=told.append)
    assert told == [6]


def test_a_task_counts_what_was_made_before_at_once() -> None:
    with show_steps("train", STEPS) as shown:
        shown.resumed(6)
        shown.counted(torch.zeros(()))
        assert shown._shown.done == 7
        assert shown._shown._before == 6


def test_a_bar_begins_where_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.track("resume", 2000, "steps", None) as track:
        track.resume(900)
        (task,) = track._bar.tasks  # type: ignore[attr-defined]
        assert task.completed == 900
        assert task.speed is None
