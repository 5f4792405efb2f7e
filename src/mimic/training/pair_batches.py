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
    """Loss of a micro-batch, a scalar: augmented on the device, in fp32, then through the model.

    Args:
        loaded: images uint8 as `loader` gives them, their random choices, and where the patches of
            a lie in b (None: no loss on matches).
    """
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

    Raises:
        BadInput: crops of the model's size do not fit into the images, or matches are asked for and
            the pairs were mined on different grids.
    """
    size_px = recipe.model.height_width_px
    _refuse_small(images, recipe)
    grid = model.encoder.grid
    gpu = next(model.parameters()).is_cuda
    decode, samples = (
        (images.pairs, len(images)) if model.views == 2 else (images.singles, 2 * len(images))
    )
    mined = mined_matches(rows) if recipe.matching.weight else None

    def load(step: int) -> list[Loaded]:
        choices = augment.choose(
            step,
            seed,
            batch=recipe.batch,
            views=model.views,
            patches=grid[0] * grid[1],
            stored_px=images.size_px,
            size_px=size_px,
            **recipe.augment.model_dump(),
        )
        indices = batch_indices(step, recipe.batch, samples, seed)
        return [some(indices[part.samples], choices.part(part.samples)) for part in parts]

    def some(indices: np.ndarray, drawn: augment.Choices) -> Loaded:
        matches = None if mined is None else _placed(mined, indices, drawn, grid, images.size_px)
        loaded = (decode(indices), drawn, matches)
        return _pinned(loaded) if gpu else loaded

    return load


def _refuse_small(images: PairImages | DecodedPairs, recipe: config.Recipe) -> None:
    size_px = recipe.model.height_width_px
    small = any(stored < wanted for stored, wanted in zip(images.size_px, size_px, strict=True))
    if recipe.augment.crop == "window" and small:
        raise BadInput(
            f"augment.crop window: images are stored at {images.size_px} px, smaller than the "
            f"model's {size_px}"
        )


def _placed(
    mined: tuple[np.ndarray, tuple[int, int]],
    indices: np.ndarray,
    drawn: augment.Choices,
    grid: tuple[int, int],
    stored_px: tuple[int, int],
) -> Tensor:
    """Mined correspondences of some pairs, where augmentation has moved the patches to."""
    correspondences, mined_grid = mined
    return place_matches(
        torch.from_numpy(correspondences[indices]),
        mined_grid=mined_grid,
        grid=grid,
        stored_px=stored_px,
        swap=drawn.swap,
        flip=drawn.flip,
        box=drawn.box,
    )


def _pinned(loaded: Loaded) -> Loaded:
    """The same in memory that a GPU copies from while it computes."""
    pixels, choices, matches = loaded
    return pixels.pin_memory(), choices.pinned(), None if matches is None else matches.pin_memory()


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
