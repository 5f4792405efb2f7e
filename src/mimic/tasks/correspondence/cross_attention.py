"""Correspondence read off a cross-view decoder: where each patch of view a looks in view b (An et
al., ZeroCo). Nothing is trained.

Both views go through whole; the cross-attention is averaged over heads and blocks; the first token,
which gathers attention that has nowhere to go, is set to the smallest value; the map from b to a,
transposed, is averaged in. A sharp soft-argmax gives places between patches, enlarged to pixels.
The truth is the pair's homography.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mimic.errors import BadInput
from mimic.infra.progress import counted
from mimic.infra.storage import Workspace
from mimic.models.encoder import normalise
from mimic.models.two_view import TwoViews
from mimic.pairs.images import open_pairs, read_manifest
from mimic.tasks.api import EvalModel, EvalPaths, Result
from mimic.tasks.correspondence.config import CrossAttentionTask
from mimic.tasks.correspondence.patch_matching import (
    Match,
    bins,
    drawn,
    item_recalls,
    picture,
    resized_homography,
    sample_pairs,
    square_side,
    truth_on_grid,
)
from mimic.tasks.metrics.items import standard_error
from mimic.tasks.metrics.matching import chance, nearest, offsets, recall

PCK_PX = (1, 3, 5)
# rows of Match.matched
ATTENTION = 0
ENCODER = 1


@dataclass(frozen=True)
class PairMatches:
    """One pair: matches of the attention and of the encoder's features, mean end-point error in
    pixels, shares below PCK_PX."""

    match: Match
    error_px: float
    below: tuple[float, ...]


def run(task: CrossAttentionTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Measure a cross-view model on the validation pairs of a dataset.

    Raises:
        BadInput: the run has no decoder with cross-attention, or no validation pair has a
            homography.
    """
    model = subject.two_view_model("cross_attention")
    rows = sample_pairs(
        read_manifest(Workspace(folders.root).manifest(task.dataset), "validation", columns=None),
        task,
    )
    seen = list(
        counted(
            _seen(task, TwoViews(model).eval(), rows, folders), "match patches", len(rows), "pairs"
        )
    )
    side = square_side(model.encoder) // model.encoder.patch_px
    metrics = _metrics(seen, side, task.overlap_bins)
    return Result(
        name="recall",
        headline="exact",
        higher_is_better=True,
        metrics=metrics,
        protocol=(
            f"{len(seen)} held-out pairs of {task.dataset}, homography truth on a {side} x {side} "
            "grid, cross-attention averaged over "
            f"heads and blocks{', both ways' if task.reciprocal else ''}, soft-argmax at "
            f"{task.temperature:g}; "
            f"chance {metrics['chance']['exact']:.3f}"
        ),
        selection="all blocks and heads averaged, fixed beforehand",
        test_size=len(seen),
        items=item_recalls([one.match for one in seen], side, ATTENTION),
        pictures=[
            picture(one.match, side, ATTENTION, index)
            for index, one in enumerate(seen[: task.samples])
        ],
    )


def costs(model: TwoViews, a: Tensor, b: Tensor, reciprocal: bool) -> Tensor:
    """How likely each patch of a is each patch of b, [pairs, n, n]."""

    def one_way(x: Tensor, y: Tensor) -> Tensor:
        weights = model.attention(x, y)
        if (
            not model.encoder.class_token
        ):  # with a class token, that is the first token, and it is gone already
            weights[:, :, 0] = weights.flatten(1).min(dim=1).values[:, None]
        return weights

    forward = one_way(a, b)
    return (forward + one_way(b, a).transpose(1, 2)) / 2 if reciprocal else forward


