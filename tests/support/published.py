"""A small workspace with everything the stages publish, for the tests of what reads it: true shapes
and names, invented numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from mimic.geometry.patches import invert_map, keep_most_voted, vote_all
from mimic.infra.storage import Workspace, write_json
from mimic.pairs.read import read_image, read_table
from mimic.pairs.schema import MANIFEST, index_path
from mimic.pairs.write import encode_image, shard_writer, write_table
from mimic.params import Params

SIZE_PX, PATCH_PX, MODEL_PX = 224, 16, 64


def texture(seed: int, size_px: int) -> np.ndarray:
    """A picture with structure at every scale, uint8 [size, size, 3]."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size_px, size_px, 3))
    for cells, weight in ((3, 1.0), (9, 0.6), (40, 0.35)):
        image += weight * cv2.resize(
            rng.random((cells, cells, 3)), (size_px, size_px), interpolation=cv2.INTER_CUBIC
        )
    for _ in range(14):
        (x, y), colour = rng.integers(0, size_px, 2).tolist(), (2 * rng.random(3)).tolist()
        cv2.rectangle(
            image,
            (x, y),
            (x + int(rng.integers(8, size_px // 5)), y + int(rng.integers(8, size_px // 5))),
            colour,
            -1,
        )
    return np.clip(image * 128, 0, 255).astype(np.uint8)


def views(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two views of a texture and the homography between them."""
    rng = np.random.default_rng([seed, 1])
    world = texture(seed, 2 * SIZE_PX)
    a_from_world = np.array([[1, 0, -60], [0, 1, -100], [0, 0, 1]], float)
    b_from_world = np.array(
        [
            [1.05, 0.06, -120 - 20 * rng.random()],
            [-0.04, 1.02, -90 + 30 * rng.random()],
            [2e-4, 1e-4, 1],
        ]
    )
    a, b = (
        cv2.warpPerspective(world, move, (SIZE_PX, SIZE_PX))
        for move in (a_from_world, b_from_world)
    )
    return a, b, b_from_world @ np.linalg.inv(a_from_world)


def pair_row(source: str, clip: str, index: int, b_from_a: np.ndarray) -> dict[str, Any]:
    targets = vote_all(b_from_a, SIZE_PX, PATCH_PX)
    matched = keep_most_voted(targets, np.ones(len(targets), np.int64))
    overlap = float((invert_map(matched) >= 0).mean())
    return {
        "key": f"{source}-{Path(clip).stem}-{index:04d}",
        "source": source,
        "clip": clip,
        "frame_a": f"{index}",
        "frame_b": f"{index + 5}",
        "pose_a": None,
        "pose_b": None,
        "overlap": overlap,
        "overlap_a_to_b": overlap,
        "overlap_b_to_a": overlap,
        "b_from_a": (b_from_a / b_from_a[2, 2]).ravel().tolist(),
        "matches": 210 + index,
        "inliers": 170 + index,
        "correspondences": matched.tolist(),
        "size_px": SIZE_PX,
        "patch_px": PATCH_PX,
        "licence": "Apache-2.0",
        "params_digest": "0" * 16,
        "versions": "{}",
    }


def publish_pairs(root: Path, source: str, clips: list[str], count: int) -> list[dict[str, Any]]:
    """Shards and mining counts of a source; the manifest rows of its pairs."""
    workspace, rows = Workspace(root), []
    for number, clip in enumerate(clips):
        tar = workspace.pairs(source) / f"shard-{number:05d}.tar"
        with shard_writer(tar) as writer:
            for index in range(count):
                a, b, b_from_a = views(1000 * number + index)
                writer.add(
                    pair_row(source, clip, index, b_from_a),
                    encode_image(a, 95),
                    encode_image(b, 95),
                )
        found = read_table(index_path(tar)).to_pylist()
        split = "validation" if number == 0 else "train"
        rows += [row | {"shard": tar.relative_to(root).as_posix(), "split": split} for row in found]
    outcomes = {
        "kept": len(rows),
        "too_similar": 40,
        "too_different": 25,
        "few_matches": 3,
        "degenerate": 2,
        "blurred": 1,
        "unreadable": 0,
    }
    counts, edges = np.histogram([row["overlap"] for row in rows], 20, (0, 1))
    write_json(
        workspace.metrics("mine", source),
        {
            "candidates": sum(outcomes.values()),
            "kept": len(rows),
            "outcomes": outcomes,
            "clips": len(clips),
            "overlap_histogram": {
                f"{edge:.2f}": int(count) for edge, count in zip(edges[:-1], counts, strict=True)
            },
            "damaged": {clips[0]: "ends early"},
        },
    )
    return rows


def publish_model(params: Params, root: Path, run: str, rows: list[dict[str, Any]]) -> None:
    planned, recipe = params.runs[run], params.pretrain[params.runs[run].recipe]
    folder = Workspace(root).model(run)
    card = {
        "run": run,
        "recipe": planned.recipe,
        "objective": recipe.objective,
        "dataset": planned.dataset,
        "manifest_digest": f"{len(rows):02d}" * 32,
        "steps": planned.steps,
        "seed": planned.seed,
        "batch": recipe.batch,
        "pairs": len(rows),
        "model": {"size_px": [64, 64], "patch_px": 8, "width": 192, "depth": 8},
        "git_commit": "c" * 40,
        "versions": {"torch": "2.14.1"},
    }
    write_json(folder / "card.json", card)
    steps = range(5, planned.steps + 1, 5)
    log = [
        {
            "step": step,
            "loss": 0.82 + 0.2 * 0.97**step,
            "lr": 1e-3,
            "grad_norm": 1.0,
            "pairs_per_second": 100.0,
        }
        for step in steps
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    images: dict[str, list[np.ndarray]] = {
        "view_a": [],
        "masked": [],
        "reconstruction": [],
        "view_b": [],
    }
    hidden = np.random.default_rng(0).permutation(64) < 57
    mask = (
        cv2.resize(
            hidden.reshape(8, 8).astype(np.uint8),
            (MODEL_PX, MODEL_PX),
            interpolation=cv2.INTER_NEAREST,
        )[..., None]
        > 0
    )
    for row in rows[:3]:
        tar = root / row["shard"]
        a, b = (
            cv2.resize(
                read_image(tar, row[f"offset_{v}"], row[f"size_{v}"]),
                (64, 64),
                interpolation=cv2.INTER_AREA,
            )
            for v in "ab"
        )
        blurred = cv2.GaussianBlur(a, (0, 0), 3)
        for name, image in zip(
            images, (a, np.where(mask, 128, a), np.where(mask, blurred, a), b), strict=True
        ):
            images[name].append(image.astype(np.uint8))
    keys = np.array([row["key"] for row in rows[:3]])
    caption = "Held-out pairs. The model sees 7 of 64 patches of view a and all of view b."
    stored: dict[str, Any] = {name: np.stack(part) for name, part in images.items()}
    np.savez(folder / "reconstruction.npz", caption=np.array(caption), keys=keys, **stored)


def publish_result(
    params: Params, root: Path, run: str, task: str, value: float, **more: Any
) -> None:
    """A metrics file and two sample pictures."""
    workspace, section = Workspace(root), params.evaluate[task]
    extra: dict[str, Any] = {}
    if section.task == "correspondence":
        extra = {
            "metrics": {"exact": value, "chance": {"exact": 0.016}, "same_place": {"exact": 0.051}}
        }
    record = {
        "name": "delta1" if section.task == "depth" else "recall",
        "value": value,
        "higher_is_better": True,
        "metrics": {},
        "protocol": f"{task}: the protocol in one line",
        "test_size": 32,
        "seed": 0,
        "task": task,
        "run": run,
        "checkpoint": f"{abs(hash_of(run)):064x}",
        **extra,
        **more,
    }
    write_json(workspace.metrics(run, task), record)
    folder = workspace.samples(run, task)
    folder.mkdir(parents=True, exist_ok=True)
    listing = []
    for number in range(3):
        strip = np.concatenate([texture(number + part, 96) for part in range(3)], axis=1)
        cv2.imwrite(str(folder / f"image-{number:04d}.png"), strip)
        listing.append(
            {
                "file": f"image-{number:04d}.png",
                "caption": f"test image {number}: image, truth, prediction",
            }
        )
    (folder / "samples.json").write_text(json.dumps(listing))


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode(), "big") % 2**200


def publish_everything(params: Params, root: Path, clip: str = "room-0") -> None:
    """What a finished pipeline leaves, except the runs directory."""
    rows = []
    for source in params.sources:
        rows += publish_pairs(root, source, [clip, "room-1"], 3)
    for name in params.datasets:
        write_table(pa.Table.from_pylist(rows, schema=MANIFEST), Workspace(root).manifest(name))
    for position, run in enumerate(params.table.runs):
        publish_model(params, root, run, rows)
        for task in params.table.tasks:
            publish_result(params, root, run, task, 0.2 + 0.01 * position)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
