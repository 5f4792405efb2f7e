"""`python -m tests.support.step_memory OBJECTIVE SAMPLES`: the bytes that a step of pretraining
takes, in a process that has done nothing else."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import torch

from mimic import config
from mimic.commands.workspace import choices
from mimic.models.objectives import build


def recipe_of(objective: str) -> config.Recipe:
    differs: dict[str, Any] = {"objective": objective, "visible_rounding": "up", "batch": 32}
    return choices.recipe("laptop", differs)[0]


def status(key: str) -> int:
    """Of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def step_takes(made: config.Recipe, samples: int) -> int:
    """The most that this process held in a step, beyond what it held before: not in the first one,
    which loads libraries."""
    if samples > 1:
        step_takes(made, 1)
    model = build(made.objective, made.model.size(), made.masking(), attention=made.attention)
    views = torch.rand(samples, model.views, 3, *made.model.height_width_px)
    noise = torch.rand(samples, made.model.size().patches)
    optimizer = torch.optim.AdamW(model.parameters())
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or the step takes what an earlier one gave back
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    model(views, noise)[0].backward()
    optimizer.step()
    return status("VmHWM") - before


if __name__ == "__main__":
    print(step_takes(recipe_of(sys.argv[1]), int(sys.argv[2])))
