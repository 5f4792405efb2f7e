"""Depth errors as sums per image, from which every average follows: pooled in batches (the peers'),
per image, over all pixels.

Fractions, not percent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from mimic.errors import BadInput

DEPTH_METRICS = ("delta1", "delta2", "delta3", "rmse", "rel", "squared_rel", "log_rmse")
ROOTS = frozenset({"rmse", "log_rmse"})  # means of squares until the very end
LOG_FLOOR = 1e-3  # metres, added before logarithms of the loss
SMALLEST = 1e-6  # predictions and truths below it count as this in ratios and logarithms


def depth_sums(
    prediction: Float[Tensor, "images height width"],
    truth: Float[Tensor, "images height width"],
    valid: Bool[Tensor, "images height width"],
) -> Float64[np.ndarray, "images 8"]:
    """Per image: the number of valid pixels, then the sum over them of each of DEPTH_METRICS
    (squares where a root follows).

    delta_k counts max(p / max(t, 1e-6), t / max(p, 1e-6)) < 1.25**k; rel is |p - t| / t; log_rmse
    uses natural logarithms.
    """
    p = prediction.double()
    t = truth.double()
    above_p = p.clamp(min=SMALLEST)
    above_t = t.clamp(min=SMALLEST)
    ratio = torch.maximum(p / above_t, t / above_p)
    error = p - t
    terms = [
        *(ratio < 1.25**k for k in (1, 2, 3)),
        error**2,
        error.abs() / above_t,
        error**2 / above_t,
        (above_p.log() - above_t.log()) ** 2,
    ]
    sums = [valid, *(torch.where(valid, term.double(), 0.0) for term in terms)]
    return torch.stack([part.double().sum(dim=(1, 2)) for part in sums], dim=1).cpu().numpy()


def average(
    sums: Float64[np.ndarray, "images 8"], pools: Sequence[Int64[np.ndarray, " _"]]
) -> dict[str, float]:
    """Metrics of pools of images: pixels are pooled inside a pool, pools count equally, pools
    without a valid pixel are left out.

    Raises:
        BadInput: no pool has a valid pixel.
    """
    pooled = np.stack([sums[pool].sum(axis=0) for pool in pools])
    pooled = pooled[pooled[:, 0] > 0]
    if not len(pooled):
        raise BadInput("no scored image has a valid pixel; run mimic prepare on this task")
    means = pooled[:, 1:] / pooled[:, :1]
    roots = np.array([name in ROOTS for name in DEPTH_METRICS])
    means[:, roots] = np.sqrt(means[:, roots])
    return dict(zip(DEPTH_METRICS, means.mean(axis=0).tolist(), strict=True))


def delta1_error(sums: Float64[np.ndarray, "images 8"], pooled: bool) -> float | None:
    """Standard error of delta1 over images: of the mean of shares, or of the pooled share (ratio
    estimator); None for a single image.

    Pixels of one image are far from independent, images nearly are; pools of images count as one
    pool.
    """
    sums = sums[sums[:, 0] > 0]
    if len(sums) < 2:
        return None
    pixels = sums[:, 0]
    hits = sums[:, 1 + DEPTH_METRICS.index("delta1")]
    values = (
        (hits - hits.sum() / pixels.sum() * pixels) / pixels.mean() if pooled else hits / pixels
    )
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def pooled_mean(
    sums: Float64[np.ndarray, "images 2"], pools: Sequence[Int64[np.ndarray, " _"]]
) -> float:
    """Of counts and sums per image: pixels are pooled inside a pool, pools count equally, empty
    ones are left out.

    Raises:
        BadInput: no pool has a pixel.
    """
    pooled = np.stack([sums[pool].sum(axis=0) for pool in pools])
    pooled = pooled[pooled[:, 0] > 0]
    if not len(pooled):
        raise BadInput("no scored image has a valid pixel; run mimic prepare on this task")
    return float((pooled[:, 1] / pooled[:, 0]).mean())


def by_image(length: int) -> list[Int64[np.ndarray, " _"]]:
    """Pools of one image each: the per-image average."""
    return list(np.arange(length).reshape(-1, 1))


def by_everything(length: int) -> list[Int64[np.ndarray, " _"]]:
    """One pool: the average over all pixels."""
    return [np.arange(length)]


def by_batch(length: int, batch: int, ranks: int) -> list[Int64[np.ndarray, " _"]]:
    """The peers' pools: rank r reads items r, r + ranks, ... in batches; the last may be short
    (654, 96, 2: twice 96, 96, 96, 39)."""
    shares = (np.arange(rank, length, ranks) for rank in range(ranks))
    return [
        share[start : start + batch] for share in shares for start in range(0, len(share), batch)
    ]


def berhu(
    prediction: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    valid: Bool[Tensor, "*shape"],
) -> Float[Tensor, ""]:
    """Reversed Huber loss over the valid pixels of a batch: |e| below c, (e^2 + c^2) / 2c above, c
    a fifth of the largest error.

    Homogeneous of degree 1: scaling both arguments scales the loss. A batch without valid pixel
    costs 0.
    """
    error = torch.where(valid, (prediction - target).abs(), 0.0)
    c = (0.2 * error.detach().max()).clamp(min=1e-5)
    cost = torch.where(error < c, error, (error**2 + c**2) / (2 * c))
    return torch.where(valid, cost, 0.0).sum() / valid.sum().clamp(min=1)


def log_loss(
    prediction: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    valid: Bool[Tensor, "*shape"],
) -> Float[Tensor, ""]:
    """Scale-invariant error of logarithms over the valid pixels of a batch: sqrt(var(g) + 0.15
    mean(g)^2), g = log p - log t (SigLoss).

    Eigen et al. 2014, eq. 4, as AdaBins weighs it. Fewer than two valid pixels cost 0.
    """
    if valid.sum() < 2:
        return prediction.sum() * 0
    g = (prediction[valid] + LOG_FLOOR).log() - (target[valid] + LOG_FLOOR).log()
    return (g.var() + 0.15 * g.mean() ** 2).sqrt()
