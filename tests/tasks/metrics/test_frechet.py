"""Frechet and kernel distances against their definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.linalg import eigvals

from mimic.errors import BadInput
from mimic.tasks.metrics.frechet import frechet_distance, kernel_distance


def _sets(n: int, m: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, width)), rng.normal(0.4, 1.5, size=(m, width)) @ rng.normal(
        size=(width, width)
    ) / np.sqrt(width)


@pytest.mark.parametrize(("n", "m", "width"), [(300, 200, 12), (40, 30, 64)])
def test_nuclear_norm_equals_eigenvalues(n: int, m: int, width: int) -> None:
    first, second = _sets(n, m, width)
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    roots = np.sqrt(np.clip(eigvals(covariances[0] @ covariances[1]).real, 0, None)).sum()
    expected = (
        np.sum((first.mean(0) - second.mean(0)) ** 2)
        + np.trace(covariances[0])
        + np.trace(covariances[1])
        - 2 * roots
    )
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_a_set_has_no_distance_to_itself_and_a_shift_counts_squared() -> None:
    first, _ = _sets(50, 2, 80)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, first + 0.5) == pytest.approx(80 * 0.25)


def test_kernel_distance_equals_the_sums_over_pairs() -> None:
    first, second = _sets(9, 7, 5)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 5 + 1) ** 3)

    within = [
        np.mean([kernel(x, y) for i, x in enumerate(part) for j, y in enumerate(part) if i != j])
        for part in (first, second)
    ]
    across = np.mean([kernel(x, y) for x in first for y in second])
    assert kernel_distance(first, second) == pytest.approx(sum(within) - 2 * across, rel=1e-9)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_unusable_features_are_refused(measure: Callable[..., Any]) -> None:
    first, second = _sets(5, 5, 4)
    with pytest.raises(BadInput, match="one width"):
        measure(first, second[:, :3])
    with pytest.raises(BadInput, match="at least two"):
        measure(first, second[:1])
    second[0, 0] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        measure(first, second)
