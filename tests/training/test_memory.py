"""Memory: a step takes no more than is computed, what there is of it is seen, and where it ends one
line says what to lower."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from mimic.commands.workspace import choices
from mimic.errors import BadInput
from mimic.training.machine import memory
from tests.support import REPOSITORY, step_memory, toy_runs

MB = 1 << 20


@contextmanager
def at_most_more(count: int) -> Iterator[None]:
    """This process may take so many bytes beyond what it has: a small machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    held = pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("objective", ["croco", "mae", "siamese"])
def test_a_step_takes_no_more_than_is_computed(objective: str) -> None:
    """Measured in a process of its own: what earlier tests freed lies about in this one."""
    bound = memory.of_step(step_memory.recipe_of(objective))
    command = [sys.executable, "-m", "tests.support.step_memory", objective, "32"]
    taken = int(subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout)
    assert taken <= bound.of(32)
    assert taken > bound.of(32) / 5


def test_the_numbers_of_a_vit_b() -> None:
    """111 million parameters of CroCo's base (MIMIC's decoder), 16 bytes each."""
    made, _ = choices.recipe("gpu", {})
    need = memory.of_step(made)
    assert 1.7e9 < need.fixed < 2.3e9
    assert 150 * MB < need.a_sample < 400 * MB
    assert need.largest(need.of(24)) == 24
    assert need.largest(1e9) == 0


def test_a_limit_of_the_process_counts() -> None:
    free = memory.usable_bytes(torch.device("cpu"))
    with at_most_more(200 * MB):
        assert memory.usable_bytes(torch.device("cpu")) == pytest.approx(100 * MB, rel=0.1)
    assert free > 100 * MB


def test_a_small_machine_computes_fewer_samples_at_once() -> None:
    usual, why = choices.device_batch("laptop", {})
    assert usual is None
    assert why.startswith("32 samples at once take at most 0.22 GB of ")
    with at_most_more(200 * MB):
        few, why = choices.device_batch("laptop", {})
    assert few in (8, 16)
    assert "32 samples at once take at most 0.22 GB, and 0.1 GB of memory can be used" in why
    with at_most_more(20 * MB):
        one, why = choices.device_batch("laptop", {})
    assert one == 1
    assert "even one takes" in why


def test_a_run_out_of_memory_names_the_key_to_lower(tmp_path: Path, repository: Path) -> None:
    workspace = toy_runs.write_workspace(tmp_path, repository)
    toy_runs.change(workspace, "pretrain", "croco", batch=8192)
    with (
        at_most_more(500 * MB),
        pytest.raises(
            BadInput,
            match=r"^out of memory: 8192 samples were computed at once; set "
            r"runs\.croco\.device_batch: 4096 \(the batch stays 8192, the rest is accumulated\)$",
        ),
    ):
        toy_runs.run(workspace, "croco")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory.advised("lower it"):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(BadInput, match="^out of memory: lower it$"), memory.advised("lower it"):
        np.empty(1 << 60, np.uint8)
    with pytest.raises(BadInput, match="^out of memory: lower it$"), memory.advised("lower it"):
        torch.empty(1 << 60, dtype=torch.uint8)
