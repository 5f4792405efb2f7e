"""The mine stage itself on generated videos: how it scales with processes, and what memory it
takes.

Every measurement runs `mining.shard_job` in fresh processes. Scaling gives each process the same
work (weak scaling): with perfect scaling two processes take as long as one. Memory is the peak of
the worker (VmHWM), for little and for much to mine.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from mimic.mining import shard_job
from mimic.params import load_params

PARAMS = Path(__file__).parent.parent / "params.yaml"
FPS = 2
SIDE_PX = 224
STEP_PX = 60
TURNS = 3
Spent = tuple[float, float]  # wall and CPU seconds


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        return {**scaling(root / "scaling"), **memory(root / "memory")}


# ---------------------------------------------------------------------------- scaling


def scaling(root: Path) -> dict[str, Any]:
    """Rate per process with as many processes as there are cores, over that of one; and the same of
    a loop that shares nothing."""
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return {"scaling": None, "scaling_processes": 1}
    for number in range(cores):
        write_video(root / f"raw/{number}.mp4", seconds=60, seed=number)
    before = load()
    alone: dict[str, list[Spent]] = {"mine": [], "spin": []}
    together: dict[str, list[Spent]] = {"mine": [], "spin": []}
    for turn in range(TURNS):
        for name, work in (("mine", mine_one), ("spin", spin)):
            alone[name] += in_processes(work, root, 1, f"{turn}-alone")
            together[name].append(slowest(in_processes(work, root, cores, f"{turn}-together")))

    def ratio(
        name: str, of: int
    ) -> (
        float
    ):  # others on the machine only ever add: the least of the turns is nearest to the truth
        return round(
            min(spent[of] for spent in alone[name]) / min(spent[of] for spent in together[name]), 3
        )

    return {
        "scaling": ratio("mine", 0),
        "scaling_of_a_spinning_loop": ratio("spin", 0),  # what the machine allows at the same time
        "scaling_by_cpu_time": ratio(
            "mine",
            1,
            # waiting for a core that others use is not in it, waiting for memory and locks'
            # spinning is
        ),
        "scaling_wall_s": {
            "alone": [round(s, 2) for s, _ in alone["mine"]],
            "together": [round(s, 2) for s, _ in together["mine"]],
        },
        "scaling_processes": cores,
        "load_average": {"before": before, "after": load()},
    }


def slowest(spent: list[Spent]) -> Spent:
    return max(wall_s for wall_s, _ in spent), max(cpu_s for _, cpu_s in spent)


def in_processes(work: Any, root: Path, count: int, name: str) -> list[Spent]:
    """What each of `count` processes spends that start working at the same time."""
    with ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=settle
    ) as pool:
        list(pool.map(settled, range(4 * count)))
        return list(
            pool.map(work, *zip(*((root, number, name) for number in range(count)), strict=True))
        )


def settle() -> None:
    """As a worker of the pool does: one thread; numpy has been told by the environment."""
    cv2.setNumThreads(1)


def settled(_: int) -> None:
    """So that all processes have started and imported before any is timed."""
    time.sleep(0.2)


def spin(root: Path, number: int, name: str) -> Spent:  # noqa: ARG001
    """A loop that needs nothing but a core."""
    wall_s = time.monotonic()
    cpu_s = time.process_time()
    total = 0
    for value in range(40_000_000):
        total ^= value
    return time.monotonic() - wall_s, time.process_time() - cpu_s


def mine_one(root: Path, number: int, name: str) -> Spent:
    """One shard of one clip."""
    wall_s = time.monotonic()
    cpu_s = time.process_time()
    mine_clips(root, (f"{number}.mp4",), f"{name}-{number}")
    return time.monotonic() - wall_s, time.process_time() - cpu_s


def mine_clips(root: Path, clips: tuple[str, ...], name: str) -> float:
    """One shard; the process's peak memory in MB afterwards."""
    params = load_params(PARAMS)
    section = params.sources["phone"].model_copy(update={"root": root / "raw"})
    mine = params.mine.model_copy(update={"clips_per_shard": len(clips)})
    (job,) = shard_job.jobs("phone", section, mine, root, clips, root / "out" / name)
    job.tar.parent.mkdir(parents=True)
    shard_job.mine_shard(job)
    return peak_mb()


def peak_mb() -> float:
    """Of this process's memory. Not `ru_maxrss`, which begins with the peak of the process that
    started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def load() -> str:
    path = Path("/proc/loadavg")
    return path.read_text().strip() if path.is_file() else "unknown"


# ---------------------------------------------------------------------------- memory


def memory(root: Path, seconds: int = 200, clips: int = 4, factor: int = 4) -> dict[str, Any]:
    """Peak MB of a worker for a video and one `factor` times as long, and for some clips and
    `factor` times as many."""
    write_video(root / "raw/short.mp4", seconds, 0)
    write_video(root / "raw/long.mp4", seconds * factor, 0)
    for number in range(clips * factor):
        write_video(root / f"raw/{number:03}.mp4", seconds // 4, number)
    names = tuple(f"{number:03}.mp4" for number in range(clips * factor))
    peaks = {
        "short_video": peak(root, ("short.mp4",), "short"),
        "long_video": peak(root, ("long.mp4",), "long"),
        "few_clips": peak(root, names[:clips], "few"),
        "many_clips": peak(root, names, "many"),
    }
    return {
        "memory_growth_mb": round(
            max(
                peaks["long_video"] - peaks["short_video"], peaks["many_clips"] - peaks["few_clips"]
            ),
            1,
        ),
        "memory_growth_factor": factor,
        "memory_peaks_mb": {name: round(value, 1) for name, value in peaks.items()},
    }


def peak(root: Path, clips: tuple[str, ...], name: str) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=settle) as pool:
        return pool.submit(mine_clips, root, clips, name).result()


def write_video(path: Path, seconds: int, seed: int) -> None:
    """A camera that pans to and fro over a textured wall: a pair for every second or so; written
    frame by frame."""
    wide = wall(seed)
    span = wide.shape[1] - SIDE_PX
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        assert isinstance(stream, av.VideoStream)
        stream.width = SIDE_PX
        stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(seconds * FPS):
            at = abs((number * STEP_PX + span) % (2 * span) - span)
            image = np.ascontiguousarray(wide[:, at : at + SIDE_PX])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def wall(seed: int, width_px: int = 2400) -> np.ndarray:
    """Detail at every scale, RGB."""
    rng = np.random.default_rng(seed)
    total = np.zeros((SIDE_PX, width_px, 3), np.float32)
    for cell in (4, 8, 16, 32):
        noise = rng.normal(size=(SIDE_PX // cell + 2, width_px // cell + 2, 3)).astype(np.float32)
        total += cell**0.5 * cv2.resize(noise, (width_px, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 18 * total, 0, 255).astype(np.uint8)
