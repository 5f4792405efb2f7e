"""Stage `pretrain`: a manifest and a recipe make an encoder.

    data/manifests/<dataset>.parquet  ->  models/<run>/
        encoder.safetensors   the encoder, with timm's keys
        model.safetensors     everything, decoder included
        card.json             what made it, and how to build it
        log.jsonl             loss, learning rate, gradient norm, speed
        reconstruction.png    held-out pairs: view a, masked, reconstruction, view b (and .npz, the same as arrays)

The encoder needs nothing of this project (unless its positions are rotary, which plain timm cannot express):

    card = json.load(open("models/croco-1m/card.json"))
    vit = timm.models.VisionTransformer(**card["timm"]["kwargs"])
    vit.load_state_dict(safetensors.torch.load_file("models/croco-1m/encoder.safetensors"))

Work in progress lies in runs/pretrain/<run>/<fingerprint>/ and is resumed after any interruption; what is published is the same as if
there had been none.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mimic import config, models
from mimic.errors import BadInput
from mimic.infra import progress, tracking
from mimic.infra.storage import Workspace, file_digest, fingerprint, publish, write_json
from mimic.training import augment, checkpoint, journal, reconstruct
from mimic.training.batches import PairImages, batch_indices, read_manifest
from mimic.training.fit import Record, Saving, choose_device, choose_precision, fit
from mimic.training.optim import adamw, cosine_lr, param_groups, scaled_lr

HOW_NOT_WHAT = {"log_every", "save_every", "keep", "workers", "samples"}  # do not change the weights


def main(params: config.Params, root: Path, name: str) -> None:
    """Pretrain run `name` of params.yaml and publish models/<name>/."""
    cv2.setNumThreads(1)  # the decoding threads are many enough
    run = config.pick(params.runs, name, "run")
    recipe = params.pretrain[run.recipe]
    workspace = Workspace(root)
    manifest = workspace.manifest(run.dataset)
    rows = read_manifest(manifest, "train")
    device = choose_device()
    precision = choose_precision(recipe.precision, device)
    digest = file_digest(manifest)
    made_by = recipe.model_dump(mode="json", exclude=HOW_NOT_WHAT), run.model_dump(mode="json"), digest, precision, version("mimic")
    folder = workspace.progress("pretrain", name, fingerprint(*made_by))
    model = _initial_model(recipe, run).to(device)
    title = f"pretrain {name} ({len(rows)} pairs, {device} {precision})"
    with progress.track(title, run.steps, "steps", folder / "log.jsonl") as bar:
        _train(model, rows, root, recipe, run, precision, folder, bar)
    card = _card(name, recipe, run, model, precision) | {
        "manifest_digest": digest,
        "params_digest": fingerprint(*made_by[:2]),
        "git_commit": tracking.commit(root),
        "pairs": len(rows),
    }
    publish(functools.partial(_fill, model, card, _pictures(model, manifest, root, recipe, run), folder), workspace.model(name))
    checkpoint.remove_all(folder)  # published: running again means training again
    tracking.mirror_pretrain(params.tracking, root, name)


# ---------------------------------------------------------------------------- training


def _initial_model(recipe: config.Recipe, run: config.Run) -> models.Pretraining:
    sizes = recipe.model.model_dump() | {"size_px": recipe.model.height_width_px}
    try:
        model = models.build(
            recipe.objective,
            **sizes,
            attention=recipe.attention,
            mask_ratio=recipe.mask_ratio,
            visible_rounding=recipe.visible_rounding,
            norm_pix=recipe.norm_pix_loss,
        )
    except ValueError as error:
        raise BadInput(f"params.yaml: pretrain.{run.recipe}: {error}") from None
    models.initialise(model, torch.Generator().manual_seed(run.seed))
    return model


def _train(
    model: models.Pretraining,
    rows: pd.DataFrame,
    root: Path,
    recipe: config.Recipe,
    run: config.Run,
    precision: str,
    folder: Path,
    bar: progress.Track,
) -> None:
    device = next(model.parameters()).device
    log = journal.Journal(folder / "log.jsonl")

    def record(now: Record) -> None:
        pairs_per_second = now.steps_per_second * recipe.batch * model.views / 2
        log.append({"step": now.step, "loss": now.loss, "lr": now.lr, "grad_norm": now.grad_norm, "pairs_per_second": pairs_per_second})
        bar.advance(now.step - bar.done, f"loss {now.loss:.4f}, {pairs_per_second:.0f} pairs/s")

    def loss(batch: tuple[Tensor, augment.Choices]) -> Tensor:
        images, choices = batch
        with torch.autocast(device.type, enabled=False):
            views = augment.apply(
                images.to(device, non_blocking=True), choices, recipe.model.height_width_px, jitter=recipe.augment.jitter > 0
            )
        return model(views, choices.noise.to(device, non_blocking=True))[0]

    fit(
        model,
        loss,
        _loader(model, rows, root, recipe, run.seed),
        adamw(param_groups(model, recipe.weight_decay), betas=recipe.betas),
        functools.partial(
            cosine_lr,
            peak=scaled_lr(recipe.base_lr, recipe.batch),
            floor=recipe.min_lr,
            warmup=round(recipe.warmup * run.steps),
            horizon=round(recipe.horizon * run.steps),
        ),
        steps=run.steps,
        seed=run.seed,
        precision=precision,
        workers=recipe.workers,
        clip_norm=None,
        log_every=recipe.log_every,
        log=record,
        saving=Saving(folder, every=recipe.save_every, keep=recipe.keep),
    )


def _loader(
    model: models.Pretraining, rows: pd.DataFrame, root: Path, recipe: config.Recipe, seed: int
) -> Callable[[int], tuple[Tensor, augment.Choices]]:
    """What step `step` trains on: images as stored if they are to be cropped, else at the model's size; and its random choices."""
    size_px, crop = recipe.model.height_width_px, recipe.augment.crop
    images = PairImages(rows, root, size_px if crop == "none" else None)
    if crop == "window" and any(stored < wanted for stored, wanted in zip(images.size_px, size_px, strict=True)):
        raise BadInput(f"augment.crop window: images are stored at {images.size_px} px, smaller than the model's {size_px}")
    views, grid, device = model.views, model.encoder.grid, next(model.parameters()).device
    decode, samples = (images.pairs, len(images)) if views == 2 else (images.singles, 2 * len(images))

    def load(step: int) -> tuple[Tensor, augment.Choices]:
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
        batch = decode(batch_indices(step, recipe.batch, samples, seed))
        return batch.pin_memory() if device.type == "cuda" else batch, choices

    return load


