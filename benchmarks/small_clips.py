"""What many small clips cost: `python -m benchmarks.small_clips [--folders N] [--json]`.

Folders of two pictures that make no pair, mined by `mimic pairs`: seconds, CPU seconds of all its
processes, how often it waited for the disk (fsync), and how many files it left.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# Read first by every process of the run: a byte is added to a file for each fsync.
COUNTER = """
import os
real, counted = os.fsync, os.open(os.environ["COUNTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def fsync(file):
    os.write(counted, b".")
    return real(file)
os.fsync = fsync
"""


def measure(folders: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _write(root / "clips", folders)
        (root / "site").mkdir()
        (root / "site/sitecustomize.py").write_text(COUNTER)
        counted = root / "counted"
        path = os.pathsep.join([str(root / "site"), os.environ.get("PYTHONPATH", "")])
        command = [
            sys.executable,
            "-c",
            "from mimic.cli import main; main()",
            "pairs",
            "clips",
            "--out",
            "out",
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=root,
            env=os.environ | {"PYTHONPATH": path, "COUNTED": str(counted)},
            capture_output=True,
        )
        seconds = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in (0, 1):  # 1: no pair, which is as it should be
            raise RuntimeError(done.stderr.decode())
        return {
            "folders": folders,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(
                after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
            ),
            "fsyncs": counted.stat().st_size,
            "files": sum(
                file.is_file() and not file.name.startswith(".")
                for file in (root / "out").rglob("*")
            ),
        }


def _write(root: Path, folders: int) -> None:
    """Two pictures of noise in each, smoothed so that they have features."""
    rng = np.random.default_rng(0)
    noise = (
        cv2.GaussianBlur(rng.integers(0, 256, (224, 224, 3), np.uint8), (0, 0), 3) for _ in range(2)
    )
    pictures = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in noise]
    for number in range(folders):
        folder = root / f"{number // 100:03}" / f"{number:05}"
        folder.mkdir(parents=True)
        for side, picture in enumerate(pictures):
            (folder / f"{side}.jpg").write_bytes(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    wanted = parser.parse_args()
    found = measure(wanted.folders)
    print(
        json.dumps(found)
        if wanted.json
        else "\n".join(f"{key}: {value}" for key, value in found.items())
    )
