"""One rank of a pretraining: from a recipe and a manifest to checkpoints in the run's folder.

    train(description, run_dir, stop)      run_dir/step-*.pt, run_dir/log.jsonl,
                                           run_dir/pictures/<step>.png

Everything is named by the description, so the same call runs here, in several processes, and in a
job on a cluster.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from mimic import config
from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra import progress
from mimic.infra.cluster import Stop
from mimic.infra.cluster.world import process_group
from mimic.infra.owner import owned
from mimic.infra.storage import Workspace, file_digest, replacing
from mimic.infra.tracking import recorder
from mimic.infra.tracking.recorder import recorded
from mimic.models import OBJECTIVES
from mimic.models.inheritance import Inherited, LayeredModel
from mimic.models.objectives.base import Pretraining
from mimic.pairs.decoded import DecodedPairs, decoded_once
from mimic.pairs.images import DIGESTS, PIXELS, PairImages, open_pairs, read_manifest
from mimic.training import journal, machine, reconstruct
from mimic.training.fit import (
    Optim,
    RunSpec,
    Runtime,
    Saving,
    choose_device,
    fit,
    micro_batches,
)
from mimic.training.machine import memory
from mimic.training.optim import (
    adamw,
    cosine_lr,
    layer_decay_groups,
    parameter_groups,
    scaled_lr,
)
from mimic.training.pair_batches import MATCHES, decoded_at, loader, step_loss
from mimic.training.precision import lasting_precision
from mimic.training.start import Start, starting_model
from mimic.training.training_stats import LogRecord

EXECUTION_ONLY_KEYS = {
    "licences",  # which data may take part, not what is made of them
    "log_every",
    "save_every",
    "keep",
    "keep_every",
    "workers",
    "samples",
    "device_batch",
    "pictures_every",
}  # change at most the last bits
PATIENCE_S = (
    600.0  # for another process in the same folder: longer than a stopped one needs to save
)
# Of a log line: no two runs share them. gflops: arithmetic a second of one process.
THROUGHPUT_KEYS = {"pairs_per_second", "gflops", "memory_gb", "time"}


def describe(
    root: Path,
    recipe: config.Recipe,
    run: config.Run,
    manifest: Path,
    name: str,
    shards: config.Shards,
    begin: Start | None = None,
) -> dict[str, Any]:
    """What `train` is told."""
    begun_from = {} if begin is None else {"start": begin.as_json()}
    return begun_from | {
        "name": name,
        "root": str(root.resolve()),
        "manifest": str(manifest.resolve()),
        "recipe": recipe.model_dump(mode="json"),
        "run": run.model_dump(mode="json"),
        "shards": shards.model_dump(mode="json"),
    }


def train(description: Mapping[str, Any], run_dir: Path, stop: Stop) -> dict[str, Any]:
    """Train up to the last step, resuming what lies in `run_dir`; the first rank owns that folder
    meanwhile, wherever it runs and whatever became of the process that sent it.

    Returns:
        The precision it trained in, "bf16" or "fp32".

    Raises:
        BadInput: another process trains in `run_dir`.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        return _train(description, run_dir, stop)
    what = f"pretrain {description['name']}"
    _require_planned(description)
    with (
        owned(run_dir, what, PATIENCE_S, leave=lambda: bool(stop.request)),
        recorded(run_dir / recorder.FILE, Path(description["root"])),
    ):
        return _train(description, run_dir, stop)


def _require_planned(description: Mapping[str, Any]) -> None:
    """
    Raises:
        BadInput: the manifest is another one than when the training was planned, which may be hours
            ago.
    """
    manifest = Path(description["manifest"])
    planned = description.get("manifest_digest")
    if planned is not None and file_digest(manifest) != planned:
        raise BadInput(
            f"{manifest}: was made anew while pretrain {description['name']} waited for its turn; "
            "run it again"
        )


def _train(description: Mapping[str, Any], run_dir: Path, stop: Stop) -> dict[str, Any]:
    cv2.setNumThreads(1)  # the decoding threads are many enough
    recipe = config.Recipe.model_validate(description["recipe"])
    begin = Start.of_json(description["start"]) if "start" in description else None
    kind = config.Run if begin is None else config.Adaptation
    run = kind.model_validate(description["run"])
    columns = PIXELS + _beside_pixels(recipe)
    rows = read_manifest(Path(description["manifest"]), "train", columns)
    root, shards = _where(description)
    with process_group() as world:
        device = choose_device()
        precision = lasting_precision(recipe.precision, device, run_dir, world)
        parts = micro_batches(recipe.batch, recipe.device_batch, world)
        model, inherited = starting_model(recipe, run, begin)
        model.to(device)
        if recipe.compile:
            model.compile()
        images = _images(rows, root, recipe, shards)
        pictures = _draws(description, recipe, run, model, run_dir) if world.rank == 0 else None
        if world.rank == 0:
            machine.record(run_dir, device, world.size)
        ranks = f", {world.size} processes" if world.size > 1 else ""
        title = (
            f"pretrain {description['name']} ({len(rows)} pairs, {device.type} {precision}{ranks})"
        )
        shown = (
            progress.track(title, run.steps, "steps", run_dir / "log.jsonl")
            if world.rank == 0
            else nullcontext()
        )
        largest = max(part.samples.stop - part.samples.start for part in parts)
        advice = memory.lower_device_batch(_entry(description, begin), largest, recipe.batch)
        with shown as bar, memory.advised(advice):
            fit(
                model,
                functools.partial(step_loss, recipe, device),
                loader(model, rows, images, recipe, run.only_seed, parts),
                _optim(model, recipe, run, begin, inherited),
                RunSpec(
                    steps=run.steps,
                    seed=run.only_seed,
                    precision=precision,
                    workers=recipe.workers,
                    log_every=recipe.log_every,
                ),
                resumed=None if bar is None else bar.resume,
                log=_recorder(run_dir, bar, recipe, world.size, pictures),
                saving=Saving(
                    run_dir, every=recipe.save_every, keep=recipe.keep, keep_every=recipe.keep_every
                ),
                parts=parts,
                runtime=Runtime(world, stop),
            )
    return {"precision": precision}