# ---------------------------------------------------------------------------- publishing


def _pictures(
    model: models.Pretraining, manifest: Path, root: Path, recipe: config.Recipe, run: config.Run
) -> tuple[dict[str, np.ndarray], str]:
    """Reconstructions of a few held-out pairs, spread over the split; the noise is the same for every run of a seed."""
    split = "validation"
    try:
        rows = read_manifest(manifest, split)
    except BadInput:
        split = "train"
        rows = read_manifest(manifest, split)
    chosen = np.unique(np.linspace(0, len(rows) - 1, recipe.samples).round().astype(np.int64))
    images = PairImages(rows, root, recipe.model.height_width_px)
    noise = torch.rand(len(chosen), model.encoder.grid[0] * model.encoder.grid[1], generator=augment.generator(run.seed, 0))
    pictures = reconstruct.reconstruct(model, images.pairs(chosen), noise)
    pictures["keys"] = images.keys[chosen].astype(str)
    return pictures, reconstruct.caption(model, split)


def _fill(
    model: models.Pretraining, card: dict[str, Any], pictures: tuple[dict[str, np.ndarray], str], unfinished: Path, folder: Path
) -> None:
    about = {key: value for key, value in card.items() if key != "git_commit"}  # equal weights are equal files at any commit
    checkpoint.write_weights(model.encoder.state_dict(), folder / "encoder.safetensors", about)
    checkpoint.write_weights(model.state_dict(), folder / "model.safetensors", about)
    write_json(folder / "card.json", card)
    log = unfinished / "log.jsonl"
    journal.close(log, card["steps"])
    (folder / "log.jsonl").write_bytes(log.read_bytes())
    arrays, caption = pictures
    np.savez(folder / "reconstruction.npz", allow_pickle=False, caption=np.array(caption), **arrays)
    reconstruct.draw(arrays, caption, folder / "reconstruction.png")


def _card(name: str, recipe: config.Recipe, run: config.Run, model: models.Pretraining, precision: str) -> dict[str, Any]:
    size = recipe.model
    return {
        "run": name,
        "recipe": run.recipe,
        "objective": recipe.objective,
        "dataset": run.dataset,
        "steps": run.steps,
        "seed": run.seed,
        "batch": recipe.batch,
        "precision": precision,
        "mask_ratio": recipe.mask_ratio,
        "visible_rounding": recipe.visible_rounding,
        "visible_patches": model.visible,
        "norm_pix_loss": recipe.norm_pix_loss,
        "model": size.model_dump(mode="json") | {"size_px": list(size.height_width_px)},
        "timm": _timm(size),
        "versions": {"mimic": version("mimic"), "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def _timm(size: config.Model) -> dict[str, Any] | None:
    """How plain timm builds the encoder; None where it cannot (rotary positions, another norm epsilon)."""
    if size.positions != "sincos" or size.norm_eps != 1e-6:
        return None
    kwargs = {
        "img_size": list(size.height_width_px),
        "patch_size": size.patch_px,
        "embed_dim": size.width,
        "depth": size.depth,
        "num_heads": size.heads,
        "num_classes": 0,
        "class_token": size.class_token,
        "global_pool": "token" if size.class_token else "avg",
        "fc_norm": False,
    }
    return {"name": "timm.models.VisionTransformer", "kwargs": kwargs}
