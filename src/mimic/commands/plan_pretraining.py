"""`mimic plan --pretrain`: days, bytes, checkpoints and the bottleneck of pretraining, from
measured throughput.

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
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from mimic import config
from mimic.commands import printed
from mimic.commands.stated_rates import read_rates
from mimic.errors import BadInput
from mimic.infra.storage import SEED, Workspace
from mimic.models import OBJECTIVES
from mimic.pairs.images import open_pairs, read_manifest
from mimic.pairs.read import read_table
from mimic.pairs.schema import MANIFEST
from mimic.params import Params, pick
from mimic.training import journal

DAY_S = 86400
TRAINED_BYTES = 12  # of a number in a checkpoint: fp32, and AdamW's two moments
DECODED = 64  # pairs read to measure decoding
NOT_MEASURED = "not measured"
COLUMNS = (
    "run",
    "pairs seen",
    "GFLOP/sample",
    "pairs/s",
    "device-days",
    "days",
    "read",
    "checkpoints",
    "bottleneck",
)


class Rates(BaseModel):
    """What the plan rests on; None = neither measured nor stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # GFLOP a second that one process sustains while training
    device_gflops: float | None = Field(default=None, gt=0)
    decode_ms_per_image: float | None = Field(default=None, gt=0)  # of one core
    bytes_per_pair: float | None = Field(default=None, gt=0)  # both JPEGs
    # random reads of the store that holds the shards
    disk_mb_s: float | None = Field(default=None, gt=0)


def main(
    params: Params, root: Path, name: str | None, rates_file: Path | None, as_json: bool
) -> None:
    """Print what every run of params takes, or the one of this name.

    Raises:
        BadInput: nothing was trained here yet and no rate is stated; or the file of rates is wrong.
    """
    planned = params.runs if name is None else {name: pick(params.runs, name, "run")}
    rates = measured_rates(params, root)
    if rates_file is not None:
        stated = read_rates(rates_file, Rates.model_validate)
        rates = rates.model_copy(update=stated.model_dump(exclude_none=True))
    if rates.device_gflops is None:
        raise BadInput(
            "plan --pretrain: no run was trained in this workspace yet (by this version, whose "
            "logs say the arithmetic a second); train one for some steps, "
            'or state --rates with {"device_gflops": GFLOP a second of one device}'
        )
    job = params.cluster.pretrain
    devices = job.nodes * job.tasks_per_node
    result = {
        "devices": devices,
        "cores_per_device": job.cpus_per_task,
        "rates": rates.model_dump(),
        "runs": {
            run: estimate(params, root, run, rates, devices)
            for run, section in planned.items()
            if section.steps
        },
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)


def estimate(params: Params, root: Path, name: str, rates: Rates, devices: int) -> dict[str, Any]:
    """One run's numbers; None where a rate is missing."""
    run = params.runs[name]
    recipe = params.recipe(name)
    flops = recipe.sample_flops
    views = OBJECTIVES[recipe.objective].views
    samples = run.steps * recipe.batch
    pairs = samples * views / 2 * len(run.all_seeds)
    demand = None  # pairs a second that the devices ask for when they never wait
    if rates.device_gflops:
        demand = rates.device_gflops * 1e9 / flops * views / 2 * devices
    per_pair = _bytes_per_pair(root, run.dataset) or rates.bytes_per_pair
    cores = params.cluster.pretrain.cpus_per_task * devices
    loads = _loads(rates, demand, per_pair, cores)
    slowest = max(loads, key=lambda what: loads[what])
    speed = None
    days = None
    if demand is not None:
        speed = demand / max(1.0, loads[slowest])
        days = pairs / speed / DAY_S
    return {
        "pairs_seen": round(pairs),
        "gflops_per_sample": flops / 1e9,
        "pairs_per_second": speed,
        "seeds": len(run.all_seeds),
        "device_days": None if days is None else days * devices,
        "days": days,
        "bytes_read": None if per_pair is None else round(pairs * per_pair),
        "checkpoint_bytes": _checkpoint_bytes(recipe, run.steps, len(run.all_seeds)),
        "bottleneck": slowest,
        "load": loads,  # demand over supply when the devices never wait; above 1 they do
    }


def measured_rates(params: Params, root: Path) -> Rates:
    """What this workspace measured: the median speed of its newest run that trained, and decoding
    from its first manifest, timed now."""
    folder = root / "runs/pretrain"
    logs = sorted(
        [*folder.glob("*/*/log.jsonl"), *folder.glob(f"*/{SEED}*/*/log.jsonl")],
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    gflops = next(filter(None, map(_achieved, logs)), None)
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


def _achieved(log: Path) -> float | None:
    """GFLOP a second of one process in a run's log; None where it holds no speeds, as those that
    earlier versions wrote: what recipe they are of is not known."""
    speeds = [line["gflops"] for line in journal.read(log) if line.get("gflops")]
    return statistics.median(speeds) if speeds else None


def _checkpoint_bytes(recipe: config.Recipe, steps: int, seeds: int) -> int:
    """Most that lies on disk at once: the last `keep`, every `keep_every`-th, one being written,
    and what is published."""
    count = OBJECTIVES[recipe.objective].parameters(recipe.model.size())
    permanent = 0
    if recipe.keep_every is not None:
        permanent = steps // (recipe.save_every * recipe.keep_every)
    latest = min(recipe.keep, -(-steps // recipe.save_every))
    checkpoints = latest + permanent + 1  # one is being written
    published = 3  # copies, fp32: in its work, in models and in the cache of DVC
    return seeds * count * (TRAINED_BYTES * checkpoints + 4 * published)


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
    sizes = read_table(path, ["size_a", "size_b"], MANIFEST)
    if not sizes.num_rows:
        return None
    return float(np.mean(sizes["size_a"].to_numpy() + sizes["size_b"].to_numpy()))


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
    for heading in COLUMNS:
        left = heading in ("run", "bottleneck")
        table.add_column(heading, justify="left" if left else "right")
    for name, line in result["runs"].items():
        table.add_row(name, *_cells(line))
    console = printed.console()
    printed.print_whole(console, table)
    rates = {name: _number(value) for name, value in result["rates"].items()}
    console.print(
        f"{result['devices']} devices, {result['cores_per_device']} cores each; {rates}",
        style="dim",
    )
    console.print(
        "device-days assume that devices do not slow each other down; decoding and disk are "
        "estimated only where a load is listed",
        style="dim",
    )


def _cells(line: dict[str, Any]) -> list[str]:
    read = line["bytes_read"]
    loads = ", ".join(f"{resource} {load:.2f}" for resource, load in line["load"].items())
    return [
        f"{line['pairs_seen']:,}",
        f"{line['gflops_per_sample']:.3g}",
        f"{line['pairs_per_second']:,.0f}",
        f"{line['device_days']:,.3g}",
        f"{line['days']:,.3g}",
        NOT_MEASURED if read is None else f"{read / 1e9:,.1f} GB",
        f"{line['checkpoint_bytes'] / 1e9:,.2f} GB",
        f"{line['bottleneck']} ({loads})",
    ]


def _number(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.3g}"
