"""Checking mined pairs against poses, with depth (where does each patch go?) or without (is it on
its epipolar line?)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimic import config, sources
from mimic.geometry import covisibility
from mimic.mining import loop, shard_job

SIZE_PX, PATCH_PX = 224, 16
SIDE = SIZE_PX // PATCH_PX

BASE: dict[str, Any] = {
    "tracked_by": Path("."),
    "licence": "test",
    "sharpness_min": 0.0,
    "limit_clips": None,
}


def mined(
    source: sources.Source, clip: str, mine: config.Mine
) -> tuple[list[loop.Pair], loop.MiningStats]:
    tally = loop.MiningStats()
    pairs = list(loop.mine_clip(source, clip, shard_job.rule_of(mine), 0.0, mine.seed, tally))
    tally.check(len(pairs))
    return pairs, tally


def matched_pixels(pair: loop.Pair, size_px: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Centres of matched patches [n, 2] in both views, in pixels of images of size_px (width,
    height)."""
    number = np.arange(SIDE**2)
    centres = np.column_stack([number % SIDE, number // SIDE]) * PATCH_PX + PATCH_PX / 2
    known = np.flatnonzero(pair.comparison.correspondences >= 0)
    scale = np.array(size_px) / SIZE_PX
    return centres[known] * scale - 0.5, centres[
        pair.comparison.correspondences[known]
    ] * scale - 0.5


def close_by_depth(
    pair: loop.Pair,
    depth_a: np.ndarray,
    depth_b: np.ndarray,
    intrinsics: np.ndarray,
    pose_a: np.ndarray,
    pose_b: np.ndarray,
) -> float:
    """Share of the matched patches, among those that depth and pose say are visible in b, that lie
    within one patch of the truth."""
    height, width = depth_a.shape
    in_a, in_b = matched_pixels(pair, (width, height))
    seen = covisibility.look(in_a, depth_a, depth_b, intrinsics, intrinsics, pose_a, pose_b, 0.05)
    patches_off = np.abs(seen.points_b - in_b) / (np.array([width, height]) / SIDE)
    assert seen.visible.sum() > 20
    return float((patches_off[seen.visible].max(axis=1) <= 1).mean())


def patches_off_line(
    pair: loop.Pair,
    size_px: Sequence[int],
    intrinsics_a: np.ndarray,
    intrinsics_b: np.ndarray,
    pose_a: np.ndarray,
    pose_b: np.ndarray,
) -> np.ndarray:
    """Distance of each matched patch of b from the epipolar line of its patch in a, in patches."""
    in_a, in_b = matched_pixels(pair, size_px)
    b_from_a = np.linalg.inv(pose_b) @ pose_a
    x, y, z = b_from_a[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ b_from_a[:3, :3]
    fundamental = np.linalg.inv(intrinsics_b).T @ essential @ np.linalg.inv(intrinsics_a)
    lines = np.column_stack([in_a, np.ones(len(in_a))]) @ fundamental.T
    distance = np.abs((lines[:, :2] * in_b).sum(axis=1) + lines[:, 2]) / np.linalg.norm(
        lines[:, :2], axis=1
    )
    return distance / (np.mean(size_px) / SIDE)
