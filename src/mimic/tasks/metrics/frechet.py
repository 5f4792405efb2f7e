"""Distances between two sets of features (MIMIC, table 3). Named FID and KID only on the real
Inception features."""

from __future__ import annotations

import numpy as np

from mimic.errors import BadInput


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Frechet distance between the Gaussians fitted to two sets of features, with unbiased
    covariances (Heusel et al. 2017, eq. 6).

    tr((S1 S2)^1/2) is the nuclear norm of A B^T, where A and B are the centred features over sqrt(n
    - 1): one n x m decomposition, exact where the covariances have no full rank (500 images, 2048
      features).

    Args:
        first: [n, d].
        second: [m, d].

    Raises:
        BadInput: fewer than two features, different widths, or numbers that are not finite.
    """
    first, second = _checked(first, second)
    a, b = ((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (first, second))
    means = np.sum((first.mean(0) - second.mean(0)) ** 2)
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(means + np.sum(a**2) + np.sum(b**2) - 2 * root)


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy under (x.y / d + 1)^3 of whole sets (Binkowski et
    al. 2018, section 4); may be negative.

    Args and errors as of `frechet_distance`.
    """
    first, second = _checked(first, second)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    def others(x: np.ndarray) -> float:
        similarities = kernel(x, x)
        return float((similarities.sum() - np.trace(similarities)) / (len(x) * (len(x) - 1)))

    return others(first) + others(second) - 2 * float(kernel(first, second).mean())


def _checked(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if (
        first.ndim != 2
        or second.ndim != 2
        or first.shape[1] != second.shape[1]
        or min(len(first), len(second)) < 2
    ):
        raise BadInput(
            "distance of features: two sets [n, d] of at least two and one width are needed, "
            f"these are {first.shape} and {second.shape}"
        )
    first = first.astype(np.float64)
    second = second.astype(np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise BadInput(
            "distance of features: some are not finite; was the encoder or the image damaged?"
        )
    return first, second
