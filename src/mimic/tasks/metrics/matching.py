"""Matches of patches between two views. Distances are in patches; fractions, not percent."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int16, Int64
from torch import Tensor

from mimic.errors import BadInput


def nearest(
    a: Float[Tensor, "patches_a channels"], b: Float[Tensor, "patches_b channels"]
) -> Int64[np.ndarray, " patches_a"]:
    """For each descriptor of a the most similar one of b by cosine; ties go to the smaller
    number."""
    similarity = (
        torch.nn.functional.normalize(a.double(), dim=1)
        @ torch.nn.functional.normalize(b.double(), dim=1).T
    )
    return similarity.cpu().numpy().argmax(axis=1)


def offsets(
    predicted: Int64[np.ndarray, " n"], truth: Int16[np.ndarray, " n"], side: int
) -> Int64[np.ndarray, "m 2"]:
    """Rows and columns between the found patch and the true one, for the patches that have a true
    one (truth -1 = none)."""
    matched = truth >= 0
    predicted = predicted[matched]
    truth_index = truth[matched].astype(np.int64)
    return np.stack(
        [predicted // side - truth_index // side, predicted % side - truth_index % side], axis=1
    )


def recall(offset: Int64[np.ndarray, "m 2"]) -> dict[str, float]:
    """exact: share of patches found; within1: at most one patch off in each direction (Chebyshev);
    median_error: Euclidean, patches.

    Raises:
        BadInput: there is no match to score.
    """
    if not len(offset):
        raise BadInput("no patch has a true match: nothing to measure")
    chebyshev = np.abs(offset).max(axis=1)
    return {
        "exact": float((chebyshev == 0).mean()),
        "within1": float((chebyshev <= 1).mean()),
        "median_error": float(np.median(np.hypot(offset[:, 0], offset[:, 1]))),
    }


def chance(truth: Int16[np.ndarray, " n"], side: int) -> dict[str, float]:
    """What a guess drawn uniformly over the patches scores on these true matches, exactly: every
    guess is scored once.

    Guesses are counted by how many rows and columns they are off, not listed: there are as many as
    true matches times patches.

    Raises:
        BadInput: there is no match to score.
    """
    true = truth[truth >= 0].astype(np.int64)
    if not len(true):
        raise BadInput("no patch has a true match: nothing to measure")
    places = np.bincount(true, minlength=side * side).reshape(side, side)
    steps = np.abs(np.arange(side)[:, None] - np.arange(side))  # from each row to each row
    off = np.stack([np.bincount(row, minlength=side) for row in steps])  # [row, rows off]
    guesses = off.T @ places @ off  # [rows off, columns off]
    total = guesses.sum()
    distances = np.hypot(*np.meshgrid(np.arange(side), np.arange(side))).ravel()
    order = np.argsort(distances, kind="stable")
    below = np.cumsum(guesses.ravel()[order])
    middle = np.searchsorted(below, [(total - 1) // 2, total // 2], side="right")
    return {
        "exact": float(guesses[0, 0] / total),
        "within1": float(guesses[:2, :2].sum() / total),
        "median_error": float(distances[order[middle]].mean()),
    }
