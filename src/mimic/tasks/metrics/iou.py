"""Semantic segmentation measured: intersections and unions of classes, as pure functions of arrays.

Counts are kept per image, from which every average follows. Fractions, not percent.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from numpy.typing import ArrayLike

METRICS = ("mIoU", "pixel_accuracy", "mean_accuracy", "fw_IoU")


def class_counts(
    prediction: UInt8[np.ndarray, "height width"],
    truth: UInt8[np.ndarray, "height width"],
    scored: Bool[np.ndarray, "height width"],
    classes: int,
) -> Int64[np.ndarray, "3 classes"]:
    """Per class the scored pixels where it is predicted and true, predicted, and true."""
    predicted = prediction[scored]
    true = truth[scored]
    parts = (true[predicted == true], predicted, true)
    return np.stack([np.bincount(part, minlength=classes) for part in parts]).astype(np.int64)


def class_iou(counts: Int64[np.ndarray, "... 3 classes"]) -> Float64[np.ndarray, "... classes"]:
    """Intersection over union of each class; NaN for a class that is neither predicted nor true."""
    both, predicted, true = np.moveaxis(counts, -2, 0)
    return _ratio(both, predicted + true - both)


def scores(counts: Int64[np.ndarray, "... 3 classes"]) -> Float64[np.ndarray, "... 4"]:
    """METRICS: means over the classes that are there (IoU: predicted or true; accuracy: true),
    share of pixels, IoU weighted by pixels."""
    both, _, true = np.moveaxis(counts, -2, 0)
    iou = class_iou(counts)
    pixels = true.sum(axis=-1)
    weighted = _ratio(np.nansum(np.nan_to_num(iou) * true, axis=-1), pixels)
    return np.stack(
        [
            mean_over_classes(iou),
            _ratio(both.sum(axis=-1), pixels),
            mean_over_classes(_ratio(both, true)),
            weighted,
        ],
        axis=-1,
    )


def averages(counts: Int64[np.ndarray, "images 3 classes"]) -> dict[str, dict[str, float]]:
    """global: pixels of all images counted together; image: mean over images of what each scores by
    itself."""
    each = scores(counts)
    each = each[~np.isnan(each).all(axis=-1)]  # without a labelled pixel
    return {
        "global": dict(zip(METRICS, scores(counts.sum(axis=0)).tolist(), strict=True)),
        "image": dict(zip(METRICS, each.mean(axis=0).tolist(), strict=True)),
    }


def miou_error(counts: Int64[np.ndarray, "images 3 classes"], pooled: bool) -> float | None:
    """Standard error of mIoU over the images with a labelled pixel: the jackknife's when pixels are
    pooled; None for a single image."""
    counts = counts[counts[:, 2].any(axis=-1)]
    n = len(counts)
    if n < 2:
        return None
    if not pooled:
        return float(np.std(mean_over_classes(class_iou(counts)), ddof=1) / np.sqrt(n))
    total = counts.sum(axis=0)
    without = np.array([mean_over_classes(class_iou(total - one)) for one in counts])
    return float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))


def _ratio(part: ArrayLike, total: ArrayLike) -> np.ndarray:
    return np.divide(part, total, out=np.full(np.shape(total), np.nan), where=np.asarray(total) > 0)


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Over the last axis, without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
