"""What the tests run on a cluster: functions that a job imports by name."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic.infra import progress, storage
from mimic.infra.cluster import Stop

SAID_EVERY = 10  # steps


def mine(item: tuple[str, str, int]) -> dict[str, Any]:
    """An item is (folder, behaviour, number). Every try leaves a line; a good one leaves the item's
    final file."""
    folder, behaviour, number = Path(item[0]), item[1], item[2]
    with (folder / f"tries-{number}").open("a") as file:
        file.write(f"{os.environ.get('SLURM_JOB_ID', 'local')}\n")
    first = (folder / f"tries-{number}").read_text().count("\n") == 1
    match behaviour:
        case "flaky" if first:
            raise ValueError(f"flaky item {number}")
        case "killed" if first:
            os.kill(os.getpid(), signal.SIGKILL)
        case "poisoned":
            raise KeyError(f"always bad {number}")
        case "slow":
            time.sleep(3)
        case "held":
            while (folder / "hold").exists():
                time.sleep(0.1)
        case "endless":
            time.sleep(600)
    storage.write_json(folder / f"item-{number}.json", number)
    return {"number": number, "memory_mb": int(os.environ.get("SLURM_MEM_PER_NODE", "0"))}


def train(description: Mapping[str, Any], run_dir: Path, stop: Stop) -> dict[str, Any]:
    """A training whose result one can compute: every step adds the sum over ranks of rank + step,
    after a decay."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        import torch.distributed as dist

        dist.init_process_group("gloo")
    if description.get("children"):
        for _ in range(2):
            multiprocessing.get_context("fork").Process(
                target=time.sleep, args=(600,), daemon=True
            ).start()
    checkpoint = run_dir / "checkpoint.json"
    start, total = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0.0)
    note(run_dir, rank, f"start {start}")
    for step in range(start, description["steps"]):
        if description.get("fails_at") == step and rank == world - 1:
            raise ArithmeticError("this rank fails on purpose")
        if description.get("disk_full_at") == step and rank == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(checkpoint))
        total = 0.9 * total + sum_over_ranks(rank + step, world)
        time.sleep(
            0 if start else description["pause_s"]
        )  # resumed: the test has seen what it came for
        wanted = stop.requested()
        if rank == 0 and (wanted or (step + 1) % description["save_every"] == 0):
            storage.write_json(checkpoint, (step + 1, total))
            note(run_dir, rank, f"saved {step + 1}")
        if rank == 0 and (step + 1) % SAID_EVERY == 0:
            progress.say(f"train: {step + 1}/{description['steps']} steps, 9.5 steps/s")
        if wanted:
            stop.exit()
    return {"rank": rank, "total": total, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}


def sum_over_ranks(value: int, world: int) -> float:
    if world == 1:
        return float(value)
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(float(value))
    dist.all_reduce(tensor)
    return float(tensor)


def expected_total(steps: int, world: int) -> float:
    """What an uninterrupted training of this size returns."""
    total = 0.0
    for step in range(steps):
        total = 0.9 * total + sum(rank + step for rank in range(world))
    return total


def note(run_dir: Path, rank: int, text: str) -> None:
    with (run_dir / f"notes-{rank}.txt").open("a") as file:
        file.write(text + "\n")


def drive(
    run_dir: str, description: dict[str, Any], resources: dict[str, Any], cluster: dict[str, Any]
) -> None:
    """A driver in a process of its own, so that a test can kill it."""
    from mimic import config
    from mimic.infra.cluster import run_training

    results = run_training(
        train, description, Path(run_dir), config.Resources(**resources), config.Cluster(**cluster)
    )
    print("RESULTS", json.dumps(results))


if __name__ == "__main__":
    import logging
    import sys

    # Not __main__: a job imports the function by its module's name.
    from tests.support import cluster_work

    logging.basicConfig(level=logging.INFO)
    cluster_work.drive(*json.loads(sys.argv[1]))
