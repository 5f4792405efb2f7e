"""When work began and ended, and how busy the machine was: a file beside the work, written while it
runs. No tracker is needed for it, so that compute nodes can write it.

    {"time": 1764360000.0, "begun": true, "commit": "c0ffee..."}
    {"time": 1764360010.0, "cpu_utilization_percentage": 93.1, ...}      MLflow's names and units
    {"time": 1764370000.0, "ended": true, "of": "..."}       what was made, where that is not clear

Work that goes on after an interruption appends to it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic.infra.progress import repeating, say
from mimic.infra.provenance import git_commit
from mimic.infra.storage import made_folder

FILE = "system.jsonl"
EVERY_S = 10.0  # as MLflow samples
MB = 1e6
GPU = "nvidia-smi --query-gpu=utilization.gpu,memory.used,memory.total,power.draw"
GPU_NAMES = (
    "utilization_percentage",
    "memory_usage_megabytes",
    "memory_usage_percentage",
    "power_usage_watts",
)
NOT_SAMPLES = {"time", "begun", "ended", "commit", "of", "work"}


@dataclass(frozen=True)
class Recorded:
    """What such a file says; times in seconds since 1970."""

    begun: float | None = None
    ended: float | None = None  # the last sign of life where nothing says that it ended
    commit: str | None = None  # of the code that began it last
    of: str | None = None  # which result it is of
    samples: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def recorded(
    path: Path, root: Path, every_s: float = EVERY_S, work: str | None = None
) -> Iterator[dict[str, Any]]:
    """Write such a file while the block runs. A disk that is full costs the rest of the record, and
    a line; never the work.

    Args:
        root: of the repository whose commit is noted.
        work: tells what the file is of, where its name does not; other work begins it anew.

    Yields:
        What the last line says beside the time; to be added to.
    """
    writer = _Writer(path)
    writer.begin(git_commit(root), work)
    last = {"ended": True}
    with repeating(lambda: writer.line(sample()), every_s):
        yield last
    writer.line(last)


class _Writer:
    """Appends lines, until one cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped = False

    def begin(self, commit: str | None, work: str | None) -> None:
        """A file of work that has ended, or of other work, is begun anew."""
        lines = json_lines(self._path)
        others = any(line.get("begun") and line.get("work") != work for line in lines)
        if others or any(line.get("ended") for line in lines):
            self._path.unlink(missing_ok=True)
        made_folder(self._path.parent)
        named = {} if work is None else {"work": work}
        self.line({"begun": True, "commit": commit} | named)

    def line(self, what: dict[str, Any]) -> None:
        if self._stopped:
            return
        try:
            with self._path.open("a") as file:
                file.write(json.dumps({"time": round(time.time(), 3)} | what) + "\n")
        except OSError as error:
            self._stopped = True
            say(f"{self._path}: not written any more ({error.strerror}); the work goes on")


def sample() -> dict[str, float]:
    """How busy this machine is now."""
    import psutil

    memory = psutil.virtual_memory()
    disk = psutil.disk_usage("/")
    network = psutil.net_io_counters()
    load = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MB,
        "system_memory_usage_percentage": memory.used / memory.total * 100,
        "disk_usage_megabytes": disk.used / MB,
        "disk_usage_percentage": disk.percent,
        "disk_available_megabytes": disk.free / MB,
        "network_receive_megabytes": network.bytes_recv / MB,
        "network_transmit_megabytes": network.bytes_sent / MB,
    }
    return {name: round(value, 1) for name, value in (load | _gpus()).items()}


def _gpus() -> dict[str, float]:
    """Of every GPU of NVIDIA's that is seen here; nothing where there is none, or it does not say
    a number."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = [*GPU.split(), "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):  # a busy driver; the next sample asks again
        return {}
    load: dict[str, float] = {}
    for index, line in enumerate(asked.stdout.splitlines() if asked.returncode == 0 else []):
        try:
            busy, used, total, power = (float(number) for number in line.split(","))
        except ValueError:  # "[N/A]"
            continue
        mebi = 2**20 / MB
        values = (busy, used * mebi, used / total * 100, power)
        load |= {
            f"gpu_{index}_{name}": value for name, value in zip(GPU_NAMES, values, strict=True)
        }
    return load


def read(path: Path) -> Recorded:
    """What a record says; nothing where there is none."""
    lines = [line for line in json_lines(path) if isinstance(line.get("time"), int | float)]
    if not lines:
        return Recorded()
    commits = [line["commit"] for line in lines if line.get("commit")]
    return Recorded(
        begun=float(lines[0]["time"]),
        ended=float(lines[-1]["time"]),
        commit=str(commits[-1]) if commits else None,
        of=lines[-1].get("of"),
        samples=[line for line in lines if not line.keys() <= NOT_SAMPLES],
    )


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The mappings of a growing log; lines that a kill or a power cut has torn are passed over."""
    try:
        texts = path.read_text(errors="replace").split("\n")[:-1]  # the last may be half written
    except FileNotFoundError:
        return []
    lines = []
    for text in texts:
        with suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict):
                lines.append(line)
    return lines
