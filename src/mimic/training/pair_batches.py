"""Batches of a pretraining: pairs decoded and their random choices in threads, augmented and put
through the model on the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mimic import config
from mimic.errors import BadInput
from mimic.models.objectives.base import Pretraining
from mimic.models.objectives.matching import place_matches
from mimic.pairs.decoded import DecodedPairs
from mimic.pairs.images import PairImages
from mimic.training import augment
from mimic.training.batches import batch_indices
from mimic.training.fit import MicroBatch

MATCHES = ["correspondences", "patch_px"]  # columns that say which patches of a pair show the same
Loaded = tuple[Tensor, augment.Choices, Tensor | None]


def step_loss(
    recipe: config.Recipe, device: torch.device, model: nn.Module, loaded: Loaded
) -> Tensor:
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


def decoded_at(recipe: config.Recipe) -> tuple[int, int] | None:
    """Crops are cut from images as they are stored (None), or as they are kept."""
    if recipe.augment.crop == "none":
        return recipe.model.height_width_px
    return None if recipe.decode_px is None else (recipe.decode_px, recipe.decode_px)


def loader(
    model: Pretraining,
    rows: pd.DataFrame,
    images: PairImages | DecodedPairs,
    recipe: config.Recipe,
    seed: int,
    parts: tuple[MicroBatch, ...],
) -> Callable[[int], list[Loaded]]:
    """What this rank trains on at a step: images as stored if they are to be cropped, else at the
    model's size; and their random choices.

    Choices are drawn for the whole batch, whoever trains on it, so they are the same for any number
    of ranks.
    """
    size_px = recipe.model.height_width_px
    crop = recipe.augment.crop
    if crop == "window" and any(
        stored < wanted for stored, wanted in zip(images.size_px, size_px, strict=True)
    ):
        raise BadInput(
            f"augment.crop window: images are stored at {images.size_px} px, smaller than the "
            f"model's {size_px}"
        )
    views = model.views
    grid = model.encoder.grid
    gpu = next(model.parameters()).is_cuda
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
            correspondences = torch.from_numpy(mined[0][indices])
            mined_grid = mined[1]
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
