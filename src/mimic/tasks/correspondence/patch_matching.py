"""Patch-match recall between the two views of held-out pairs: does an encoder describe the same
place alike from two viewpoints?

For every block, each patch of view a looks for its nearest neighbour (cosine) among the patches of
view b. The truth is the pair's stored homography, moved to the encoder's own grid, all pixels of a
patch voting. Nothing is trained. Two lines tell what the numbers are worth: `chance`, a uniform
guess, and `same_place`, which answers with the patch at the same position, as an encoder of
positions alone would.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mimic.errors import BadInput
from mimic.geometry.patches import vote_all
from mimic.infra.progress import counted
from mimic.infra.storage import Workspace, file_digest
from mimic.models.encoder import Encoder, normalise
from mimic.pairs.images import open_pairs, read_manifest
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.correspondence.config import CorrespondenceTask, CrossAttentionTask
from mimic.tasks.inspection import DataFound, Needs, Split
from mimic.tasks.metrics.items import item_shares, standard_error
from mimic.tasks.metrics.matching import chance, nearest, offsets, recall
from mimic.training.batches import evenly_spaced

RIGHT = (40, 190, 70)
WRONG = (220, 50, 40)
PICTURE_PX = 224  # side of a view in the pictures
DRAWN = 24  # matches drawn in a picture


@dataclass(frozen=True)
class Match:
    """One pair: overlap, images uint8[2, h, w, 3] where it is to be drawn, truth int16[n] (-1 =
    none), and per block the patches found, int64[blocks, n]."""

    overlap: float
    images: np.ndarray | None
    truth: np.ndarray
    matched: np.ndarray


def look(task: CorrespondenceTask | CrossAttentionTask, root: Path, needs: Needs) -> DataFound:
    """The held-out pairs that are measured, and how many patches of theirs have a true match.

    On the grid they were mined on: an encoder may have another.
    """
    path = Workspace(root).manifest(task.dataset)
    rows = read_manifest(path, "validation", columns=None)
    measured = Split("measured", "score", needs)
    for row in sample_pairs(rows, task).to_dict("records"):
        homography = np.reshape(row["b_from_a"], (3, 3)).astype(np.float64)
        truth = vote_all(homography, row["size_px"], row["patch_px"])
        measured.add(int((truth >= 0).sum()), len(truth), [row["overlap"]])
    counts = {"validation": len(rows), "measured": len(measured.used)}
    extent = {"bytes": path.stat().st_size, "digest": file_digest(path)}
    return DataFound(path, [measured], {"splits": counts, **extent})


def run(task: CorrespondenceTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Measure an encoder on the validation pairs of a dataset.

    Raises:
        BadInput: no validation pair has a homography, or the encoder has no such block.
    """
    encoder = subject.encoder
    root = folders.root
    block = encoder.depth - 1 if task.block is None else task.block
    if not -encoder.depth <= block < encoder.depth:
        raise BadInput(
            f"correspondence: block {block} of an encoder of {encoder.depth} blocks (counted from "
            "0)"
        )
    rows = sample_pairs(
        read_manifest(Workspace(root).manifest(task.dataset), "validation", columns=None), task
    )
    matches = list(
        counted(_match(task, subject, rows, folders), "match patches", len(rows), "pairs")
    )
    side = square_side(encoder) // encoder.patch_px
    metrics = _metrics(matches, side, block % encoder.depth, task.overlap_bins)
    rule = (
        "the last block, fixed beforehand"
        if task.block is None
        else f"block {block}, fixed in params"
    )
    return Result(
        name="recall",
        headline="exact",
        higher_is_better=True,
        metrics=metrics,
        protocol=(
            f"{len(matches)} held-out pairs of {task.dataset}, homography truth on a {side} x "
            f"{side} grid, "
            f"cosine nearest neighbour, patches pooled over pairs, {rule}; chance "
            f"{metrics['chance']['exact']:.3f}"
        ),
        selection=rule,
        test_size=len(matches),
        items=item_recalls(matches, side, block),
        pictures=[
            picture(match, side, block, index)
            for index, match in enumerate(matches[: task.samples])
        ],
    )


def truth_on_grid(b_from_a: np.ndarray, from_px: int, size_px: int, patch_px: int) -> np.ndarray:
    """Target patch in b of each patch of a, int16[n], for images resized from `from_px` to
    `size_px` (pixel centres at integers)."""
    return vote_all(resized_homography(b_from_a, from_px, size_px), size_px, patch_px)


def resized_homography(b_from_a: np.ndarray, from_px: int, size_px: int) -> np.ndarray:
    """The homography of both views resized from one side to another."""
    scale = size_px / from_px
    move = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    return move @ b_from_a @ np.linalg.inv(move)


def square_side(encoder: Encoder) -> int:
    """Side in pixels at which square pairs are shown: the encoder's own, or the smaller of an
    encoder of oblong images."""
    return min(encoder.size_px)


def sample_pairs(rows: pd.DataFrame, task: CorrespondenceTask | CrossAttentionTask) -> pd.DataFrame:
    """The pairs to measure: those with a homography, a fixed draw where there are more than asked
    for.

    Raises:
        BadInput: no pair has a homography.
    """
    rows = rows[rows["b_from_a"].notna()]
    if rows.empty:
        raise BadInput(
            f"correspondence: no validation pair of {task.dataset!r} has a homography; raise "
            f"datasets.{task.dataset}.validation"
        )
    rows = rows.sort_values("key", kind="stable").reset_index(drop=True)
    rng = np.random.default_rng([task.seed, zlib.crc32(task.dataset.encode())])
    return rows.iloc[np.sort(rng.permutation(len(rows))[: task.pairs])].reset_index(drop=True)


