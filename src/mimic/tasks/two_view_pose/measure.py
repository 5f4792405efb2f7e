"""Relative pose of two views from patches of a frozen encoder: matched, an essential matrix, an
angle.

Patches of view a and b that are each other's nearest (cosine) are matches. From them and the known
intrinsics, OpenCV estimates an essential matrix (five points, confidence 0.99999), of whose four
poses the one is taken that has the most matches before both cameras (SuperGlue, Sarlin et al.,
2020, and LoFTR, Sun et al., 2021, measure so). The error of a pair is the larger of two angles:
that of the rotation between estimate and truth, and that between the directions of translation,
which an essential matrix tells up to its sign, so that it is at most 90 degrees. A pair without an
estimate has an infinite error. The AUC at a threshold is the area below the cumulative curve of
errors up to there, over the threshold.

No published protocol fixes size, threshold and refinement for bare patches: values compare between
encoders measured alike, not with matchers in papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimic.errors import BadInput
from mimic.geometry.covisibility import resize_intrinsics
from mimic.geometry.relative import rotation_error_deg
from mimic.infra.progress import counted
from mimic.infra.storage import Workspace
from mimic.models.encoder import normalise
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.image_io import read_photo
from mimic.tasks.two_view_pose.config import PosedPair, TwoViewPoseTask, read_pairs

THRESHOLDS_DEG = (5, 10, 20)
ROTATIONS_DEG = (0, 15, 30, 60, 180)  # edges of the bins by true rotation, as Probe3D's
FEWEST = 5  # matches of an estimate
CONFIDENCE = 0.99999
FAR = 1e9  # baselines: no match is too far away to count
RIGHT = (40, 190, 70)
WRONG = (220, 50, 40)
DRAWN = 40  # matches in a picture


@dataclass(frozen=True, eq=False)
class Shown:
    """An image as the encoder sees it: uint8[h, w, 3], its K, and its patches, of unit length
    [rows, columns, c]."""

    image: np.ndarray
    intrinsics: np.ndarray
    patches: Tensor


@dataclass(frozen=True, eq=False)
class Found:
    """Of one pair: matched pixels float64[n, 2] of both views, which of them are within `ransac_px`
    of their true epipolar line, and the error."""

    points_a: np.ndarray
    points_b: np.ndarray
    right: np.ndarray
    error_deg: float


def run(task: TwoViewPoseTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Measure an encoder on every pair of the list.

    Raises:
        BadInput: the list or an image is missing or wrong, or the encoder has no such block.
    """
    depth = subject.encoder.depth
    block = depth - 1 if task.block is None else task.block
    if not -depth <= block < depth:
        raise BadInput(
            f"two-view-pose: block {block} of an encoder of {depth} blocks (counted from 0)"
        )
    root = Workspace(folders.root)
    pairs = read_pairs(root.resolve(task.pairs))
    folder = root.resolve(task.data)
    estimates: list[Found] = []
    pictures: list[Figure] = []
    for pair in counted(pairs, "match patches", len(pairs), "pairs"):
        a, b = (
            _shown(task, subject, folder / name, matrix, block % depth)
            for name, matrix in zip(pair.names, pair.intrinsics, strict=True)
        )
        estimates.append(measure(task, a, b, pair.b_from_a, subject.encoder.patch_px))
        if len(pictures) < task.samples:
            pictures.append(_picture(a, b, estimates[-1], len(pictures)))
    places = "places between patches" if task.refine else "patch centres"
    return Result(
        name="AUC@20",
        headline="auc_20",
        higher_is_better=True,
        metrics=_metrics(estimates, pairs) | {"block": block % depth},
        protocol=(
            f"{len(pairs)} pairs of {task.pairs.name}, longer side {task.size_px} px, patches that "
            f"are each other's nearest, {places}, OpenCV's RANSAC at "
            f"{task.ransac_px:g} px, the larger of rotation and direction error"
        ),
        selection=f"block {block % depth}, fixed beforehand",
        test_size=len(pairs),
        pictures=pictures,
        items=_shares_of_area(estimates),
    )


def measure(
    task: TwoViewPoseTask, a: Shown, b: Shown, b_from_a: np.ndarray, patch_px: int
) -> Found:
    """Matches of two views and the error of the pose that they make."""
    points_a, points_b = matched(a.patches, b.patches, patch_px, refine=task.refine)
    matrices = (a.intrinsics, b.intrinsics)
    pose = estimate(points_a, points_b, *matrices, task.ransac_px)
    off_px = off_line_px(points_a, points_b, *matrices, b_from_a)
    error_deg = np.inf if pose is None else pose_error_deg(pose, b_from_a)
    return Found(points_a, points_b, off_px <= task.ransac_px, error_deg)


