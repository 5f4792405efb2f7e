"""A toy dataset: pairs of shifted windows into smooth random textures, in true shards and a true
manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from mimic.pairs.read import read_table
from mimic.pairs.schema import MANIFEST, index_path
from mimic.pairs.write import encode_image, shard_writer, write_table


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth colour blobs at three scales."""
    layers = [
        cv2.resize(rng.random((n, n, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
        for n in (3, 6, 14)
    ]
    return (np.clip(0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2], 0, 1) * 255).astype(
        np.uint8
    )


def write_dataset(
    root: Path, name: str, *, pairs: int, size_px: int, seed: int, validation: int = 0
) -> Path:
    """data/pairs/toy/*.tar (two shards) and data/manifests/<name>.parquet; the last `validation`
    pairs are held out."""
    rng = np.random.default_rng(seed)
    tables = []
    for shard, rows in enumerate(np.array_split(np.arange(pairs), 2)):
        tar = root / f"data/pairs/toy/shard-{shard:05d}.tar"
        with shard_writer(tar) as writer:
            for index in rows:
                wide = texture(rng, size_px * 3 // 2)
                shift = rng.integers(0, size_px // 2, 4)
                a, b = (wide[y : y + size_px, x : x + size_px] for y, x in (shift[:2], shift[2:]))
                writer.add(_row(int(index), size_px), encode_image(a, 95), encode_image(b, 95))
        table = read_table(index_path(tar))
        split = ["validation" if index >= pairs - validation else "train" for index in rows]
        table = table.append_column(
            "shard", pa.array([tar.relative_to(root).as_posix()] * len(rows))
        )
        tables.append(table.append_column("split", pa.array(split)))
    path = root / f"data/manifests/{name}.parquet"
    write_table(pa.concat_tables(tables).cast(MANIFEST), path)
    return path


def _row(index: int, size_px: int) -> dict[str, Any]:
    return {
        "key": f"toy-{index:06d}",
        "source": "toy",
        "clip": f"clip-{index // 4}",
        "frame_a": "0",
        "frame_b": "1",
        "pose_a": None,
        "pose_b": None,
        "overlap": 0.6,
        "overlap_a_to_b": 0.6,
        "overlap_b_to_a": 0.6,
        "b_from_a": np.eye(3).ravel().tolist(),
        "matches": 20,
        "inliers": 20,
        "correspondences": list(range((size_px // 16) ** 2)),
        "size_px": size_px,
        "patch_px": 16,
        "licence": "Apache-2.0",
        "params_digest": "0",
        "versions": "{}",
    }