def dense_flow(weights: Tensor, side: int, patch_px: int, temperature: float) -> Tensor:
    """Displacement in pixels, x and y, [pairs, 2, h, w]: the expected place of each patch, enlarged
    bilinearly."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = (torch.stack([columns, rows], dim=-1).flatten(0, 1).to(weights) + 0.5) * patch_px - 0.5
    expected = (weights / temperature).softmax(dim=-1) @ places
    flow = (expected - places).transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(flow, scale_factor=patch_px, mode="bilinear", align_corners=False)


def true_flow(b_from_a: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Displacement float64[size, size, 2] of each pixel by a homography, and which pixels stay in
    the frame."""
    x, y = np.meshgrid(np.arange(size_px), np.arange(size_px))
    moved = np.stack([x, y, np.ones_like(x)], axis=-1) @ b_from_a.T
    front = moved[..., 2] > 1e-9
    target = moved[..., :2] / np.where(front, moved[..., 2], 1)[..., None]
    inside = front & (target >= -0.5).all(axis=-1) & (target < size_px - 0.5).all(axis=-1)
    return target - np.stack([x, y], axis=-1), inside


def _seen(
    task: CrossAttentionTask, model: TwoViews, rows: pd.DataFrame, paths: EvalPaths
) -> Iterator[PairMatches]:
    patch_px = model.encoder.patch_px
    size_px = square_side(model.encoder)
    side = size_px // patch_px
    images = open_pairs(rows, paths.root, (size_px, size_px), paths.shards)
    for start in range(0, len(rows), task.batch):
        index = np.arange(start, min(start + task.batch, len(rows)))
        views = images.pairs(index)
        device = next(model.parameters()).device
        with torch.inference_mode():
            a, b = (normalise(views[:, view].to(device)) for view in (0, 1))
            weights = costs(model, a, b, task.reciprocal).cpu()
            flows = dense_flow(weights, side, patch_px, task.temperature)
            tokens = [model.encoder.tokens(view)[1] for view in (a, b)]
        for item, row in enumerate(rows.iloc[index].to_dict("records")):
            b_from_a = np.reshape(row["b_from_a"], (3, 3)).astype(np.float64)
            truth = truth_on_grid(b_from_a, row["size_px"], size_px, patch_px)
            matched = np.stack(
                [weights[item].argmax(dim=1).numpy(), nearest(tokens[0][item], tokens[1][item])]
            )
            motion, inside = true_flow(
                resized_homography(b_from_a, row["size_px"], size_px), size_px
            )
            off = np.linalg.norm(flows[item].permute(1, 2, 0).numpy() - motion, axis=-1)[inside]
            below = tuple(float((off < limit).mean()) if len(off) else np.nan for limit in PCK_PX)
            error_px = float(off.mean()) if len(off) else np.nan
            shown = drawn(views[item], start + item, task.samples)
            yield PairMatches(Match(float(row["overlap"]), shown, truth, matched), error_px, below)


def _metrics(seen: list[PairMatches], side: int, edges: tuple[float, ...]) -> dict[str, Any]:
    matches = [one.match for one in seen]
    truth = np.concatenate([match.truth for match in matches])
    if not (truth >= 0).any():
        raise BadInput(
            "cross_attention: no patch of any pair has a true match; is the homography that of the "
            "resized images?"
        )

    def score(chosen: list[PairMatches], row: int) -> dict[str, float]:
        return recall(
            np.concatenate(
                [offsets(one.match.matched[row], one.match.truth, side) for one in chosen]
            )
        )

    def in_pixels(chosen: list[PairMatches]) -> dict[str, float]:
        shares = {
            f"PCK{limit}": float(np.nanmean([one.below[index] for one in chosen]))
            for index, limit in enumerate(PCK_PX)
        }
        return {"EPE_px": float(np.nanmean([one.error_px for one in chosen])), **shares}

    of_match = {id(one.match): one for one in seen}
    return {
        **score(seen, ATTENTION),
        **in_pixels(seen),
        "standard_error": standard_error(item_recalls(matches, side, ATTENTION)),
        "encoder": score(seen, ENCODER),
        "by_overlap": {
            name: score(part, ATTENTION) | in_pixels(part) | {"pairs": len(part)}
            for name, part in (
                (name, [of_match[id(match)] for match in chosen])
                for name, chosen in bins(matches, edges)
            )
        },
        "chance": chance(truth, side),
        "same_place": recall(offsets(np.tile(np.arange(side * side), len(seen)), truth, side)),
        "patches": int((truth >= 0).sum()),
    }
