"""Tiny encoders, and labelled depth sets in the true NYU Depth v2 layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from mimic.config import CorrespondenceTask, DepthTask
from mimic.models.encoder import VisionTransformer
from mimic.models.layers import initialise

torch.set_num_threads(2)


@pytest.fixture
def encoder() -> VisionTransformer:
    """A random encoder of 32 px images in 8 px patches."""
    return make_encoder()


@pytest.fixture
def make() -> Callable[..., VisionTransformer]:
    return make_encoder


def make_encoder(seed: int = 0, size_px: int = 32, width: int = 24, depth: int = 4, class_token: bool = False) -> VisionTransformer:
    encoder = VisionTransformer(
        size_px=(size_px, size_px),
        patch_px=8,
        width=width,
        depth=depth,
        heads=2,
        class_token=class_token,
        positions="sincos",
        norm_eps=1e-6,
        attention="auto",
    )
    initialise(encoder, torch.Generator().manual_seed(seed))
    return encoder.eval()


@pytest.fixture
def depth_task() -> DepthTask:
    """Seconds on two cores: 32 px, 6 steps."""
    return DepthTask(
        task="depth",
        preset="standard",
        data=Path("nyu"),
        masks=None,
        freeze="none",
        blocks=None,
        head_width=16,
        size_px=32,
        augment="flip",
        steps=6,
        batch=4,
        lr=1e-3,
        weight_decay=1e-4,
        betas=(0.9, 0.999),
        layer_decay=0.75,
        drop_path=0.0,
        warmup=0.2,
        clip_grad=None,
        precision="fp32",
        save_every=None,
        seed=0,
        samples=2,
        frame="whole",
        antialias=True,
        units_per_m=1.0,
        target_mean=2.5,
        target_std=1.0,
        score_at="native",
        score_region="all",
        depth_min_m=0.001,
        depth_max_m=10.0,
        flip_test=False,
        averaging="image",
        eval_batch=4,
        eval_ranks=1,
    )


@pytest.fixture
def correspondence_task() -> CorrespondenceTask:
    return CorrespondenceTask(
        task="correspondence", dataset="toy", pairs=6, batch=4, block=None, overlap_bins=(0.0, 0.7, 1.0), samples=2, seed=0
    )


@pytest.fixture
def nyu_folder(tmp_path: Path) -> Path:
    """Eight train and five test images of 64 x 48, where brightness tells depth."""
    folder = tmp_path / "nyu"
    write_nyu(folder)
    return folder


def write_nyu(folder: Path, train: int = 8, test: int = 5, unit: float = 1.0, dtype: type = np.float32) -> None:
    """`unit`: what a metre is written as."""
    rng = np.random.default_rng(0)
    n, width, height = train + test, 64, 48
    depth = 1 + 3 * rng.random((n, 1, 1)) + np.linspace(0, 1, width)[None, :, None] + np.zeros((n, width, height))
    images = np.clip(depth[:, None] / 6 * 255 + rng.normal(0, 4, (n, 3, width, height)), 0, 255).astype(np.uint8)
    raw = depth * (rng.random(depth.shape) > 0.2)
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = images
        file["depths"] = (depth * unit).astype(dtype)
        file["rawDepths"] = (raw * unit).astype(dtype)
    numbers = np.arange(1, n + 1, dtype=np.uint16)
    scipy.io.savemat(folder / "splits.mat", {"trainNdxs": numbers[:train, None], "testNdxs": numbers[train:, None]})
