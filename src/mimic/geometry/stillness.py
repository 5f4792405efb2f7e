"""Matches that do not move between two views: a caption, a logo, a border or a dashboard that moves
with the camera, or else a scene that stands still.

Such matches agree on a homography of their own, or pin that of the scene to the line on which they
lie. Places are told apart by patch: a caption has many key points in few patches.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64

from mimic.geometry.features import Features

LEAST = 4  # fewer points hold no homography


def still(
    points_a: Float[np.ndarray, "m 2"], points_b: Float[np.ndarray, "m 2"], still_px: float
) -> Bool[np.ndarray, " m"]:
    """Which matches stand still and are not merely the slowest of a motion; all False where there
    are none.

    Where a motion comes to rest, as ahead of a camera that goes straight on, speeds rise steadily
    from
    zero: at least as many matches move by one to two `still_px` as by less. What is burned in has
    none.
    """
    moved_px = np.asarray(np.linalg.norm(points_b.astype(np.float64) - points_a, axis=1))
    is_still = moved_px < still_px
    slow = ~is_still & (moved_px < 2 * still_px)
    if int(is_still.sum()) < max(LEAST, int(slow.sum()) + 1):
        return np.zeros(len(moved_px), bool)
    return is_still


def spread(
    a: Features,
    b: Features,
    points_a: Float[np.ndarray, "m 2"],
    points_b: Float[np.ndarray, "m 2"],
    side: int,
    patch_px: int,
) -> float:
    """Of the patches of both views that have key points, the share in or beside which a point of a
    match lies.

    Near 1 for the matches of the whole scene, whatever the noise; less for those of a part of it,
    however many they are. The patches of both views count, so swapping the views changes nothing.
    """
    shown = reached = 0
    for seen, points in ((a, points_a), (b, points_b)):
        textured = _held(seen.points, side, patch_px)
        shown += int(textured.sum())
        reached += int((textured & _grown(_held(points, side, patch_px))).sum())
    return float(reached / shown)


def middle(
    points_a: Float[np.ndarray, "m 2"], points_b: Float[np.ndarray, "m 2"]
) -> Float64[np.ndarray, "m 2"]:
    """Where matches lie that hardly move: the same for swapped views."""
    return (points_a.astype(np.float64) + points_b) / 2


def _held(
    points: Float[np.ndarray, "m 2"], side: int, patch_px: int
) -> Bool[np.ndarray, "side side"]:
    """The patches in which points lie; the rim takes those that lie just outside."""
    column, row = np.clip(points // patch_px, 0, side - 1).astype(int).T
    held = np.zeros((side, side), bool)
    held[row, column] = True
    return held


def _grown(held: Bool[np.ndarray, "side side"]) -> Bool[np.ndarray, "side side"]:
    """With the eight neighbours of each patch."""
    padded = np.pad(held, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])