def _entry(description: Mapping[str, Any], begin: Start | None) -> str:
    """What states the run's numbers in params.yaml."""
    return f"{'runs' if begin is None else 'adapt'}.{seed_of(description['name'])[0]}"


def _beside_pixels(recipe: config.Recipe) -> list[str]:
    """Columns of the manifest that a recipe asks for beside the images' places."""
    matches = MATCHES if recipe.matching.weight else []
    return matches + (DIGESTS if recipe.decode_px else [])


def _images(
    rows: pd.DataFrame, root: Path, recipe: config.Recipe, shards: config.Shards
) -> PairImages | DecodedPairs:
    images = open_pairs(rows, root, decoded_at(recipe), shards)
    if recipe.decode_px is None:
        return images
    return decoded_once(images, rows, Workspace(root).decoded(), recipe.workers)


def _optim(
    model: Pretraining,
    recipe: config.Recipe,
    run: config.Run,
    begin: Start | None,
    inherited: Inherited | None,
) -> Optim:
    schedule = functools.partial(
        cosine_lr,
        peak=scaled_lr(recipe.base_lr, recipe.batch),
        floor=recipe.min_lr,
        warmup=round(recipe.warmup * run.steps),
        horizon=round(recipe.horizon * run.steps),
    )
    optimizer = adamw(_groups(model, recipe, run, inherited), betas=recipe.betas)
    state = None if begin is None else begin.optimizer_state()
    if state is not None:
        state.load_into(optimizer, model)
    return Optim(optimizer, schedule)


def _groups(
    model: Pretraining, recipe: config.Recipe, run: config.Run, inherited: Inherited | None
) -> list[dict[str, Any]]:
    """What decays, and at which share of the rate: less towards the input where layers are
    inherited and the run says so."""
    if inherited is None or not isinstance(run, config.Adaptation) or run.layer_decay == 1:
        return parameter_groups(model, recipe.weight_decay)
    layered = LayeredModel(model, fresh=inherited.fresh)
    return layer_decay_groups(layered, recipe.weight_decay, run.layer_decay, undecayed=())


def _recorder(
    run_dir: Path,
    bar: progress.ProgressTracker | None,
    recipe: config.Recipe,
    processes: int,
    draw: Callable[[int], None] | None,
) -> Callable[[LogRecord], None]:
    """Writes log.jsonl and moves the bar; on ranks that show no bar, does nothing."""
    log = journal.JsonlLogger(run_dir / "log.jsonl")
    views = OBJECTIVES[recipe.objective].views
    flops = recipe.sample_flops

    def record(now: LogRecord) -> None:
        if bar is None:
            return
        samples_per_second = now.steps_per_second * recipe.batch
        speeds = {
            "pairs_per_second": samples_per_second * views / 2,
            "gflops": samples_per_second * flops / 1e9 / processes,
            "memory_gb": now.memory_gb,
            "time": round(time.time(), 3),  # seconds since 1970
        }
        log.append(
            {"step": now.step, "loss": now.loss, "lr": now.lr, "grad_norm": now.grad_norm, **speeds}
        )
        if draw is not None:
            draw(now.step)
        bar.advance(
            now.step - bar.done, f"loss {now.loss:.4f}, {speeds['pairs_per_second']:.0f} pairs/s"
        )

    return record


def _draws(
    description: Mapping[str, Any],
    recipe: config.Recipe,
    run: config.Run,
    model: Pretraining,
    run_dir: Path,
) -> Callable[[int], None] | None:
    """Draws run_dir/pictures/<step>.png, if this step is one for it."""
    if recipe.pictures_every is None:
        return None
    every = recipe.pictures_every * recipe.log_every
    root, shards = _where(description)
    show = reconstruct.held_out(Path(description["manifest"]), root, recipe, run, shards)

    def draw(step: int) -> None:
        if step % every == 0:
            with replacing(run_dir / "pictures" / f"{step:09d}.png") as scratch:
                reconstruct.draw(*show(model), scratch)

    return draw


def _where(description: Mapping[str, Any]) -> tuple[Path, config.Shards]:
    """The workspace, and where the shards are that it does not hold."""
    root = Path(description["root"])
    return root, config.Shards.model_validate(description["shards"])
