"""How much faster a pretraining step is than with the references' settings, and how much of a GPU
it uses.

Run `python -m benchmarks.pretraining [--json]`. The model is MIMIC's, ViT-B/16 with a class token
at 224 px, random weights, random images. Both sides train the same model class from the same
weights, in turns within one run; each ratio is of two neighbouring steps, and the median is
reported, so that a busy machine disturbs both alike.

    references   fp32, attention written out, one small kernel a parameter in AdamW, the norm of
                 each gradient on its own, and the loss
                 and norm read back at every step
    ours         precision and attention as `auto` chooses them here, fused AdamW, one norm of all
                 gradients, nothing read back

`mfu` is model FLOPs (forward and backward, counted by torch) a second over the GPU's peak in bf16:
null without a GPU. There the stage's own loop is timed, as `pairs_per_second`, on pairs read from a
shard; `pairs_per_second_without_loader` is the same step on one batch that lies on the device, so
that the two tell whether loading holds it up.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import loader
from mimic import config
from mimic.infra.cluster import Stop, available_cores
from mimic.models import build
from mimic.models.layers import initialise
from mimic.models.objectives.base import Pretraining
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from mimic.params import load_params
from mimic.training import journal
from mimic.training.fit import choose_device
from mimic.training.optim import adamw, parameter_groups
from mimic.training.precision import choose_precision
from mimic.training.pretraining import describe, train

PAPER = Path(__file__).parent.parent / "profiles/paper.yaml"
TARGETS = {"step_speedup_with_amx": 2.8, "step_speedup_without": 1.15, "mfu": 0.40}
PEAK_BF16 = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
}  # FLOP/s, dense, from the makers' data sheets
CPU_BATCHES = {2: 9, 8: 7}  # pairs a step: turns; the references' measured table has 8
GPU_BATCH = 256
GPU_STEPS = 30
Step = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument(
        "--batch",
        type=int,
        action="append",
        help="pairs a step on a CPU, may be repeated; the last one is the headline",
    )
    parser.add_argument("--study", type=int, nargs="?", const=9, help="turns: the study's model")
    options = parser.parse_args()
    if options.study:
        from benchmarks import study_speed  # which builds on this module

        print(json.dumps(study_speed.measure(options.study), indent=2))
        return
    batches = (
        {batch: CPU_BATCHES.get(batch, 3) for batch in options.batch}
        if options.batch
        else CPU_BATCHES
    )
    print(json.dumps(measure(batches), indent=2))


def measure(batches: dict[int, int]) -> dict[str, Any]:
    recipe = load_params(PAPER).pretrain["mimic"]
    device = choose_device()
    amx = bool(torch.cpu._is_amx_tile_supported())
    races = (
        {}
        if device.type == "cuda"
        else {batch: race(recipe, batch, turns) for batch, turns in batches.items()}
    )
    target = TARGETS["step_speedup_with_amx" if amx else "step_speedup_without"]
    headline = list(races.values())[-1] if races else None
    result = {
        "step_speedup": headline and headline["speedup"],
        "step_speedup_target": target,
        "step_speedup_met": headline and headline["speedup"] >= target,
        "amx": amx,
        "by_batch": races,
        **gpu(recipe, device),
    }
    if result["pairs_per_second"] is None and headline:
        result["pairs_per_second"] = headline["pairs_per_second"]
    return result | loader.measure() | {"stack": stack(device)}


def race(recipe: config.Recipe, batch: int, turns: int) -> dict[str, Any]:
    """Seconds of a step of both sides, in turns, after one of each that is not counted."""
    device = torch.device("cpu")
    torch.set_num_threads(
        available_cores()
    )  # as the stage does; the other benchmarks here are of one core
    precision = choose_precision("auto", device)
    sides = {
        "references": references(recipe, batch),
        "ours": ours(recipe, batch, device, precision),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 2):
        for name in sorted(sides, reverse=bool(turn % 2)):  # neither side is always the first
            spent = timed(sides[name])
            if turn >= 2:  # memory has been taken by then
                seconds[name].append(spent)
    ratios = [
        slow / fast for slow, fast in zip(seconds["references"], seconds["ours"], strict=True)
    ]
    floor = batch * flop_per_pair(recipe) / matrix_rate()
    return {
        "speedup": round(statistics.median(ratios), 3),
        "speedup_if_all_but_matrix_products_were_free": round(
            statistics.median(seconds["references"]) / floor, 3
        ),
        "speedup_of_fastest": round(min(seconds["references"]) / min(seconds["ours"]), 3),
        "precision": precision,
        "turns": turns,
        "pairs_per_second": round(batch / statistics.median(seconds["ours"]), 3),
        "references_s": [round(value, 3) for value in seconds["references"]],
        "ours_s": [round(value, 3) for value in seconds["ours"]],
    }


def matrix_rate() -> float:
    """FLOP/s in fp32 of the product of two large matrices, the best of a few."""
    a, b = torch.randn(2, 2048, 2048)
    return max(2 * 2048**3 / timed(lambda: torch.mm(a, b)) for _ in range(8))


def ours(recipe: config.Recipe, batch: int, device: torch.device, precision: str) -> Step:
    model, images, noise = prepared(recipe, batch, device, "auto")
    optimizer = adamw(parameter_groups(model, recipe.weight_decay), betas=recipe.betas)
    for group in optimizer.param_groups:
        group["lr"] = recipe.base_lr

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(images, noise)[0]
        loss.backward()
        nn.utils.get_total_norm(
            [parameter.grad for parameter in model.parameters() if parameter.grad is not None],
            foreach=True,
        )
        optimizer.step()

    return step


def references(recipe: config.Recipe, batch: int) -> Step:
    model, images, noise = prepared(recipe, batch, torch.device("cpu"), "manual")
    optimizer = torch.optim.AdamW(
        parameter_groups(model, recipe.weight_decay),
        lr=recipe.base_lr,
        betas=recipe.betas,
        foreach=False,
        fused=False,
    )
    read: list[float] = []

    def step() -> None:
        loss = model(images, noise)[0]
        read.append(loss.item())
        loss.backward()
        norms = [
            parameter.grad.detach().norm()
            for parameter in model.parameters()
            if parameter.grad is not None
        ]
        read.append(torch.stack(norms).norm().item())
        optimizer.step()
        optimizer.zero_grad()

    return step


def prepared(
    recipe: config.Recipe, batch: int, device: torch.device, attention: str
) -> tuple[Pretraining, Tensor, Tensor]:
    """The model, normalised images and masking noise, the same at every call."""
    model = build(recipe.objective, recipe.model.size(), recipe.masking(), attention=attention)
    random = torch.Generator().manual_seed(0)
    initialise(model, random)
    height, width = recipe.model.height_width_px
    images = torch.randn(batch, model.views, 3, height, width, generator=random)
    noise = torch.rand(batch, model.encoder.grid[0] * model.encoder.grid[1], generator=random)
    return model.to(device).train(), images.to(device), noise.to(device)


def gpu(recipe: config.Recipe, device: torch.device) -> dict[str, Any]:
    """Pairs a second and share of the peak on this GPU; nulls without one, and no share of a peak
    that is not known."""
    flop = flop_per_pair(recipe)
    rates: dict[str, Any] = {
        "mfu": None,
        "pairs_per_second": None,
        "pairs_per_second_without_loader": None,
    }
    if device.type == "cuda":
        peak = next(
            (value for name, value in PEAK_BF16.items() if name in torch.cuda.get_device_name()),
            None,
        )
        alone = unfed(recipe, device)
        rate = fed(recipe.model_copy(update={"batch": GPU_BATCH}), GPU_STEPS)
        rates = {"mfu": peak and round(rate * flop / peak, 3), "pairs_per_second": round(rate, 1)}
        rates["pairs_per_second_without_loader"] = round(alone, 1)
    return rates | {"gflop_per_pair": round(flop / 1e9, 1)}


def unfed(recipe: config.Recipe, device: torch.device) -> float:
    """Pairs a second of a step whose images are there already."""
    step = ours(recipe, GPU_BATCH, device, "bf16")
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(GPU_STEPS):
        step()
    torch.cuda.synchronize()
    return GPU_BATCH * GPU_STEPS / (time.perf_counter() - start)


def fed(recipe: config.Recipe, steps: int) -> float:
    """Pairs a second of the stage's own training, from images of a shard; the median of the later
    log steps."""
    with tempfile.TemporaryDirectory(prefix="fed-") as name:
        root = Path(name)
        manifest = written_pairs(root, recipe.batch)
        often = {
            "log_every": max(1, steps // 10),
            "save_every": steps,
            "keep_every": None,
            "pictures_every": None,
        }
        recipe = recipe.model_copy(update=often)
        run = config.Run(recipe="mimic", dataset="pairs", steps=steps, seed=0, seeds=None)
        here = config.Shards(url=None, cache=root, cache_gb=1.0)
        with Stop().listening() as stop:
            train(
                describe(root, recipe, run, manifest, "benchmark", here),
                root / "run",
                stop,
            )
        rates = [line["pairs_per_second"] for line in journal.read(root / "run/log.jsonl")]
    return statistics.median(rates[len(rates) // 3 :])


def written_pairs(root: Path, at_least: int) -> Path:
    """A manifest of at least so many pairs of a shard in `root`, the same images many times."""
    _, rows = loader.written(root, loader.images()[1])
    path = root / "pairs.parquet"
    write_manifest(pd.concat([rows] * math.ceil(at_least / len(rows)), ignore_index=True), path)
    return path


def write_manifest(rows: pd.DataFrame, path: Path) -> None:
    """Where the images of pairs lie, and nothing else about the pairs."""
    known = {column: rows[column].tolist() for column in rows} | {"split": ["train"] * len(rows)}
    columns = {
        field.name: known.get(field.name) or [_blank(field)] * len(rows) for field in MANIFEST
    }
    write_table(pa.table(columns, schema=MANIFEST), path)


def _blank(field: pa.Field) -> Any:
    if field.nullable:
        return None
    return "" if pa.types.is_string(field.type) else [] if pa.types.is_list(field.type) else 0


def flop_per_pair(recipe: config.Recipe) -> float:
    """Of a forward and a backward pass, matrix products only."""
    model, images, noise = prepared(recipe, 1, torch.device("cpu"), "manual")
    with FlopCounterMode(display=False) as counter:
        model(images, noise)[0].backward()
    return float(counter.get_total_flops())


def timed(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def stack(device: torch.device) -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    cpu = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


if __name__ == "__main__":
    main()
