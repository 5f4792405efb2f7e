"""Votes of pixels for patches: which patch of b does each patch of a fall into?

Patches are numbered in raster order; n = (size_px / patch_px)**2. In every map from patches to patches -1 means none.
A patch whose pixels mostly leave the other frame has none: 'outside' is a candidate like any patch.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int16, Int64

NONE = -1


def patch_count(size_px: int, patch_px: int) -> int:
    """Patches of a size_px square image."""
    return (size_px // patch_px) ** 2


# ---------------------------------------------------------------------------- all pixels vote


def count_votes(
    b_from_a: Float64[np.ndarray, "3 3"], size_px: int, patch_px: int
) -> tuple[Int16[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Winning target of each patch of a (-1 = none) when all its pixels vote, and the votes it got; ties go to the smaller number."""
    side = size_px // patch_px
    patches = side * side
    # Fold 'pixel -> patch' into the matrix: a pixel centre at x lies in column floor((x + 0.5) / patch_px).
    to_patch = np.array([[1 / patch_px, 0, 0.5 / patch_px], [0, 1 / patch_px, 0.5 / patch_px], [0, 0, 1]]) @ b_from_a
    pixel = np.arange(size_px, dtype=np.float64)
    along_x, along_y = np.outer(to_patch[:, 0], pixel), np.outer(to_patch[:, 1], pixel) + to_patch[:, 2:]
    column, row, denominator = (along_y[i][:, None] + along_x[i][None, :] for i in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        column /= denominator
        row /= denominator
        inside = (denominator > 0) & (column >= 0) & (column < side) & (row >= 0) & (row < side)
        target = row.astype(np.int32) * side + column.astype(np.int32)
    votes = np.where(inside, target, patches) + _ballot(size_px, patch_px)
    counts = np.bincount(votes.ravel(), minlength=patches * (patches + 1)).reshape(patches, patches + 1)
    winner = counts.argmax(axis=1)
    return _without_outside(winner, patches), counts[np.arange(patches), winner]


def vote_all(b_from_a: Float64[np.ndarray, "3 3"], size_px: int, patch_px: int) -> Int16[np.ndarray, " n"]:
    """Target patch in b of each patch of a (-1 = none), all pixels voting."""
    return count_votes(b_from_a, size_px, patch_px)[0]


@lru_cache(maxsize=8)
def _ballot(size_px: int, patch_px: int) -> Int64[np.ndarray, "size size"]:
    """For each pixel, where the counters of its patch begin."""
    side = size_px // patch_px
    band = np.arange(size_px) // patch_px
    ballot = (band[:, None] * side + band[None, :]) * (side * side + 1)
    ballot.setflags(write=False)
    return ballot


# ---------------------------------------------------------------------------- drawn pixels vote (the published rule)


def draw_pixels(size_px: int, patch_px: int, votes: int, rng: np.random.Generator) -> Float32[np.ndarray, "n votes 2"]:
    """x, y of `votes` pixels of each patch, drawn with replacement."""
    side = size_px // patch_px
    drawn = rng.integers(0, patch_px * patch_px, size=(side * side, votes))
    patch = np.arange(side * side)[:, None]
    x = patch % side * patch_px + drawn % patch_px
    y = patch // side * patch_px + drawn // patch_px
    return np.stack([x, y], axis=-1).astype(np.float32)


def vote_drawn(
    b_from_a: Float64[np.ndarray, "3 3"], pixels: Float32[np.ndarray, "n votes 2"], size_px: int, patch_px: int
) -> Int16[np.ndarray, " n"]:
    """Target patch of each patch of a (-1 = none) by the drawn pixels, coordinates truncated; first to reach the maximum wins."""
    side = size_px // patch_px
    patches, votes = pixels.shape[:2]
    x, y = cv2.perspectiveTransform(pixels.reshape(-1, 1, 2), b_from_a).reshape(-1, 2).T
    inside = (x >= 0) & (y >= 0) & (x < size_px) & (y < size_px)
    column, row = np.where(inside, x, 0).astype(np.int32) // patch_px, np.where(inside, y, 0).astype(np.int32) // patch_px
    target = np.where(inside, row * side + column, patches)
    ballot = np.repeat(np.arange(patches) * (patches + 1), votes) + target
    counts = np.bincount(ballot, minlength=patches * (patches + 1))
    last = np.zeros(len(counts), np.int64)
    last[ballot] = np.tile(np.arange(votes), patches)  # later assignments win: the index of the last vote for each candidate
    # Of the candidates with most votes, the one whose last vote came first reached the maximum first.
    winner = (counts * (votes + 1) - last).reshape(patches, patches + 1).argmax(axis=1)
    return _without_outside(winner, patches)


# ---------------------------------------------------------------------------- maps from patches to patches


def keep_first(targets: Int16[np.ndarray, " n"]) -> Int16[np.ndarray, " n"]:
    """Each target once: the first source patch in raster order keeps it, the others get -1."""
    kept = np.full_like(targets, NONE)
    _, first = np.unique(targets, return_index=True)
    kept[first] = targets[first]
    return kept


def keep_most_voted(targets: Int16[np.ndarray, " n"], votes: Int64[np.ndarray, " n"]) -> Int16[np.ndarray, " n"]:
    """Each target once: the source patch with most votes keeps it (ties: the first in raster order), the others get -1."""
    order = np.argsort(-votes, kind="stable")
    kept = np.full_like(targets, NONE)
    kept[order] = keep_first(targets[order])
    return kept


def invert_map(b_of_a: Int16[np.ndarray, " n"]) -> Int16[np.ndarray, " n"]:
    """The map from patches of b to patches of a; targets of b_of_a must be distinct."""
    a_of_b = np.full_like(b_of_a, NONE)
    matched = np.flatnonzero(b_of_a != NONE)
    a_of_b[b_of_a[matched]] = matched
    return a_of_b


def _without_outside(winner: Int64[np.ndarray, " n"], patches: int) -> Int16[np.ndarray, " n"]:
    return np.where(winner == patches, NONE, winner).astype(np.int16)
