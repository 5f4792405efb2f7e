"""Pretraining in one, two and four processes: the same weights, and the same again after being
killed, told to stop, or moved."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support import toy_runs
from tests.support.toy_runs import change, files

STEPS = 60  # four interruptions of a few steps each, and enough left to finish
pytestmark = [
    pytest.mark.timeout(1800),  # four processes that import torch, time and again
    pytest.mark.usefixtures("one_thread"),
]
COMMAND = [
    sys.executable,
    "-c",
    "import torch; torch.set_num_threads(1); from mimic.cli import main; main()",
    "pretrain",
    "croco",
]
STOPPED = "stopped by a signal"
# By the number of ranks. Many take long to start, and their driver passes the last three on alike.
BLOWS = {
    1: [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2, signal.SIGINT],
    2: [signal.SIGKILL, signal.SIGINT],
    4: [signal.SIGTERM, signal.SIGUSR2],
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A run that saves every step, with views that are cropped, mirrored and jittered, and a batch
    that four ranks share unevenly."""
    root = toy_runs.write_workspace(tmp_path_factory.mktemp("ranks"), repository)
    augment = {"swap": 0.5, "crop": "resized", "crop_area": [0.2, 1.0], "flip": 0.5, "jitter": 0.4}
    matching = {"weight": 0.5, "temperature": 0.1}
    change(
        root,
        "pretrain",
        "croco",
        batch=10,
        device_batch=2,
        save_every=1,
        log_every=1,
        augment=augment,
        matching=matching,
    )
    change(root, "runs", "croco", steps=STEPS)
    return root


def start(workspace: Path, ranks: int) -> subprocess.Popen[str]:
    change(workspace, "cluster", "pretrain", tasks_per_node=ranks)
    return subprocess.Popen(
        [*COMMAND, "--params", "params.yaml"], cwd=workspace, stderr=subprocess.PIPE, text=True
    )


def finish(workspace: Path, ranks: int) -> Path:
    process = start(workspace, ranks)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return workspace / "models/croco"


def reached(workspace: Path) -> int:
    """The newest checkpoint's step."""
    return max(
        (int(mark.stem[5:]) for mark in workspace.glob("runs/pretrain/croco/*/step-*.json")),
        default=0,
    )


def processes(driver: int) -> list[int]:
    """The ranks that a driver has started; the driver itself where it is the only one."""
    children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    ranks = [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return ranks or [driver]


def interrupt(
    workspace: Path, ranks: int, how: signal.Signals, whom: str, random: random.Random
) -> None:
    """Start it, let it make a few steps, and send a signal at a random moment to the driver or to
    one of its ranks.

    The ranks are paused at that moment until the signal has reached them, so that a fast machine
    does not end the run first.
    """
    before = reached(workspace)
    process = start(workspace, ranks)
    enough = before + random.randint(1, 3)
    while process.poll() is None and reached(workspace) < enough:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    paused = processes(process.pid)
    time.sleep(0.03 * random.random())
    for rank in paused:
        os.kill(rank, signal.SIGSTOP)
    os.kill(process.pid if whom == "driver" else random.choice(paused), how)
    if how is not signal.SIGKILL and paused != [process.pid]:
        wait_until(
            lambda: all(pending(rank, signal.SIGTERM) for rank in paused)
        )  # the driver passes any of the three on as SIGTERM
    for rank in paused:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGCONT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode != 0
    assert before < reached(workspace) < STEPS
    assert not (workspace / "models/croco/card.json").exists()
    if how is not signal.SIGKILL:
        assert process.returncode == 1
        assert STOPPED in errors
        assert "Traceback" not in errors
    elif whom == "rank" and ranks > 1:
        assert "died without a word" in errors


def pending(process: int, number: signal.Signals) -> bool:
    """Whether a paused process will hear of a signal as soon as it goes on."""
    shared = re.search(
        r"^ShdPnd:\s*([0-9a-f]+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE
    )
    assert shared
    return bool(int(shared[1], 16) >> (number - 1) & 1)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def expected(workspace: Path) -> Callable[[int], Path]:
    """The folder that an uninterrupted run of so many ranks publishes, made when first asked
    for."""

    def make(ranks: int) -> Path:
        kept = workspace / f"kept-{ranks}"
        if not kept.exists():
            (finish(workspace, ranks) if ranks > 1 else toy_runs.run(workspace, "croco")).rename(
                kept
            )
            toy_runs.forget_trained(workspace, "croco")
        return kept

    return make


@pytest.mark.parametrize(
    "ranks", [pytest.param(1, marks=pytest.mark.long), 2, pytest.param(4, marks=pytest.mark.long)]
)
def test_killed_or_stopped_at_random_moments_it_ends_with_the_same_files(
    workspace: Path, expected: Callable[[int], Path], ranks: int
) -> None:
    published = files(expected(ranks))
    numbers = random.Random(ranks)
    blows = BLOWS[ranks].copy()
    numbers.shuffle(blows)
    for how in blows:
        whom = numbers.choice(["driver", "rank"]) if how is signal.SIGKILL else "driver"
        interrupt(workspace, ranks, how, whom, numbers)
    assert files(finish(workspace, ranks)) == published
    shutil.rmtree(workspace / "models/croco")
    toy_runs.forget_trained(workspace, "croco")
    assert not list((workspace / "models").glob(".*"))


@pytest.mark.long
def test_the_number_of_ranks_does_not_matter(
    workspace: Path, expected: Callable[[int], Path]
) -> None:
    """Also not when it changes on the way: begun by two, ended by one."""
    one, *others = (expected(ranks) for ranks in (1, 2, 4))
    interrupt(workspace, 2, signal.SIGKILL, "rank", random.Random(0))
    change(workspace, "cluster", "pretrain", tasks_per_node=1)
    moved = toy_runs.run(workspace, "croco")
    for other in (*others, moved):
        weights, wanted = determined(other), determined(one)
        assert max(float((weights[key] - wanted[key]).abs().max()) for key in wanted) < 1e-5
        assert [line["loss"] for line in lines(other)] == pytest.approx(
            [line["loss"] for line in lines(one)], rel=1e-5
        )
    assert json.loads((moved / "card.json").read_text())["steps"] == STEPS


def determined(folder: Path) -> dict[str, torch.Tensor]:
    """The weights without the biases of attention's keys: they add the same to every score, so
    their gradient is rounding alone.

    AdamW divides it by its own size, and the biases wander by the learning rate at every step,
    another way for every order of summing.
    """
    weights = load_file(folder / "model.safetensors")
    for key in [key for key in weights if key.endswith("qkv.bias")]:
        queries, _, values = weights[key].chunk(3)
        weights[key] = torch.cat([queries, values])
    return {key: value for key, value in weights.items() if not key.endswith("projk.bias")}


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
