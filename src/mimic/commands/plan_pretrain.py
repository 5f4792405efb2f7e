"""What pretraining will take, from throughput measured here: days, bytes, checkpoints, and what
will be in the way.

Throughput comes from the logs of this workspace's runs (runs/pretrain/<run>/*/log.jsonl), as
arithmetic a second, which carries over to models of other sizes on the same devices; or from a file
of stated rates. What is neither measured nor stated is not made up.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.table import Table

from mimic import config
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.models import OBJECTIVES
from mimic.models.cost import training_flops
from mimic.models.objectives.masking import visible_count
from mimic.pairs.images import open_pairs, read_manifest
from mimic.params import Params
from mimic.training import journal

DAY_S = 86400
TRAINED_BYTES = 12  # of a number in a checkpoint: fp32, and AdamW's two moments
DECODED = 64  # pairs read to measure decoding
NOT_MEASURED = "not measured"


class Rates(BaseModel):
    """What the plan rests on; None = neither measured nor stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_gflops: float | None = Field(
        default=None, gt=0
    )  # GFLOP a second that one process sustains while training
    decode_ms_per_image: float | None = Field(default=None, gt=0)  # of one core
    bytes_per_pair: float | None = Field(default=None, gt=0)  # both JPEGs
    disk_mb_s: float | None = Field(
        default=None, gt=0
    )  # random reads of the store that holds the shards


def main(params: Params, root: Path, rates_file: Path | None, as_json: bool) -> None:
    """Print what every run of params takes.

    Raises:
        BadInput: nothing was trained here yet and no rate is stated; or the file of rates is wrong.
    """
    rates = measured(params, root)
    if rates_file is not None:
        rates = rates.model_copy(update=stated(rates_file).model_dump(exclude_none=True))
    if rates.device_gflops is None:
        raise BadInput(
            "plan pretrain: no run was trained in this workspace yet; train one for some steps, or "
            "state "
            '--rates with {"device_gflops": GFLOP a second of one device}'
        )
    job = params.cluster.pretrain
    devices = job.nodes * job.tasks_per_node
    runs = {
        name: plan(params, root, run, rates, devices)
        for name, run in params.runs.items()
        if run.steps
    }
    result = {
        "devices": devices,
        "cores_per_device": job.cpus_per_task,
        "rates": rates.model_dump(),
        "runs": runs,
    }
    print(json.dumps(result, indent=2)) if as_json else _show(result)


def plan(params: Params, root: Path, run: config.Run, rates: Rates, devices: int) -> dict[str, Any]:
    """One run's numbers; None where a rate is missing."""
    recipe = params.pretrain[run.recipe]
    flops = _flops(recipe)
    views = OBJECTIVES[recipe.objective].views
    samples = run.steps * recipe.batch
    pairs = samples * views / 2
    pairs_per_second = (
        rates.device_gflops * 1e9 / flops * views / 2 * devices if rates.device_gflops else None
    )
    per_pair = _bytes_per_pair(root, run.dataset) or rates.bytes_per_pair
    loads = _loads(
        rates, pairs_per_second, per_pair, params.cluster.pretrain.cpus_per_task * devices
    )
    slowest = max(loads, key=lambda what: loads[what])
    speed = pairs_per_second / max(1.0, loads[slowest]) if pairs_per_second else None
    return {
        "pairs_seen": round(pairs),
        "gflops_per_sample": flops / 1e9,
        "pairs_per_second": speed,
        "device_days": None if speed is None else pairs / speed / DAY_S * devices,
        "days": None if speed is None else pairs / speed / DAY_S,
        "bytes_read": None if per_pair is None else round(pairs * per_pair),
        "checkpoint_bytes": _checkpoint_bytes(recipe, run.steps),
        "bottleneck": slowest,
        "load": loads,  # demand over supply when the devices never wait; above 1 they do
    }


