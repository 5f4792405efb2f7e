"""Cells of the study on a GPU: what a workspace needs to be carried there, and as many cells as the
time allows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import yaml

from benchmarks import study
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.params import Params, load_params

LIMIT_MB = 60.0
SHRUNK = 4  # labelled pictures of 320 px to 80 px, for a model of 64 px
RESERVED_S = 20.0  # to end, and to write what was found
PICTURES = (".jpg", ".png")


def pack(workspace: Path, out: Path, without: Sequence[str] = ()) -> float:
    """Copy parameters, manifests, shards and labelled data of a study's workspace to `out`.

    Args:
        without: tasks that are left out of the table, with their data.

    Depth is carried at a quarter of its size, so that its results are of other data than those of
    the workspace and say so by their digest.

    Returns:
        Megabytes.

    Raises:
        BadInput: `out` exists, or it is more than LIMIT_MB.
    """
    if out.exists():
        raise BadInput(f"{out}: exists; name a new folder")
    raw = yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))
    raw["table"]["tasks"] = [task for task in raw["table"]["tasks"] if task not in without]
    whole = Workspace(workspace)
    out.mkdir(parents=True)
    (out / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    params = load_params(out / "params.yaml")
    for dataset in {params.runs[run].dataset for run in params.table.runs}:
        manifest = whole.manifest(dataset)
        _copy(workspace, out, manifest)
        for shard in pd.read_parquet(manifest, columns=["shard"])["shard"].unique():
            _copy(workspace, out, workspace / shard)
    for data in _labelled(params):
        _shrink(workspace / data, out / data)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    if size > LIMIT_MB:
        raise BadInput(
            f"{out}: {size:.0f} MB, more than {LIMIT_MB:.0f} can be carried; leave tasks out with "
            "--without"
        )
    return size


def _copy(workspace: Path, out: Path, path: Path) -> None:
    target = out / path.relative_to(workspace)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def _labelled(params: Params) -> set[str]:
    """Folders of labelled data that the table's tasks read."""
    tasks = (params.evaluate[task] for task in params.table.tasks)
    return {str(data) for task in tasks if (data := getattr(task, "data", None)) is not None}


def _shrink(folder: Path, out: Path) -> None:
    """Pictures of depth at a quarter; labels of motion depend on their size and stay."""
    depth = (folder / "depth").is_dir() and (folder / "color").is_dir()
    for path in sorted(folder.rglob("*")):
        target = out / path.relative_to(folder)
        if path.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not depth or path.suffix not in PICTURES:
            shutil.copy(path, target)
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise BadInput(f"{path}: not a picture that OpenCV reads")
        how = cv2.INTER_AREA if path.suffix == ".jpg" else cv2.INTER_NEAREST
        height, width = image.shape[:2]
        small = cv2.resize(image, (width // SHRUNK, height // SHRUNK), interpolation=how)
        if not cv2.imwrite(str(target), small):
            raise OSError(f"{target}: cannot be written")


def cells(workspace: Path, out: Path, deadline: float) -> dict[str, Any]:
    """Run cells until the time is over; one that was not finished goes on at the next call.

    Args:
        deadline: of `time.monotonic`.
    """
    wanted = study.cells_of(load_params(workspace / "params.yaml"))
    done: dict[str, float] = {}
    for cell in wanted:
        left = deadline - time.monotonic() - RESERVED_S
        if left <= 0:
            break
        words = ["--workspace", str(workspace), "--out", str(out), "--cells", cell]
        started = time.monotonic()
        try:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.study", *words], check=True, timeout=left
            )
        except subprocess.TimeoutExpired:
            break
        done[cell] = round(time.monotonic() - started, 1)
    not_run = [cell for cell in wanted if cell not in done]
    return {"seconds": done, "not_run": not_run, "ok": True}
