"""Miniature data in true layouts, and tiny encoders."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import torch

from mimic.config import Ade20kSet, Flat, Shards
from mimic.models import ViTSize
from mimic.models.encoder import VisionTransformer
from mimic.models.layers import initialise
from mimic.pairs.schema import MANIFEST, index_path
from mimic.pairs.write import shard_writer, write_table
from mimic.tasks.api import EvalModel, EvalPaths

SIZE, SHIFT = (
    64,
    16,
)  # stored pairs: view b is view a moved by one patch of the encoder's grid (32 px, 8 px)

FLAT = Flat(width_m=8.0, depth_m=6.5, height_m=2.5, texture_px=128)
ADE20K = Ade20kSet(first_seed=500, flat=FLAT, train=6, test=4, width_px=64, height_px=48)


NOWHERE = Shards(url=None, cache=Path("cache"), cache_gb=1.0)


def make_encoder(
    seed: int = 0, size_px: int = 32, width: int = 24, depth: int = 4, class_token: bool = False
) -> VisionTransformer:
    size = ViTSize(
        size_px=(size_px, size_px),
        patch_px=8,
        width=width,
        depth=depth,
        heads=2,
        class_token=class_token,
        positions="sincos",
        norm_eps=1e-6,
    )
    encoder = VisionTransformer(size, attention="auto")
    initialise(encoder, torch.Generator().manual_seed(seed))
    return encoder.eval()


def as_subject(encoder: Any, folder: Path = Path("models/none")) -> EvalModel:
    """What a task is given of an encoder that was never published."""
    return EvalModel(encoder, torch.device("cpu"), card={}, folder=folder, checkpoint="0" * 64)


def folders_in(root: Path) -> EvalPaths:
    """Of an evaluation that was never begun."""
    (root / "runs").mkdir(parents=True, exist_ok=True)
    progress = Path(tempfile.mkdtemp(prefix="progress-", dir=root / "runs"))
    return EvalPaths(root, progress, features=root / "runs/features", shards=NOWHERE)


def write_nyu(
    folder: Path, train: int = 8, test: int = 5, unit: float = 1.0, dtype: type = np.float32
) -> None:
    """`unit`: what a metre is written as."""
    rng = np.random.default_rng(0)
    n, width, height = train + test, 64, 48
    depth = (
        1
        + 3 * rng.random((n, 1, 1))
        + np.linspace(0, 1, width)[None, :, None]
        + np.zeros((n, width, height))
    )
    images = np.clip(
        depth[:, None] / 6 * 255 + rng.normal(0, 4, (n, 3, width, height)), 0, 255
    ).astype(np.uint8)
    raw = depth * (rng.random(depth.shape) > 0.2)
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = images
        file["depths"] = (depth * unit).astype(dtype)
        file["rawDepths"] = (raw * unit).astype(dtype)
    numbers = np.arange(1, n + 1, dtype=np.uint16)
    scipy.io.savemat(
        folder / "splits.mat",
        {"trainNdxs": numbers[:train, None], "testNdxs": numbers[train:, None]},
    )


def write_dataset(root: Path, pairs: int, split: str = "validation") -> None:
    """A manifest whose views are colour ramps that encode the place in the scene."""
    ramp = np.arange(SIZE + SHIFT) * 3
    scene = np.stack([*np.meshgrid(ramp, ramp), np.full((len(ramp),) * 2, 128)], axis=-1).astype(
        np.uint8
    )
    tar = root / "data/pairs/toy/shard-00000.tar"
    tar.parent.mkdir(parents=True, exist_ok=True)
    b_from_a = np.array([[1, 0, -SHIFT], [0, 1, 0], [0, 0, 1]], float)
    with shard_writer(tar) as writer:
        for index in range(pairs):
            views = (scene[:SIZE, :SIZE], scene[:SIZE, SHIFT : SHIFT + SIZE])
            jpegs = [
                cv2.imencode(".jpg", view[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
                for view in views
            ]
            writer.add(_row(index, b_from_a), *jpegs)
    rows = pq.read_table(index_path(tar)).to_pylist()
    manifest = [{**row, "shard": "data/pairs/toy/shard-00000.tar", "split": split} for row in rows]
    write_table(
        pa.Table.from_pylist(manifest, schema=MANIFEST), root / "data/manifests/toy.parquet"
    )


def _row(index: int, b_from_a: np.ndarray) -> dict[str, Any]:
    text = dict.fromkeys(
        ("source", "clip", "frame_a", "frame_b", "licence", "params_digest"), "toy"
    )
    return {
        **text,
        "key": f"toy-{index:03d}",
        "pose_a": None,
        "pose_b": None,
        "overlap": 0.605 + 0.02 * index,
        "overlap_a_to_b": 0.75,
        "overlap_b_to_a": 0.75,
        "b_from_a": b_from_a.ravel().tolist(),
        "matches": 50,
        "inliers": 50,
        "correspondences": [-1] * 16,
        "size_px": SIZE,
        "patch_px": 16,
        "versions": json.dumps({}),
    }