def _match(
    task: CorrespondenceTask, subject: EvalModel, rows: pd.DataFrame, paths: EvalPaths
) -> Iterator[Match]:
    encoder = subject.encoder
    size_px = square_side(encoder)
    blocks = range(encoder.depth)
    images = open_pairs(rows, paths.root, (size_px, size_px), paths.shards)
    for start in range(0, len(rows), task.batch):
        index = np.arange(start, min(start + task.batch, len(rows)))
        views = images.pairs(index)
        with torch.inference_mode():
            maps_a, maps_b = (
                encoder.intermediates(normalise(views[:, view].to(subject.device)), blocks)
                for view in (0, 1)
            )
        for item, row in enumerate(rows.iloc[index].to_dict("records")):
            truth = truth_on_grid(
                np.reshape(row["b_from_a"], (3, 3)).astype(np.float64),
                row["size_px"],
                size_px,
                encoder.patch_px,
            )
            matched = [
                nearest(a[item].flatten(1).T, b[item].flatten(1).T)
                for a, b in zip(maps_a, maps_b, strict=True)
            ]
            shown = drawn(views[item], start + item, task.samples)
            yield Match(float(row["overlap"]), shown, truth, np.stack(matched))


def drawn(views: Tensor, index: int, samples: int) -> np.ndarray | None:
    """A copy of both views of the pairs that are drawn, the first ones: ten thousand at 518 pixels
    are 16 GB."""
    return views.numpy().copy() if index < samples else None


def _metrics(
    matches: list[Match], side: int, block: int, edges: tuple[float, ...]
) -> dict[str, Any]:
    """Recall pooled over patches, for the chosen block and all blocks, by overlap; and the two
    lines to compare with."""
    truth = np.concatenate([match.truth for match in matches])
    if not (truth >= 0).any():
        raise BadInput(
            "correspondence: no patch of any pair has a true match; is the homography that of the "
            "resized images?"
        )
    same_place = np.tile(np.arange(side * side), len(matches))

    def score(chosen: list[Match], at: int) -> dict[str, float]:
        return recall(
            np.concatenate([offsets(match.matched[at], match.truth, side) for match in chosen])
        )

    per_block = [score(matches, at) for at in range(len(matches[0].matched))]
    per_pair = [score([match], block)["exact"] for match in matches if (match.truth >= 0).any()]
    return {
        **per_block[block],
        "exact_per_pair": float(np.mean(per_pair)),
        "standard_error": standard_error(item_recalls(matches, side, block)),
        "block": block,
        "blocks": per_block,
        "best_block": int(
            np.argmax([entry["exact"] for entry in per_block])
        ),  # told, never used as the value
        "by_overlap": {
            name: score(chosen, block) | {"pairs": len(chosen)}
            for name, chosen in bins(matches, edges)
        },
        "chance": chance(truth, side),
        "same_place": recall(offsets(same_place, truth, side)),
        "patches": int((truth >= 0).sum()),
    }


def item_recalls(matches: list[Match], side: int, row: int) -> np.ndarray:
    """What each pair contributes to the recall pooled over patches."""
    off = [offsets(match.matched[row], match.truth, side) for match in matches]
    hits = np.array([(one == 0).all(axis=1).sum() for one in off])
    return item_shares(hits, np.array([len(one) for one in off]), pooled=True)


def bins(matches: list[Match], edges: tuple[float, ...]) -> Iterator[tuple[str, list[Match]]]:
    """Overlap bins [low, high), the last one closed; bins without a scorable pair are left out."""
    for low, high in pairwise(edges):
        last = high == edges[-1]
        chosen = [
            match
            for match in matches
            if low <= match.overlap and (match.overlap <= high if last else match.overlap < high)
        ]
        if any((match.truth >= 0).any() for match in chosen):
            yield f"{low:g}-{high:g}", chosen


def picture(match: Match, side: int, block: int, index: int) -> Figure:
    """Both views side by side; matched patches joined, green where the match is exact or one patch
    off, red elsewhere."""
    assert match.images is not None, "of the pairs that are drawn"
    views = [
        cv2.resize(view, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_CUBIC)
        for view in match.images
    ]
    canvas = np.concatenate(views, axis=1)
    matched = match.matched[block]
    scorable = np.flatnonzero(match.truth >= 0)
    off = offsets(matched, match.truth, side)
    right = np.abs(off).max(axis=1, initial=0) <= 1
    chosen = evenly_spaced(len(scorable), DRAWN)
    cell = PICTURE_PX / side
    for position in sorted(chosen, key=lambda position: right[position]):  # the right ones on top
        a = scorable[position]
        b = matched[scorable[position]]
        start = (round((a % side + 0.5) * cell), round((a // side + 0.5) * cell))
        end = (PICTURE_PX + round((b % side + 0.5) * cell), round((b // side + 0.5) * cell))
        colour = RIGHT if right[position] else WRONG
        cv2.line(canvas, start, end, colour, 1, cv2.LINE_AA)
        for point in (start, end):
            cv2.circle(canvas, point, 3, colour, -1, cv2.LINE_AA)
    caption = (
        f"overlap {match.overlap:.2f}, {len(scorable)} patches with a truth: "
        f"{(off == 0).all(axis=1).sum()} found exactly, "
        f"{right.sum()} within one patch (green), {(~right).sum()} wrong (red); block {block}"
    )
    return Figure(f"pair-{index:02d}", canvas, caption)
