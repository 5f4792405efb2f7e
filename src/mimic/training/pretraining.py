"""One rank of a pretraining: from a recipe and a manifest to checkpoints in the run's folder.

    train(description, run_dir, stop)      run_dir/step-*.pt, run_dir/log.jsonl,
                                           run_dir/pictures/<step>.png

Everything is named by the description, so the same call runs here, in several processes, and in a
job on a cluster.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mimic import config
from mimic.errors import BadInput
from mimic.infra import progress
from mimic.infra.cluster import Stop
from mimic.infra.cluster.world import process_group
from mimic.infra.storage import replacing
from mimic.models import build
from mimic.models.layers import initialise
from mimic.models.objectives.base import Pretraining
from mimic.models.objectives.matching import place_matches
from mimic.pairs.images import PIXELS, PairImages, open_pairs, read_manifest
from mimic.training import augment, journal, reconstruct
from mimic.training.batches import batch_indices
from mimic.training.fit import Part, Place, Saving, choose_device, choose_precision, fit, own_parts
from mimic.training.optim import adamw, cosine_lr, param_groups, scaled_lr
from mimic.training.watch import Record

HOW_NOT_WHAT = {
    "log_every",
    "save_every",
    "keep",
    "keep_every",
    "workers",
    "samples",
    "device_batch",
    "pictures_every",
}  # change at most the last bits
SPEEDS = {"pairs_per_second", "memory_gb"}  # of a log line: they differ from run to run
MATCHES = ["correspondences", "patch_px"]  # columns that say which patches of a pair show the same
Loaded = tuple[Tensor, augment.Choices, Tensor | None]


def describe(
    root: Path,
    recipe: config.Recipe,
    run: config.Run,
    manifest: Path,
    name: str,
    shards: config.Shards,
) -> dict[str, Any]:
    """What `train` is told."""
    return {
        "name": name,
        "root": str(root.resolve()),
        "manifest": str(manifest.resolve()),
        "recipe": recipe.model_dump(mode="json"),
        "run": run.model_dump(mode="json"),
        "shards": shards.model_dump(mode="json"),
    }


def train(description: Mapping[str, Any], run_dir: Path, stop: Stop) -> dict[str, Any]:
    """Train up to the last step, resuming what lies in `run_dir`.

    Returns:
        The precision it trained in, "bf16" or "fp32".
    """
    cv2.setNumThreads(1)  # the decoding threads are many enough
    recipe, run = (
        config.Recipe.model_validate(description["recipe"]),
        config.Run.model_validate(description["run"]),
    )
    columns = [*PIXELS, *MATCHES] if recipe.matching.weight else PIXELS
    rows = read_manifest(Path(description["manifest"]), "train", columns)
    root, shards = _where(description)
    with process_group() as world:
        device = choose_device()
        precision = choose_precision(recipe.precision, device)
        parts = own_parts(recipe.batch, recipe.device_batch, world)
        model = initial_model(recipe, run).to(device)
        if recipe.compile:
            model.compile()
        pairs_a_step = recipe.batch * model.views / 2
        ranks = f", {world.size} processes" if world.size > 1 else ""
        title = (
            f"pretrain {description['name']} ({len(rows)} pairs, {device.type} {precision}{ranks})"
        )
        shown = (
            progress.track(title, run.steps, "steps", run_dir / "log.jsonl")
            if world.rank == 0
            else nullcontext()
        )
        with shown as bar:
            fit(
                model,
                functools.partial(_loss, recipe, device),
                _loader(
                    model,
                    rows,
                    open_pairs(rows, root, _decoded_at(recipe), shards),
                    recipe,
                    run.seed,
                    parts,
                ),
                adamw(param_groups(model, recipe.weight_decay), betas=recipe.betas),
                functools.partial(
                    cosine_lr,
                    peak=scaled_lr(recipe.base_lr, recipe.batch),
                    floor=recipe.min_lr,
                    warmup=round(recipe.warmup * run.steps),
                    horizon=round(recipe.horizon * run.steps),
                ),
                parts=parts,
                steps=run.steps,
                seed=run.seed,
                precision=precision,
                workers=recipe.workers,
                clip_norm=None,
                log_every=recipe.log_every,
                log=_recorder(
                    run_dir,
                    bar,
                    pairs_a_step,
                    _draws(description, recipe, run, model, run_dir) if world.rank == 0 else None,
                ),
                saving=Saving(
                    run_dir, every=recipe.save_every, keep=recipe.keep, keep_every=recipe.keep_every
                ),
                place=Place(world, stop),
            )
    return {"precision": precision}


def initial_model(recipe: config.Recipe, run: config.Run) -> Pretraining:
    """The model of a recipe with the initial weights of a run's seed, on the CPU.

    Raises:
        BadInput: numbers that do not go together.
    """
    try:
        model = build(
            recipe.objective, recipe.model.size(), recipe.masking(), attention=recipe.attention
        )
    except ValueError as error:
        raise BadInput(f"params.yaml: pretrain.{run.recipe}: {error}") from None
    initialise(model, torch.Generator().manual_seed(run.seed))
    return model


def _recorder(
    run_dir: Path,
    bar: progress.ProgressTracker | None,
    pairs_a_step: float,
    draw: Callable[[int], None] | None,
) -> Callable[[Record], None]:
    """Writes log.jsonl and moves the bar; on ranks that show no bar, does nothing."""
    log = journal.Journal(run_dir / "log.jsonl")

    def record(now: Record) -> None:
        if bar is None:
            return
        speeds = {
            "pairs_per_second": now.steps_per_second * pairs_a_step,
            "memory_gb": now.memory_gb,
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


def _loss(recipe: config.Recipe, device: torch.device, model: nn.Module, loaded: Loaded) -> Tensor:
    images, choices, matches = loaded
    choices = choices.to(device)
    with torch.autocast(device.type, enabled=False):
        jitter = recipe.augment.jitter > 0
        views = augment.apply(
            images.to(device, non_blocking=True),
            choices,
            recipe.model.height_width_px,
            jitter=jitter,
        )
    if matches is None:
        return model(views, choices.noise)[0]
    return model(views, choices.noise, matches.to(device, non_blocking=True))[0]


def _where(description: Mapping[str, Any]) -> tuple[Path, config.Shards]:
    """The workspace, and where the shards are that it does not hold."""
    root = Path(description["root"])
    return root, config.Shards.model_validate(description["shards"])


def _decoded_at(recipe: config.Recipe) -> tuple[int, int] | None:
    """Crops are cut from images as they are stored."""
    return recipe.model.height_width_px if recipe.augment.crop == "none" else None


def _loader(
    model: Pretraining,
    rows: pd.DataFrame,
    images: PairImages,
    recipe: config.Recipe,
    seed: int,
    parts: tuple[Part, ...],
) -> Callable[[int], list[Loaded]]:
    """What this rank trains on at a step: images as stored if they are to be cropped, else at the
    model's size; and their random choices.

    Choices are drawn for the whole batch, whoever trains on it, so they are the same for any number
    of ranks.
    """
    size_px, crop = recipe.model.height_width_px, recipe.augment.crop
    if crop == "window" and any(
        stored < wanted for stored, wanted in zip(images.size_px, size_px, strict=True)
    ):
        raise BadInput(
            f"augment.crop window: images are stored at {images.size_px} px, smaller than the "
            f"model's {size_px}"
        )
    views, grid, gpu = model.views, model.encoder.grid, next(model.parameters()).is_cuda
    decode, samples = (
        (images.pairs, len(images)) if views == 2 else (images.singles, 2 * len(images))
    )
    mined = mined_matches(rows) if recipe.matching.weight else None

    def load(step: int) -> list[Loaded]:
        choices = augment.choose(
            step,
            seed,
            batch=recipe.batch,
            views=views,
            patches=grid[0] * grid[1],
            stored_px=images.size_px,
            size_px=size_px,
            **recipe.augment.model_dump(),
        )
        indices = batch_indices(step, recipe.batch, samples, seed)
        return [some(indices[part.samples], choices.part(part.samples)) for part in parts]

    def some(indices: np.ndarray, drawn: augment.Choices) -> Loaded:
        matches = None
        if mined:
            correspondences, mined_grid = torch.from_numpy(mined[0][indices]), mined[1]
            stored = images.size_px
            matches = place_matches(
                correspondences,
                mined_grid=mined_grid,
                grid=grid,
                stored_px=stored,
                swap=drawn.swap,
                flip=drawn.flip,
                box=drawn.box,
            )
        pixels = decode(indices)
        return (
            (pixels.pin_memory(), drawn.pinned(), None if matches is None else matches.pin_memory())
            if gpu
            else (pixels, drawn, matches)
        )

    return load


def mined_matches(rows: pd.DataFrame) -> tuple[np.ndarray, tuple[int, int]]:
    """The mined correspondences, i16 [pairs, patches], and their grid; 400 bytes a pair at 14 x 14
    patches.

    Raises:
        BadInput: the pairs were mined on different grids.
    """
    grids = set((rows["size_px"] // rows["patch_px"]).unique().tolist())
    if len(grids) != 1:
        raise BadInput(
            f"matching: pairs were mined on different grids ({sorted(grids)} patches a side); mine "
            "them alike, or set weight: 0"
        )
    side = grids.pop()
    return np.stack(rows["correspondences"].to_list()).astype(np.int16), (side, side)
