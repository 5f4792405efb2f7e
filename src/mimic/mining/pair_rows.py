"""Kept pairs as rows of a shard (`shards.PAIR`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from mimic.mining.loop import Pair


def of_pair(pair: Pair) -> dict[str, Any]:
    """What mining found of a pair."""
    comparison = pair.comparison
    return {
        "frame_a": pair.a.key,
        "frame_b": pair.b.key,
        "pose_a": _flat(pair.a.pose),
        "pose_b": _flat(pair.b.pose),
        "overlap": comparison.overlap,
        "overlap_a_to_b": comparison.overlap_a_to_b,
        "overlap_b_to_a": comparison.overlap_b_to_a,
        "b_from_a": _flat(comparison.b_from_a),
        "matches": comparison.matches,
        "inliers": comparison.inliers,
        "correspondences": comparison.correspondences.tolist(),
    }


def _flat(matrix: np.ndarray | None) -> list[float] | None:
    return None if matrix is None else matrix.astype(np.float64).ravel().tolist()
