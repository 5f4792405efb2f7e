"""Which machine trained a run: kept beside its log, where what is the machine's and not the model's
lies."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from mimic.infra.storage import read_json, write_json

NAME = "machine.json"
CPUINFO = Path("/proc/cpuinfo")


def record(folder: Path, device: torch.device, ranks: int) -> None:
    """Write down the machine that works on a run; a run that goes on elsewhere adds another."""
    known = (read_json(folder / NAME) or {}).get("machines", [])
    name = _described(device, ranks)
    if name not in known:
        write_json(folder / NAME, {"machines": [*known, name]})


def recorded(folder: Path) -> str | None:
    """The machines that worked on a run; None where nobody wrote them down."""
    content = read_json(folder / NAME)
    return None if content is None else ", then ".join(content["machines"])


def _described(device: torch.device, ranks: int) -> str:
    if device.type == "cuda":
        return f"{ranks} x {torch.cuda.get_device_name(device)}"
    processor = f"{_processor()}, {torch.get_num_threads()} threads"
    return processor if ranks == 1 else f"{ranks} processes of {processor}"


def _processor() -> str:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