def _shown(
    task: TwoViewPoseTask, subject: EvalModel, path: Path, intrinsics: np.ndarray, block: int
) -> Shown:
    """Longer side `size_px`, both sides rounded to whole patches."""
    patch_px = subject.encoder.patch_px
    stored = read_photo(path)
    scale = task.size_px / max(stored.shape[:2])
    height, width = (max(1, round(side * scale / patch_px)) * patch_px for side in stored.shape[:2])
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(stored, (width, height), interpolation=kind)
    matrix = resize_intrinsics(intrinsics, width / stored.shape[1], height / stored.shape[0])
    with torch.inference_mode():
        views = normalise(torch.from_numpy(image)[None].to(subject.device))
        patches = subject.encoder.intermediates(views, [block])[0][0].float().cpu()
    return Shown(image, matrix, F.normalize(patches.permute(1, 2, 0), dim=-1))


# ---------------------------------------------------------------------------- arrays to arrays


def matched(a: Tensor, b: Tensor, patch_px: int, *, refine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels x, y float64[n, 2] in both views of patches that are each other's nearest.

    Args:
        a, b: unit features [rows, columns, c]; the grids may differ.
        refine: move each place to the top of the parabolas through the similarities of its left and
            right, upper and lower neighbours: half a patch at most.
    """
    likeness = a.flatten(0, 1) @ b.flatten(0, 1).T
    b_of_a = likeness.argmax(dim=1).numpy()
    a_of_b = likeness.argmax(dim=0).numpy()
    in_a = np.flatnonzero(a_of_b[b_of_a] == np.arange(len(b_of_a)))
    in_b = b_of_a[in_a]
    values = likeness.numpy().astype(np.float64)
    points = []
    for grid, places, maps in ((a.shape, in_a, values[:, in_b].T), (b.shape, in_b, values[in_a])):
        row, column = np.divmod(places, grid[1])
        at = np.column_stack([column, row]).astype(np.float64)
        if refine:
            at += tops(maps.reshape(-1, *grid[:2]), row, column)
        points.append((at + 0.5) * patch_px - 0.5)
    return points[0], points[1]


def tops(maps: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Offsets x, y float64[n, 2] within half a cell from a cell of each map [n, rows, columns] to
    the top of the parabolas through it and its neighbours; 0 along an axis where it lies at the
    border or is no peak."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    each = np.arange(len(maps))
    off = np.zeros((len(maps), 2))
    middle = padded[each, row + 1, column + 1]
    for axis, (down, right) in enumerate(((0, 1), (1, 0))):
        before = padded[each, row + 1 - down, column + 1 - right]
        after = padded[each, row + 1 + down, column + 1 + right]
        bend = before - 2 * middle + after
        peak = bend < -1e-12  # false at the border, where a neighbour is nan
        off[peak, axis] = ((before - after) / 2)[peak] / bend[peak]
    return np.clip(off, -0.5, 0.5)


def estimate(
    points_a: np.ndarray,
    points_b: np.ndarray,
    intrinsics_a: np.ndarray,
    intrinsics_b: np.ndarray,
    ransac_px: float,
) -> np.ndarray | None:
    """b_from_a float64[4, 4], translation of unit length; None where there is no estimate.

    Args:
        ransac_px: distance from an epipolar line, in pixels of cameras of the mean focal length.
    """
    if len(points_a) < FEWEST:
        return None
    rays_a, rays_b = (
        (points - matrix[:2, 2]) / np.diag(matrix)[:2]
        for points, matrix in ((points_a, intrinsics_a), (points_b, intrinsics_b))
    )
    focal_px = np.mean([np.diag(matrix)[:2] for matrix in (intrinsics_a, intrinsics_b)])
    matrices, inliers = cv2.findEssentialMat(
        rays_a,
        rays_b,
        np.eye(3),
        method=cv2.RANSAC,
        prob=CONFIDENCE,
        threshold=float(ransac_px / focal_px),
    )
    best = None
    most = 0
    for essential in () if matrices is None else np.split(matrices, len(matrices) // 3):
        count, rotation, translation, *_ = cv2.recoverPose(
            essential, rays_a, rays_b, np.eye(3), FAR, mask=inliers.copy()
        )
        if count > most:
            best = np.eye(4)
            most = count
            best[:3, :3] = rotation
            best[:3, 3] = np.ravel(translation)
    return best


def pose_error_deg(estimated: np.ndarray, truth: np.ndarray) -> float:
    """The larger of the angle of rotation and that between the lines of translation; without a true
    translation, the former."""
    turned = rotation_error_deg(estimated[:3, :3], truth[:3, :3])
    lengths = np.linalg.norm(estimated[:3, 3]) * np.linalg.norm(truth[:3, 3])
    if lengths == 0:
        return turned
    cosine = np.abs(estimated[:3, 3] @ truth[:3, 3]) / lengths  # the sign is not told
    return max(turned, float(np.degrees(np.arccos(np.clip(cosine, 0, 1)))))


def off_line_px(
    points_a: np.ndarray,
    points_b: np.ndarray,
    intrinsics_a: np.ndarray,
    intrinsics_b: np.ndarray,
    b_from_a: np.ndarray,
) -> np.ndarray:
    """Distance in pixels of each point of b from the true epipolar line of its point of a."""
    x, y, z = b_from_a[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ b_from_a[:3, :3]
    fundamental = np.linalg.inv(intrinsics_b).T @ essential @ np.linalg.inv(intrinsics_a)
    lines = np.column_stack([points_a, np.ones(len(points_a))]) @ fundamental.T
    length = np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)
    return np.abs((lines[:, :2] * points_b).sum(axis=1) + lines[:, 2]) / length


def pose_auc(errors_deg: np.ndarray, threshold_deg: float) -> float:
    """Area below the share of pairs over their error, from 0 to the threshold, over the threshold.

    The curve rises in straight lines from (0, 0) to (i-th error, i / n) and is flat behind the last
    error below the threshold (SuperGlue, LoFTR, glue-factory). Infinite errors count in n.
    """
    ordered = np.sort(errors_deg)
    below = ordered[ordered < threshold_deg]
    shares = np.arange(len(below) + 1) / len(ordered)
    errors = np.concatenate([[0.0], below, [threshold_deg]])
    curve = np.concatenate([shares, shares[-1:]])
    return float(np.trapezoid(curve, errors) / threshold_deg)


# ---------------------------------------------------------------------------- what is said of it


def _metrics(estimates: list[Found], pairs: list[PosedPair]) -> dict[str, Any]:
    errors = np.array([one.error_deg for one in estimates])
    turned = np.array([pair.rotation_deg for pair in pairs])
    bins = {}
    for low, high in pairwise(ROTATIONS_DEG):
        chosen = (turned >= low) & ((turned < high) | (high == ROTATIONS_DEG[-1]))
        if chosen.any():
            bins[f"{low}-{high}"] = _areas(errors[chosen]) | {"pairs": int(chosen.sum())}
    above = _shares_of_area(estimates)
    median = float(np.median(errors))
    right = np.concatenate([one.right for one in estimates])
    return {
        **_areas(errors),
        "standard_error": float(np.std(above, ddof=1) / np.sqrt(len(above)))
        if len(above) > 1
        else None,
        "median_error_deg": median if np.isfinite(median) else None,
        "failed": int(np.isinf(errors).sum()),
        "matches": len(right) / len(estimates),
        "precision": float(right.mean()) if len(right) else None,
        "by_rotation_deg": bins,
    }


def _shares_of_area(estimates: list[Found]) -> np.ndarray:
    """Each pair's share of the area, all but."""
    return np.maximum(0, 1 - np.array([one.error_deg for one in estimates]) / THRESHOLDS_DEG[-1])


def _areas(errors: np.ndarray) -> dict[str, float]:
    return {f"auc_{threshold}": pose_auc(errors, threshold) for threshold in THRESHOLDS_DEG}


def _picture(a: Shown, b: Shown, estimated: Found, index: int) -> Figure:
    """Both views side by side; some matches joined, green where they fit the true motion."""
    height = max(len(a.image), len(b.image))
    views = [np.pad(view.image, ((0, height - len(view.image)), (0, 0), (0, 0))) for view in (a, b)]
    canvas = np.concatenate(views, axis=1)
    chosen = np.linspace(0, len(estimated.right) - 1, min(DRAWN, len(estimated.right))).astype(int)
    for match in sorted(chosen, key=lambda match: estimated.right[match]):  # the right ones on top
        start = estimated.points_a[match]
        end = estimated.points_b[match] + [a.image.shape[1], 0]
        first, last = (point.round().astype(int).tolist() for point in (start, end))
        colour = RIGHT if estimated.right[match] else WRONG
        cv2.line(canvas, first, last, colour, 1, cv2.LINE_AA)
    error = (
        f"{estimated.error_deg:.1f} degrees off"
        if np.isfinite(estimated.error_deg)
        else "no estimate"
    )
    caption = (
        f"{len(estimated.right)} matches, {estimated.right.sum()} on their true epipolar line "
        f"(green); {error}"
    )
    return Figure(f"pair-{index:02d}", canvas, caption)
