"""Votes of pixels for patches: which patch of b does each patch of a fall into?

Patches are numbered in raster order; n = (size_px / patch_px)**2. In every map from patches to
patches -1 means none. A patch whose pixels mostly leave the other frame has none: 'outside' is a
candidate like any patch.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int64, UInt16

NONE = -1


def patch_count(size_px: int, patch_px: int) -> int:
    """Patches of a size_px square image."""
    return (size_px // patch_px) ** 2


# ---------------------------------------------------------------------------- all pixels vote


def count_votes(
    b_from_a: Float64[np.ndarray, "3 3"], size_px: int, patch_px: int
) -> tuple[Int16[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Winning target of each patch of a (-1 = none) when all its pixels vote, and the votes it got;
    ties go to the smaller number."""
    patches = patch_count(size_px, patch_px)
    labels, ballot = _sheets(size_px, patch_px)
    # Warping the picture of b's patch numbers back to a looks up, in C++, the patch that each pixel
    # falls into.
    lookup = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    target = cv2.warpPerspective(
        labels,
        b_from_a,
        (size_px, size_px),
        flags=lookup,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=patches,
    )
    behind = _behind(b_from_a, size_px)
    if behind is not None:
        target[behind] = patches
    counts = np.bincount((target + ballot).ravel(), minlength=patches * (patches + 1)).reshape(
        patches, patches + 1
    )
    winner = counts.argmax(axis=1)
    return _without_outside(winner, patches), counts[np.arange(patches), winner]


def vote_all(
    b_from_a: Float64[np.ndarray, "3 3"], size_px: int, patch_px: int
) -> Int16[np.ndarray, " n"]:
    """Target patch in b of each patch of a (-1 = none), all pixels voting."""
    return count_votes(b_from_a, size_px, patch_px)[0]


@lru_cache(maxsize=8)
def _sheets(
    size_px: int, patch_px: int
) -> tuple[UInt16[np.ndarray, "size size"], Int64[np.ndarray, "size size"]]:
    """For each pixel the number of its patch, and the place where the counters of its patch
    begin."""
    side = size_px // patch_px
    band = np.arange(size_px) // patch_px
    number = band[:, None] * side + band[None, :]
    sheets = number.astype(np.uint16), number * (side * side + 1)
    for sheet in sheets:
        sheet.setflags(write=False)
    return sheets


def _behind(
    b_from_a: Float64[np.ndarray, "3 3"], size_px: int
) -> Bool[np.ndarray, "size size"] | None:
    """Pixels of a beyond the line that maps to infinity, which warpPerspective would mirror into b;
    None where there are none."""
    ends = np.array([0.0, size_px - 1.0])
    if (b_from_a[2, 0] * ends[None, :] + b_from_a[2, 1] * ends[:, None] + b_from_a[2, 2] > 0).all():
        return None
    pixel = np.arange(size_px)
    return np.asarray(
        b_from_a[2, 0] * pixel[None, :] + b_from_a[2, 1] * pixel[:, None] + b_from_a[2, 2] <= 0
    )


# ---------------------------------------------------------------------------- drawn pixels vote
# (the published rule)


def draw_pixels(
    size_px: int, patch_px: int, votes: int, rng: np.random.Generator
) -> Float32[np.ndarray, "n votes 2"]:
    """x, y of `votes` pixels of each patch, drawn with replacement."""
    area = patch_px * patch_px
    first = np.arange(0, size_px * size_px, area)
    drawn = rng.integers(0, area, size=(len(first), votes)) + first[:, None]
    return _pixels_by_patch(size_px, patch_px).take(drawn, axis=0)


def vote_drawn(
    b_from_a: Float64[np.ndarray, "3 3"],
    pixels: Float32[np.ndarray, "n votes 2"],
    size_px: int,
    patch_px: int,
) -> Int16[np.ndarray, " n"]:
    """Target patch of each patch of a (-1 = none) by the drawn pixels, coordinates truncated; first
    to reach the maximum wins."""
    side = size_px // patch_px
    patches, votes = pixels.shape[:2]
    mapped = cv2.perspectiveTransform(pixels.reshape(-1, 1, 2), b_from_a).reshape(-1, 2)
    x = mapped[:, 0]
    y = mapped[:, 1]
    inside = (x >= 0) & (y >= 0) & (x < size_px) & (y < size_px)
    with np.errstate(invalid="ignore"):  # what does not fit an integer is outside anyway
        cell = mapped.astype(np.int32) // patch_px
    target = np.where(inside, cell[:, 1] * side + cell[:, 0], patches)
    first_counter, position = _drawn_ballot(patches, votes)
    ballot = first_counter + target
    counts = np.bincount(ballot, minlength=patches * (patches + 1))
    last = np.zeros(len(counts), np.int64)
    last[ballot] = (
        position  # later assignments win: the position of the last vote for each candidate
    )
    # Of the candidates with most votes, the one whose last vote came first reached the maximum
    # first.
    counts *= votes + 1
    counts -= last
    return _without_outside(counts.reshape(patches, patches + 1).argmax(axis=1), patches)


@lru_cache(maxsize=8)
def _pixels_by_patch(size_px: int, patch_px: int) -> Float32[np.ndarray, "pixels 2"]:
    """x, y of all pixels, patch after patch, both in raster order."""
    side = size_px // patch_px
    y, x = (
        np.mgrid[0:size_px, 0:size_px]
        .reshape(2, side, patch_px, side, patch_px)
        .transpose(0, 1, 3, 2, 4)
        .reshape(2, -1)
    )
    return np.column_stack([x, y]).astype(np.float32)


@lru_cache(maxsize=8)
def _drawn_ballot(
    patches: int, votes: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """For each drawn pixel the place where the counters of its patch begin, and its position in the
    draw."""
    return np.repeat(np.arange(patches) * (patches + 1), votes), np.tile(np.arange(votes), patches)


# ---------------------------------------------------------------------------- maps from patches to
# patches


def keep_first(targets: Int16[np.ndarray, " n"]) -> Int16[np.ndarray, " n"]:
    """Each target once: the first source patch in raster order keeps it, the others get -1."""
    kept = np.full_like(targets, NONE)
    _, first = np.unique(targets, return_index=True)
    kept[first] = targets[first]
    return kept


def keep_most_voted(
    targets: Int16[np.ndarray, " n"], votes: Int64[np.ndarray, " n"]
) -> Int16[np.ndarray, " n"]:
    """Each target once: the source patch with most votes keeps it (ties: the first in raster
    order), the others get -1."""
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
