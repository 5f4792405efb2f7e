"""How fast mining is, against plain implementations of what was published; what it takes, and how
it scales.

Run `python -m benchmarks.mining [--json]`. Images come from the folder MIMIC_TEST_DATA (default
../shared/data). Speed-ups compare CPU seconds of one thread, both sides timed in turns; reference
mode must give the plain rule's answer every time. `scaling` and memory are of the mine stage's own
shards; numerical libraries are held to one thread.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(
    dict.fromkeys(THREADS, "1")
)  # before numpy is imported, here and in every process started from here

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks import decoding, races, sample_data, workload  # noqa: E402
from benchmarks.races import RING_A, RING_B  # noqa: E402
from mimic.geometry import overlap  # noqa: E402

TARGETS = {
    "pair_stage_speedup": 60,
    "ring_speedup": 20,
    "ring_speedup_lowest": 10,
    "video_speedup": 9,
    "decode_speedup": 5,
    "scaling": 0.9,
}


def main() -> None:
    as_json = sample_data.wants_json(__doc__)
    cv2.setNumThreads(1)
    result = measure(sample_data.rule_of_params())
    print(json.dumps(result, indent=2)) if as_json else show(result)


def measure(rule: overlap.Rule) -> dict[str, Any]:
    used = workload.measure()  # first, before this process is large
    decoded = decoding.measure()
    raced = race(rule)
    rings = {
        name: found.summary()["speedup"]
        for name, found in raced.items()
        if name.startswith("ring_")
    }
    return {
        "pair_stage_speedup": raced["pair_stage"].summary()["speedup"],
        "ring_speedup": rings["ring_dense"],
        "ring_speedup_lowest": min(rings.values()),
        "video_speedup": raced["video"].summary()["speedup"],
        "sift_share": {
            name: found.summary()["sift_share"] for name, found in raced.items() if found.sift_s
        },
        "reference_identical": all(found.identical for found in raced.values()),
        "decode_speedup": decoded.pop("decode_speedup"),
        **used,
        "targets": TARGETS,
        "decoding": decoded,
        "races": {name: found.summary() for name, found in raced.items()},
        "stages_ms": races.stages(sample_data.stage_pairs(rule.size_px), rule),
        "stack": stack(),
    }


def race(rule: overlap.Rule) -> dict[str, races.Race]:
    kitchen = sample_data.kitchen_frames(rule.size_px)
    singles = sample_data.single_images(rule.size_px)
    with races.plain_side() as plain:
        return {
            "pair_stage": races.race_pair_stage(sample_data.stage_pairs(rule.size_px), rule, plain),
            "ring_dense": races.race_ring(
                kitchen[9 : 9 + RING_A], kitchen[17 : 17 + RING_B], rule, plain
            ),
            "ring_sparse": races.race_ring(
                kitchen[:RING_A], [*kitchen[10:12], *singles[: RING_B - 2]], rule, plain
            ),
            "ring_unrelated": races.race_ring(
                singles[:RING_A], singles[RING_A : RING_A + RING_B], rule, plain
            ),
            "video": races.race_video(kitchen[:51], rule, plain),
        }


def stack() -> dict[str, str]:
    cpu = next(
        (line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "cpu": cpu,
    }


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table(title="CPU ms a pair against the plain rule, one thread")
    for column in (
        "",
        "pairs",
        "with H",
        "plain",
        "reference",
        "symmetric",
        "x",
        "x sym.",
        "x same heap",
        "SIFT",
        "same",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for name, found in result["races"].items():
        table.add_row(name, *(str(value) for value in found.values()))
    console.print(table)
    console.print("stages, ms (median):", result["stages_ms"])
    for name in (
        "decode_speedup",
        "decoding",
        "scaling",
        "scaling_of_a_spinning_loop",
        "load_average",
        "memory_growth_mb",
        "memory_peaks_mb",
    ):
        console.print(f"{name}:", result.get(name))
    console.print("stack:", result["stack"])


if __name__ == "__main__":
    main()
