"""How long it takes to assemble millions of mined pairs, how much memory, and how fast one pair is
opened.

Run `python -m benchmarks.assemble [--rows 3163333] [--json]`. The rows are made up, in the true
schema and in the proportions of MIMIC-3M: smooth patch maps as homographies give them, random
hashes, one pair in a hundred a near duplicate of one of another source. The larger of two nested
datasets is assembled by the stage itself, in a fresh process. The folder is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mimic import assemble
from mimic.config.missing import PROFILES
from mimic.infra import storage
from mimic.pairs.read import open_table, read_image, read_row, read_table
from mimic.pairs.schema import MANIFEST, PAIR, index_path
from mimic.pairs.write import encode_image, shard_writer, write_table
from mimic.params import load_params, resolve_params

SHARE_3M = 3_161_333
# Pairs in MIMIC-1M and in MIMIC-3M; scenes or clips they come from.
SOURCES = {
    "hm3d": (761_751, 1_461_073, 900),
    "gibson": (305_197, 657_025, 570),
    "matterport3d": (29_658, 29_658, 90),
    "mannequin": (114_729, 114_729, 4_000),
    "demon": (22_184, 22_184, 22_184),
    "scannet": (36_433, 36_433, 1_500),
    "objectron": (46_250, 46_250, 14_000),
    "arkitscenes": (0, 81_189, 5_000),
    "co3d": (0, 133_482, 18_000),
    "streetview": (0, 579_310, 100),
}
ROWS_PER_SHARD = 2000
IMAGES = 64  # real JPEGs in the tar that all shards share
READS = 200
TARGETS = {"seconds": 120, "peak_mb": 3000, "open_and_read_ms": 20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_163_333)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to make the scratch workspace")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(_assemble(asked.child)))
        return
    root = Path(tempfile.mkdtemp(prefix="assemble-", dir=asked.folder))
    try:
        started = time.monotonic()
        made = _write_workspace(root, asked.rows)
        writing_s = time.monotonic() - started
        child = [sys.executable, "-m", "benchmarks.assemble", "--child", str(root)]
        found = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout)
        found |= {"rows": asked.rows, "mined": made, "writing_s": round(writing_s, 1)} | _reads(
            root
        )
    finally:
        shutil.rmtree(root)
    found["targets_met"] = {name: found[name] <= limit for name, limit in TARGETS.items()}
    found["stack"] = {
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
        "cores": os.cpu_count(),
    }
    for line in (
        [json.dumps(found)] if asked.json else [f"{key}: {value}" for key, value in found.items()]
    ):
        print(line)


def _assemble(root: Path) -> dict[str, Any]:
    started = time.monotonic()
    assemble.main(load_params(root / "params.yaml"), root, "mimic-3m")
    seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    summary = json.loads(storage.Workspace(root).metrics("assemble", "mimic-3m").read_text())
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "near_duplicates": sum(
            source["fates"]["near_duplicate"] for source in summary["sources"].values()
        ),
        "splits": summary["splits"],
        "manifest_mb": round(storage.Workspace(root).manifest("mimic-3m").stat().st_size / 2**20),
    }


def _reads(root: Path) -> dict[str, Any]:
    """Milliseconds to open the manifest and decode both images of a random row, each time from the
    start."""
    path = storage.Workspace(root).manifest("mimic-3m")
    with open_table(path, MANIFEST) as file:
        rows = file.metadata.num_rows
    times = []
    rng = np.random.default_rng(0)
    for row in rng.integers(0, rows, READS):
        started = time.perf_counter()
        pair = read_row(path, int(row), ["shard", "offset_a", "size_a", "offset_b", "size_b"])
        for side in "ab":
            read_image(root / pair["shard"], pair[f"offset_{side}"], pair[f"size_{side}"])
        times.append(1e3 * (time.perf_counter() - started))
    return {
        "open_and_read_ms": round(float(np.median(times)), 2),
        "open_and_read_p90_ms": round(float(np.percentile(times, 90)), 2),
    }


# ---------------------------------------------------------------------------- made-up shards


def _write_workspace(root: Path, rows: int) -> int:
    """Shards of `rows` pairs and a little more, so that there is something to choose from; how many
    there are."""
    rng = np.random.default_rng(0)
    space = storage.Workspace(root)
    images = _images(root / "images.tar", rng)
    base = _recipes(rows)
    (root / "params.yaml").write_text(json.dumps(base))
    made = 0
    earlier = rng.integers(0, 2**64, (1000, 2), dtype=np.uint64)
    for source, (_, pairs, clips) in SOURCES.items():
        count = round(pairs * rows / SHARE_3M * 1.03) + 60
        for number, start in enumerate(range(0, count, ROWS_PER_SHARD)):
            here = min(ROWS_PER_SHARD, count - start)
            first, last = (round(clips * at / count) for at in (start, start + here))
            table, looks = _table(
                source, start, here, (first, max(last, first + 1)), images, earlier, rng
            )
            tar = space.pairs(source) / f"shard-{number:05}.tar"
            tar.parent.mkdir(parents=True, exist_ok=True)
            os.link(root / "images.tar", tar)
            write_table(table, index_path(tar))
            earlier = looks[:1000] if here >= 1000 else earlier
            made += here
    return made


def _recipes(rows: int) -> dict[str, Any]:
    """The laptop's parameters with MIMIC's recipes, scaled to so many pairs."""
    params = resolve_params(PROFILES / "laptop.yaml").full()
    template = params["sources"]["frames"]
    datasets = {}
    for column, (name, inner) in enumerate({"mimic-1m": None, "mimic-3m": "mimic-1m"}.items()):
        counts = {
            source: round(numbers[column] * rows / SHARE_3M)
            for source, numbers in SOURCES.items()
            if numbers[column]
        }
        counts["hm3d"] += rows - sum(counts.values()) if inner else 0
        datasets[name] = params["datasets"]["mimic-1m"] | {
            **{"sources": counts, "contains": inner, "validation": 0.02},
            "test": {"sources": {"gibson": min(500, rows // 5000)}, "clips": 0.01},
        }
    runs = {name: run | {"dataset": "mimic-3m"} for name, run in params["runs"].items()}
    tasks = {
        name: task | {"dataset": "mimic-3m"} if "dataset" in task else task
        for name, task in params["evaluate"].items()
    }
    return params | {
        "sources": dict.fromkeys(SOURCES, template),
        "datasets": datasets,
        "runs": runs,
        "evaluate": tasks,
    }


def _images(tar: Path, rng: np.random.Generator) -> list[dict[str, int]]:
    """A tar of some real pairs, and where they lie."""
    text = dict.fromkeys(
        ("source", "clip", "frame_a", "frame_b", "licence", "params_digest", "versions"), "x"
    )
    numbers = dict.fromkeys(("overlap", "overlap_a_to_b", "overlap_b_to_a"), 0.6) | dict.fromkeys(
        ("matches", "inliers"), 20
    )
    with shard_writer(tar) as writer:
        for index in range(IMAGES):
            smooth = (
                rng.integers(0, 255, (2, 14, 14, 3), dtype=np.uint8)
                .repeat(16, axis=1)
                .repeat(16, axis=2)
            )
            row = {
                "key": f"x-{index}",
                **text,
                **numbers,
                "correspondences": [],
                "size_px": 224,
                "patch_px": 16,
            }
            writer.add(row, *(encode_image(image, 95) for image in smooth))
    return read_table(index_path(tar), ["offset_a", "size_a", "offset_b", "size_b"]).to_pylist()


def _table(
    source: str,
    start: int,
    count: int,
    clips: tuple[int, int],
    images: list[dict[str, int]],
    earlier: np.ndarray,
    rng: np.random.Generator,
) -> tuple[pa.Table, np.ndarray]:
    """Rows of a shard, and their dhashes."""
    clip = np.sort(rng.integers(*clips, count))
    looks = rng.integers(0, 2**64, (count, 2), dtype=np.uint64)
    again = rng.random(count) < 0.01  # seen before, two bits changed
    looks[again] = earlier[rng.integers(0, len(earlier), again.sum())] ^ (
        np.uint64(1) << rng.integers(0, 64, (again.sum(), 2), np.uint64)
    )
    pick = rng.integers(0, len(images), count)
    poses = pa.nulls(count, pa.list_(pa.float64()))
    if source in ("hm3d", "gibson", "matterport3d"):
        poses = _lists(rng.normal(size=(count, 16)))
    digests = [
        [text[at : at + 64] for at in range(0, 64 * count, 64)]
        for text in (rng.bytes(32 * count).hex() for _ in "ab")
    ]
    overlap = rng.uniform(0.5, 0.75, (3, count)).astype(np.float32)
    columns = {
        **{
            "key": [f"{source}-{c:05}-{start + i:07}" for i, c in enumerate(clip.tolist())],
            "source": [source] * count,
        },
        **{"clip": [f"scene{c:05}/{c:05}.glb" for c in clip.tolist()]},
        **{
            f"frame_{side}": [f"{n:04}{side}3" for n in rng.integers(0, 3000, count).tolist()]
            for side in "ab"
        },
        **{"pose_a": poses, "pose_b": poses, "b_from_a": _lists(rng.normal(size=(count, 9)))},
        **dict(zip(("overlap", "overlap_a_to_b", "overlap_b_to_a"), overlap, strict=True)),
        **{name: rng.integers(11, 300, count, dtype=np.int32) for name in ("matches", "inliers")},
        **{
            "correspondences": _lists(_patch_maps(count, rng)),
            "sha_a": digests[0],
            "sha_b": digests[1],
        },
        **{"dhash_a": looks[:, 0], "dhash_b": looks[:, 1]},
        **{
            name: [images[i][name] for i in pick.tolist()]
            for name in ("offset_a", "size_a", "offset_b", "size_b")
        },
        **{
            "size_px": [224] * count,
            "patch_px": [16] * count,
            "licence": [f"terms of {source}"] * count,
        },
        **{
            "params_digest": ["0123456789abcdef"] * count,
            "versions": [json.dumps({"numpy": "2.0", "opencv-python-headless": "5.0"})] * count,
        },
    }
    return pa.table({field.name: columns[field.name] for field in PAIR}, schema=PAIR), looks


def _patch_maps(count: int, rng: np.random.Generator) -> np.ndarray:
    """What a zoom and a shift do to 14 x 14 patches, i16 [count, 196]; -1 outside."""
    zoom = rng.uniform(0.8, 1.25, (count, 1, 1))
    shift = rng.uniform(-5, 5, (count, 2, 1))
    places = np.floor(zoom * np.arange(14) + shift).astype(np.int16)  # [count, 2, 14]
    inside = (places >= 0) & (places < 14)
    maps = places[:, 0, :, None] * 14 + places[:, 1, None, :]
    return (
        np.where(inside[:, 0, :, None] & inside[:, 1, None, :], maps, -1)
        .reshape(count, 196)
        .astype(np.int16)
    )


def _lists(values: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(
        np.arange(0, values.size + 1, values.shape[1], dtype=np.int32), values.ravel()
    )


if __name__ == "__main__":
    main()
