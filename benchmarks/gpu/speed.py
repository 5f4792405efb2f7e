"""How fast: pairs a second and share of the peak, with and without the loader; images a second of
loading and of encoding; memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.subject import Subject
from benchmarks.pretraining import fed, flop_per_pair, ours, written_pairs
from mimic.infra.cluster import available_cores
from mimic.models.encoder import normalise
from mimic.pairs.images import PIXELS, PairImages, read_manifest
from mimic.training.batches import batch_indices, prefetch

GOAL_MFU = 0.50
ROWS = 15  # of a profile
LOADED_BATCHES = 40
LOADED_PAIRS = 32


def training(subject: Subject) -> dict[str, Any]:
    """A step at several batches, then the stage's own loop at the fastest of them."""
    flop = flop_per_pair(subject.recipe)
    by_batch = {}
    for batch in subject.batches:
        try:
            by_batch[batch] = _step(subject, batch, flop)
        except torch.cuda.OutOfMemoryError:
            by_batch[batch] = {"refused": "out of memory"}
            torch.cuda.empty_cache()
    rates = {batch: one["pairs_per_second"] for batch, one in by_batch.items() if "ms" in one}
    best = max(rates, key=lambda batch: rates[batch])
    rate = fed(subject.recipe.model_copy(update={"batch": best}), subject.turns)
    share = _share(subject, rate * flop)
    found = {
        "gflop_per_pair": round(flop / 1e9, 2),
        "without_loader": by_batch,
        "batch": best,
        "with_loader": {"pairs_per_second": round(rate, 1), "mfu": share},
        "goal_mfu": GOAL_MFU,
        "goal_met": None if share is None else share >= GOAL_MFU,
    }
    if share is None or share < GOAL_MFU:
        found["profile"] = _profile(subject, best)
    return found | {"ok": True}


def _step(subject: Subject, batch: int, flop: float) -> dict[str, Any]:
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = ours(subject.recipe, batch, subject.device, subject.precision)
    seconds = subject.seconds(step)
    memory = torch.cuda.max_memory_allocated() / 1e9 if subject.device.type == "cuda" else None
    return {
        "ms": round(1000 * seconds, 2),
        "pairs_per_second": round(batch / seconds, 1),
        "mfu": _share(subject, batch / seconds * flop),
        "memory_gb": None if memory is None else round(memory, 2),
    }


def _share(subject: Subject, rate: float) -> float | None:
    return None if subject.peak is None else round(rate / subject.peak, 3)


def _profile(subject: Subject, batch: int) -> list[str]:
    """The operations that take most of a step's time."""
    step = ours(subject.recipe, batch, subject.device, subject.precision)
    step()
    on_gpu = subject.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        for _ in range(3):
            step()
        subject.wait()
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    spent = sorted(seen.key_averages(), key=lambda one: float(getattr(one, by)), reverse=True)
    total = sum(float(getattr(one, by)) for one in spent) or 1.0
    return [
        f"{100 * float(getattr(one, by)) / total:5.1f} %  {one.count:5d} x  {one.key[:80]}"
        for one in spent[:ROWS]
    ]


def matrix_rate(subject: Subject) -> float:
    """FLOP a second of a large product in the precision of training: what this card really
    gives."""
    kind = torch.bfloat16 if subject.precision == "bf16" else torch.float32
    side = 512 if subject.rehearsal else 8192
    a, b = torch.randn(2, side, side, device=subject.device).to(kind)
    return 2 * side**3 / subject.seconds(lambda: torch.mm(a, b))


def loading(subject: Subject) -> dict[str, Any]:
    """Images a second that the loader decodes, by threads, and that the encoder turns into
    features, fed by it and not."""
    encoder = subject.prepared(1, "auto")[0].encoder.eval()
    height, width = subject.recipe.model.height_width_px
    with tempfile.TemporaryDirectory(prefix="loading-") as name:
        manifest = written_pairs(Path(name), LOADED_PAIRS)
        rows = read_manifest(manifest, "train", PIXELS)
        pairs = PairImages(rows, Path(name), (height, width))
        most = available_cores()
        threads = sorted({1, most // 2 or 1, most})
        decoded = {count: _decoded(subject, pairs, count) for count in threads}
        encoded = _encoded(subject, encoder, pairs, most)
    still = torch.zeros(2 * LOADED_PAIRS, 3, height, width, device=subject.device)
    seconds = subject.seconds(lambda: _features(subject, encoder, still))
    return {
        "decoded_images_per_second": decoded,
        "encoded_images_per_second": round(encoded, 1),
        "encoded_images_per_second_without_loader": round(len(still) / seconds, 1),
        "ok": True,
    }


def _decoded(subject: Subject, pairs: PairImages, threads: int) -> float:
    count = 4 if subject.rehearsal else LOADED_BATCHES
    start = time.perf_counter()
    for _ in prefetch(lambda step: _batch(pairs, step), 0, count, threads):
        pass
    return round(2 * LOADED_PAIRS * count / (time.perf_counter() - start), 1)


def _batch(pairs: PairImages, step: int) -> torch.Tensor:
    return pairs.pairs(batch_indices(step, LOADED_PAIRS, len(pairs), 0))


def _encoded(subject: Subject, encoder: torch.nn.Module, pairs: PairImages, threads: int) -> float:
    count = 4 if subject.rehearsal else LOADED_BATCHES
    start = time.perf_counter()
    for _, batch in prefetch(lambda step: _batch(pairs, step), 0, count, threads):
        images = normalise(batch.to(subject.device).flatten(0, 1))
        _features(subject, encoder, images)
    subject.wait()
    return 2 * LOADED_PAIRS * count / (time.perf_counter() - start)


@torch.no_grad()
def _features(subject: Subject, encoder: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast(subject.device.type, torch.bfloat16, enabled=subject.precision == "bf16"):
        made: torch.Tensor = encoder(images)
    return made
