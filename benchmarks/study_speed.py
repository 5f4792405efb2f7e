"""How much faster a step of the study's model is with its images kept decoded, loading included.

Run `python -m benchmarks.pretraining --study`. Two sides train the same model of `croco-small` from
the same weights on the same pairs, in turns within one process; the only difference is `decode_px`.
Seconds are of the processor (all threads), so that a busy machine disturbs little; the wall clock
stands beside them. `floor_s` is what the matrix products alone would take at the rate of a large
one: nothing but fewer or faster products can go below it. `products_s` is what they take in the
step as it is.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.pretraining import PAPER, flop_per_pair, written_pairs
from mimic import config
from mimic.models import build
from mimic.models.layers import initialise
from mimic.pairs.decoded import decoded_once
from mimic.pairs.images import DIGESTS, PIXELS, open_pairs, read_manifest
from mimic.params import load_params
from mimic.training.fit import FULL_BATCH
from mimic.training.optim import adamw, parameter_groups, set_lr
from mimic.training.pair_batches import decoded_at, step_loss
from mimic.training.pair_batches import loader as batches
from mimic.training.precision import choose_precision

PROFILE = PAPER.with_name("study.yaml")
PROFILED_STEPS = 3
CPU = torch.device("cpu")
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_convolution"}


def measure(turns: int) -> dict[str, Any]:
    recipe = load_params(PROFILE).recipe("croco")
    precision = choose_precision(recipe.precision, CPU)
    with tempfile.TemporaryDirectory(prefix="study-") as name:
        sides = {
            "decoded at every step": side(
                recipe.model_copy(update={"decode_px": None}), Path(name), precision
            ),
            "kept decoded": side(recipe, Path(name), precision),
        }
        spent: dict[str, list[tuple[float, float]]] = {key: [] for key in sides}
        for turn in range(turns + 1):
            for key in sorted(sides, reverse=bool(turn % 2)):
                seconds = timed(functools.partial(sides[key], turn))
                if turn:  # the first takes memory
                    spent[key].append(seconds)
        share = products_share(sides["kept decoded"], turns + 1)
    processor = {key: [one[0] for one in found] for key, found in spent.items()}
    slow = processor["decoded at every step"]
    fast = processor["kept decoded"]
    ratios = [before / now for before, now in zip(slow, fast, strict=True)]
    floor = recipe.batch * flop_per_pair(recipe) / rate(precision)
    products = share * min(fast)
    return {
        "speedup": round(statistics.median(ratios), 3),
        "speedup_of_fastest": round(min(slow) / min(fast), 3),
        "speedup_if_all_but_matrix_products_were_free": round(min(slow) / products, 3),
        "and_they_ran_as_fast_as_a_large_one": round(min(slow) / floor, 3),
        "precision": precision,
        "processor_s": {key: round(min(found), 3) for key, found in processor.items()},
        "wall_s": {key: round(min(one[1] for one in found), 3) for key, found in spent.items()},
        "products_s": round(products, 3),
        "floor_s": round(floor, 3),
        "batch": recipe.batch,
        "turns": turns,
    }


def side(recipe: config.Recipe, root: Path, precision: str) -> Callable[[int], None]:
    """A step of pretraining, loading included."""
    manifest = root / "pairs.parquet"
    if not manifest.exists():
        written_pairs(root, recipe.batch)
    rows = read_manifest(manifest, "train", PIXELS + DIGESTS)
    shards = config.Shards(url=None, cache=root, cache_gb=1.0)
    images: Any = open_pairs(rows, root, decoded_at(recipe), shards)
    if recipe.decode_px:
        images = decoded_once(images, rows, root / "decoded", workers=1)
    model = build(
        recipe.objective, recipe.model.size(), recipe.masking(), attention=recipe.attention
    )
    initialise(model, torch.Generator().manual_seed(0))
    load = batches(model, rows, images, recipe, 0, FULL_BATCH)
    optimizer = adamw(parameter_groups(model, recipe.weight_decay), betas=recipe.betas)
    set_lr(optimizer, 1e-4)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = step_loss(recipe, CPU, model, load(number)[0])
        loss.backward()
        optimizer.step()

    return step


def products_share(step: Callable[[int], None], first: int) -> float:
    """Of the time that the operators of a step take, that of its matrix products, by the profiler;
    other processes disturb all operators alike."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for number in range(first, first + PROFILED_STEPS):
            step(number)
    spent = {one.key: one.self_cpu_time_total for one in seen.key_averages()}
    return sum(spent.get(name, 0.0) for name in PRODUCTS) / sum(spent.values())


def rate(precision: str) -> float:
    """FLOP a second of the processor's time, of the product of two large matrices."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, 2048, 2048).to(kind)
    return max(2 * 2048**3 / timed(lambda: torch.mm(a, b))[0] for _ in range(8))


def timed(step: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    busy = time.process_time()
    start = time.perf_counter()
    step()
    return time.process_time() - busy, time.perf_counter() - start
