"""Crops, mirrors and jitter, against PIL and plain formulas; choices that depend on (seed, step)
alone."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD, normalise
from mimic.training import augment
from tests.support import toy_pairs

OPTIONS: dict[str, Any] = {
    "batch": 64,
    "views": 2,
    "patches": 16,
    "stored_px": (40, 48),
    "size_px": (32, 24),
    "swap": 0.5,
    "crop": "none",
    "crop_area": (0.2, 1.0),
    "flip": 0.0,
    "jitter": 0.0,
}


def choose(step: int = 0, seed: int = 0, **options: Any) -> augment.Choices:
    return augment.choose(step, seed, **OPTIONS | options)


def pixels(x: torch.Tensor) -> torch.Tensor:
    """Undo the normalisation: values in 0..1."""
    return x.movedim(-3, -1) * torch.tensor(IMAGE_STD) + torch.tensor(IMAGE_MEAN)


def test_choices_are_a_function_of_seed_and_step() -> None:
    first, again = choose(7, 3, crop="resized"), choose(7, 3, crop="resized")
    assert all(
        np.array_equal(getattr(first, f.name), getattr(again, f.name)) for f in fields(first)
    )
    assert not torch.equal(first.noise, choose(8, 3).noise)
    assert not torch.equal(first.noise, choose(7, 4).noise)
    assert torch.equal(first.noise, choose(7, 3, flip=0.5, jitter=0.4, crop="window").noise)


def test_shares_and_ranges() -> None:
    choices = choose(batch=2000, crop="resized", flip=0.25, jitter=0.4)
    assert choices.swap.float().mean() == pytest.approx(0.5, abs=0.05)
    assert choices.flip.float().mean() == pytest.approx(0.25, abs=0.05)
    assert 0.6 <= choices.factor.min() < 0.65
    assert 1.35 < choices.factor.max() <= 1.4
    assert not choose(swap=0.0).swap.any()
    assert choose(swap=1.0).swap.all()
    top, left, height, width = choices.box.unbind(-1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 40).all()
    assert (left + width <= 48).all()
    area, aspect = (height * width) / (40 * 48), width / height
    assert 0.17 < area.min() < 0.25
    assert area.max() > 0.9
    assert aspect.min() > 0.70
    assert aspect.max() < 1.40
    assert not torch.equal(choices.box[:, 0], choices.box[:, 1])  # each view is cropped on its own


def test_resized_crop_is_pils() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(
        np.stack([toy_pairs.texture(rng, 48)[:40] for _ in range(6)])
    ).unflatten(0, (3, 2))
    choices = choose(batch=3, crop="resized", swap=0.0)
    result = pixels(augment.apply(images, choices, (32, 24), jitter=False)) * 255
    for sample in range(3):
        for view in range(2):
            top, left, height, width = choices.box[sample, view].tolist()
            cut = Image.fromarray(images[sample, view].numpy()).crop(
                (left, top, left + width, top + height)
            )
            expected = np.asarray(cut.resize((24, 32), Image.Resampling.BICUBIC), float)
            assert (
                np.abs(result[sample, view].numpy() - expected).max() < 2
            )  # PIL rounds between its two passes


def test_window_is_an_exact_cut_and_flip_a_mirror() -> None:
    images = torch.randint(0, 256, (5, 2, 40, 48, 3), dtype=torch.uint8)
    choices = choose(batch=5, crop="window", swap=0.0)
    plain = augment.apply(images, choices, (32, 24), jitter=False)
    for sample in range(5):
        for view in range(2):
            top, left, _, _ = choices.box[sample, view].tolist()
            cut = images[sample, view, top : top + 32, left : left + 24]
            assert torch.allclose(plain[sample, view], normalise(cut), atol=1e-4)
    mirrored = augment.apply(
        images, replace(choices, flip=torch.ones(5, dtype=torch.bool)), (32, 24), jitter=False
    )
    assert torch.allclose(mirrored, plain.flip(-1), atol=1e-4)


def test_without_augmentation_views_are_only_normalised_and_swapped() -> None:
    images = torch.randint(0, 256, (64, 2, 32, 24, 3), dtype=torch.uint8)
    choices = choose(stored_px=(32, 24))
    result = augment.apply(images, choices, (32, 24), jitter=False)
    for sample in range(64):
        expected = images[sample].flip(0) if choices.swap[sample] else images[sample]
        assert torch.equal(result[sample], normalise(expected))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_jitter_is_brightness_contrast_saturation_in_the_given_order(
    order: tuple[int, int, int],
) -> None:
    images = torch.randint(0, 256, (1, 1, 8, 8, 3), dtype=torch.uint8)
    base = choose(batch=1, views=1, stored_px=(8, 8), size_px=(8, 8))
    choices = replace(base, factor=torch.tensor([[[0.7, 1.3, 0.6]]]), order=torch.tensor([[order]]))
    x = images[0, 0].float().numpy() / 255
    for kind in order:
        grey = x @ np.array([0.299, 0.587, 0.114])
        factor = (0.7, 1.3, 0.6)[kind]
        towards = (0.0, grey.mean(), grey[..., None])[kind]
        x = np.clip(factor * x + (1 - factor) * towards, 0, 1)
    assert (
        np.abs(pixels(augment.apply(images, choices, (8, 8), jitter=True))[0, 0].numpy() - x).max()
        < 1e-5
    )
