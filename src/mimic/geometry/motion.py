"""Motion of pixels between two views: where a known depth and pose put them, and how far a
prediction is off. x to the right, y down; pixel centres lie at integers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float64

BAD_PX = (0.5, 1.0, 2.0, 3.0, 5.0)
SPEEDS_PX = (0.0, 10.0, 40.0, np.inf)
# KITTI: wrong by more than both
OUTLIER_PX = 3.0
OUTLIER_SHARE = 0.05
SUMS = (
    "pixels",
    "error",
    *(f"bad{limit:g}" for limit in BAD_PX),
    "outlier",
)  # then pixels and error of each speed


def flow(
    depth_m: Float[np.ndarray, "h w"],
    intrinsics: Float[np.ndarray, "3 3"],
    b_from_a: Float[np.ndarray, "4 4"],
) -> tuple[Float64[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
    """Displacement of each pixel of a in a still scene, and where it is defined (depth known, in
    front of b; it may leave the frame)."""
    height, width = depth_m.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(intrinsics).T
    points = (rays * depth_m[..., None]) @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    valid = (depth_m > 0) & (points[..., 2] > 1e-6)
    projected = points @ intrinsics.T
    pixel_b = projected[..., :2] / np.where(valid, projected[..., 2], 1)[..., None]
    return np.where(valid[..., None], pixel_b - np.stack([x, y], axis=-1), 0.0), valid


def error_sums(
    prediction: Float[np.ndarray, "h w c"],
    truth: Float[np.ndarray, "h w c"],
    valid: Bool[np.ndarray, "h w"],
) -> Float64[np.ndarray, " n"]:
    """Of one image: SUMS, then pixels and summed error of each speed range. Flow has two channels,
    disparity one."""
    error = np.linalg.norm(prediction - truth, axis=-1)[valid].astype(np.float64)
    speed = np.linalg.norm(truth, axis=-1)[valid]
    outlier = (error > OUTLIER_PX) & (error > OUTLIER_SHARE * speed)
    sums = [len(error), error.sum(), *((error > limit).sum() for limit in BAD_PX), outlier.sum()]
    for low, high in pairwise(SPEEDS_PX):
        in_range = (speed >= low) & (speed < high)
        sums += [in_range.sum(), error[in_range].sum()]
    return np.array(sums, np.float64)


def errors(sums: Float64[np.ndarray, "images n"], outlier: str) -> dict[str, float | None]:
    """Over all valid pixels of all images: EPE_px, shares worse than BAD_PX, KITTI's outliers under
    the name given, EPE by true motion.

    Raises:
        ValueError: no valid pixel.
    """
    total = sums.sum(axis=0)
    if not total[0]:
        raise ValueError("no valid pixel")
    means = total[1 : len(SUMS)] / total[0]
    named: dict[str, float | None] = {"EPE_px": float(means[0])}
    named |= {
        f"{name.replace('.', '')}": float(mean)
        for name, mean in zip(SUMS[2:-1], means[1:-1], strict=True)
    }
    named[outlier] = float(means[-1])
    for index, (low, high) in enumerate(pairwise(SPEEDS_PX)):
        pixels, error = total[len(SUMS) + 2 * index : len(SUMS) + 2 * index + 2]
        named[f"EPE_{low:g}_{high:g}_px".replace("_inf", "_up")] = (
            float(error / pixels) if pixels else None
        )
    return named


def pooled_error(sums: Float64[np.ndarray, "images n"]) -> float | None:
    """Standard error of EPE_px over images (ratio estimator); None for a single image."""
    sums = sums[sums[:, 0] > 0]
    if len(sums) < 2:
        return None
    residual = (sums[:, 1] - sums[:, 1].sum() / sums[:, 0].sum() * sums[:, 0]) / sums[:, 0].mean()
    return float(residual.std(ddof=1) / np.sqrt(len(sums)))
