"""What each test item contributes to a task's value, so that two encoders can be compared item by
item.

The contributions of a mean are its terms. A value that is pooled over items has no terms of its
own: its contributions are those of the ratio estimator (Cochran, Sampling Techniques, 1977, chapter
6) or of the jackknife (Tukey 1958), whose mean is the value, or nearly, and whose spread is what
another choice of items would change.

NaN stands for an item without anything to score.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64, Real

from mimic.tasks.metrics.iou import class_iou, mean_over_classes


def item_shares(
    parts: Real[np.ndarray, " items"], totals: Real[np.ndarray, " items"], *, pooled: bool
) -> Float64[np.ndarray, " items"]:
    """Contributions to the mean of parts / wholes, or to sum(parts) / sum(wholes)."""
    scored = np.asarray(totals) > 0
    part = np.asarray(parts, np.float64)[scored]
    total = np.asarray(totals, np.float64)[scored]
    shares = np.full(len(scored), np.nan)
    if not scored.any():
        return shares
    if pooled:
        ratio = part.sum() / total.sum()
        shares[scored] = ratio + (part - ratio * total) / total.mean()
    else:
        shares[scored] = part / total
    return shares


def standard_error(shares: Float64[np.ndarray, " items"]) -> float | None:
    """Of the number that the shares add up to, over its items; None where fewer than two count."""
    counted = shares[~np.isnan(shares)]
    return float(counted.std(ddof=1) / np.sqrt(len(counted))) if len(counted) > 1 else None


def item_ious(
    counts: Int64[np.ndarray, "images 3 classes"], *, pooled: bool
) -> Float64[np.ndarray, " images"]:
    """Contributions to the mean IoU: of each image by itself, or to that of all pixels together."""
    if not pooled:
        return mean_over_classes(class_iou(counts))
    ious = np.full(len(counts), np.nan)
    scored = counts.any(axis=(1, 2))  # an image without a labelled pixel says nothing
    n = int(scored.sum())
    if n:
        pooled_counts = counts.sum(axis=0)
        mean_iou = mean_over_classes(class_iou(pooled_counts))
        without = [mean_over_classes(class_iou(pooled_counts - one)) for one in counts[scored]]
        ious[scored] = n * mean_iou - (n - 1) * np.array(without)
    return ious


def item_hits(right: Bool[np.ndarray, " items"]) -> Float64[np.ndarray, " items"]:
    """Contributions to an accuracy."""
    return np.asarray(right, np.float64)