def measured(params: Params, root: Path) -> Rates:
    """What this workspace tells: the median speed of its newest run that trained, and decoding from
    its first manifest, timed now."""
    logs = sorted(
        (root / "runs/pretrain").glob("*/*/log.jsonl"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    gflops = next(filter(None, (_achieved(params, path) for path in logs)), None)
    manifest = next(
        (path for name in params.datasets if (path := Workspace(root).manifest(name)).exists()),
        None,
    )
    if manifest is None:
        return Rates(device_gflops=gflops)
    decode_ms = _decode_ms(manifest, root, params.cluster.shards)
    return Rates(
        device_gflops=gflops,
        decode_ms_per_image=decode_ms,
        bytes_per_pair=_bytes_per_pair(root, manifest.stem),
    )


def stated(path: Path) -> Rates:
    """Rates from a JSON file, or all that --json printed."""
    try:
        raw = json.loads(path.read_text())
        return Rates.model_validate(raw.get("rates", raw))
    except FileNotFoundError:
        raise BadInput(f"--rates {path}: no such file") from None
    except (ValidationError, ValueError, AttributeError) as error:
        raise BadInput(
            f"--rates {path}: not a file of rates: {' '.join(str(error).split())[:200]}"
        ) from None


def _achieved(params: Params, log: Path) -> float | None:
    """GFLOP a second of one process in a run's log; None for runs that params no longer has, or
    that left no speeds."""
    run = params.runs.get(log.parent.parent.name)
    speeds = [
        line["pairs_per_second"] for line in journal.read(log) if line.get("pairs_per_second")
    ]
    if run is None or not speeds:
        return None
    recipe = params.pretrain[run.recipe]
    samples = statistics.median(speeds) * 2 / OBJECTIVES[recipe.objective].views
    job = params.cluster.pretrain
    return samples * _flops(recipe) / 1e9 / (job.nodes * job.tasks_per_node)


def _flops(recipe: config.Recipe) -> float:
    size = recipe.model.size()
    visible = visible_count(size.patches, recipe.mask_ratio, recipe.visible_rounding)
    return training_flops(OBJECTIVES[recipe.objective].forward_flops(size, visible))


def _checkpoint_bytes(recipe: config.Recipe, steps: int) -> int:
    """Most that lies on disk at once: the last `keep`, every `keep_every`-th, one being written,
    and what is published."""
    count = OBJECTIVES[recipe.objective].parameters(recipe.model.size())
    for_good = 0 if recipe.keep_every is None else steps // (recipe.save_every * recipe.keep_every)
    return count * (
        TRAINED_BYTES * (min(recipe.keep, -(-steps // recipe.save_every)) + for_good + 1) + 2 * 4
    )


def _loads(
    rates: Rates, pairs_per_second: float | None, per_pair: float | None, cores: int
) -> dict[str, float]:
    """How much of each supply the devices ask for when they never wait; compute is 1 by
    definition."""
    loads = {"compute": 1.0}
    if pairs_per_second and rates.decode_ms_per_image:
        loads["decode"] = pairs_per_second * 2 * rates.decode_ms_per_image / 1000 / cores
    if pairs_per_second and per_pair and rates.disk_mb_s:
        loads["disk"] = pairs_per_second * per_pair / (rates.disk_mb_s * 1e6)
    return loads


def _bytes_per_pair(root: Path, dataset: str) -> float | None:
    path = Workspace(root).manifest(dataset)
    if not path.exists():
        return None
    sizes = pq.read_table(path, columns=["size_a", "size_b"])
    return (
        float(np.mean(sizes["size_a"].to_numpy() + sizes["size_b"].to_numpy()))
        if sizes.num_rows
        else None
    )


def _decode_ms(manifest: Path, root: Path, shards: config.Shards) -> float | None:
    """Milliseconds of one core to read and decode a stored image."""
    try:
        images = open_pairs(read_manifest(manifest, "train"), root, None, shards)
        chosen = np.arange(min(DECODED, len(images)))
        images.pairs(chosen)  # from the disk into memory
        start = time.process_time()
        images.pairs(chosen)
    except BadInput:  # the shards have moved; what is not there is not measured
        return None
    return (time.process_time() - start) * 1000 / (2 * len(chosen))


def _show(result: dict[str, Any]) -> None:
    table = Table(header_style="bold", box=None, pad_edge=False)
    for heading in (
        "run",
        "pairs seen",
        "GFLOP/sample",
        "pairs/s",
        "device-days",
        "days",
        "read",
        "checkpoints",
        "in the way",
    ):
        table.add_column(heading, justify="left" if heading in ("run", "in the way") else "right")
    for name, line in result["runs"].items():
        read = NOT_MEASURED if line["bytes_read"] is None else f"{line['bytes_read'] / 1e9:,.1f} GB"
        table.add_row(
            name,
            f"{line['pairs_seen']:,}",
            f"{line['gflops_per_sample']:.3g}",
            f"{line['pairs_per_second']:,.0f}",
            f"{line['device_days']:,.3g}",
            f"{line['days']:,.3g}",
            read,
            f"{line['checkpoint_bytes'] / 1e9:,.2f} GB",
            f"{line['bottleneck']} "
            f"({', '.join(f'{what} {load:.2f}' for what, load in line['load'].items())})",
        )
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    said = {
        name: NOT_MEASURED if value is None else f"{value:,.3g}"
        for name, value in result["rates"].items()
    }
    console.print(
        f"{result['devices']} devices, {result['cores_per_device']} cores each; {said}", style="dim"
    )
    console.print(
        "device-days assume that devices do not slow each other down; of decode and disk only what "
        "is listed was looked at",
        style="dim",
    )
