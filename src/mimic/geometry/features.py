"""SIFT features of one image, and exact brute-force matching between two.

OpenCV's SIFT descriptors are integers 0..255 stored as float32, so a float32 matrix product of two
of them is exact (everything stays below 2**24): squared distances come out as the integers
BFMatcher finds, at the speed of one GEMM.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

DESCRIPTOR_LENGTH = 128
_of_this_thread = threading.local()


@dataclass(frozen=True, eq=False)
class Features:
    """Key points of one image, computed once and compared many times.

    points: x, y in pixels of the image given (pixel centres at integers); descriptors: integers
    0..255; norms: squared lengths.
    """

    points: Float32[np.ndarray, "n 2"]
    descriptors: Float32[np.ndarray, "n 128"]
    norms: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def left(self) -> Float32[np.ndarray, "n 130"]:
        """Rows of the first factor of squared distances: d, |d|^2, 1."""
        rows = np.empty((len(self), DESCRIPTOR_LENGTH + 2), np.float32)
        rows[:, :-2] = self.descriptors
        rows[:, -2] = self.norms
        rows[:, -1] = 1
        return rows

    @cached_property
    def right(self) -> Float32[np.ndarray, "n 130"]:
        """Rows of the second factor: -2d, 1, |d|^2."""
        rows = np.empty((len(self), DESCRIPTOR_LENGTH + 2), np.float32)
        rows[:, -2] = 1
        rows[:, -1] = self.norms
        np.multiply(self.descriptors, -2, out=rows[:, :-2])
        return rows


def extract(image: UInt8[np.ndarray, "height width 3"]) -> Features:
    """SIFT with OpenCV's defaults on the grey version of an RGB image; an image without texture
    gives no points."""
    keypoints, descriptors = _sift().detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    if descriptors is None or not len(keypoints):
        return from_arrays(
            np.empty((0, 2), np.float32), np.empty((0, DESCRIPTOR_LENGTH), np.float32)
        )
    return from_arrays(np.array(cv2.KeyPoint.convert(keypoints), np.float32), descriptors)


def from_arrays(
    points: Float32[np.ndarray, "n 2"], descriptors: Float32[np.ndarray, "n 128"]
) -> Features:
    """Features from stored points and integer descriptors."""
    descriptors = np.ascontiguousarray(descriptors, np.float32)
    return Features(
        np.ascontiguousarray(points, np.float32),
        descriptors,
        np.einsum("ij,ij->i", descriptors, descriptors),
    )


def match(
    a: Features, b: Features, ratio: float
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Indices into a and b of the matches that pass Lowe's ratio test, one way from a to b, in the
    order of a.

    Equal to `BFMatcher().knnMatch(k=2)` followed by `first.distance < ratio * second.distance`,
    ties included.
    """
    if len(a) == 0 or len(b) < 2:
        return _no_matches()
    squared = _squared_distances(a, b)
    rows = np.arange(len(a))
    nearest = squared.argmin(axis=1)
    first = squared[rows, nearest]
    squared[rows, nearest] = np.inf
    good = _stands_out(first, squared.min(axis=1), ratio)
    return rows[good], nearest[good]


def match_mutual(
    a: Features, b: Features, ratio: float
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Indices into a and b of the pairs that are each other's nearest and pass the ratio test in at
    least one direction.

    Swapping a and b gives the same pairs (ties between equal descriptors apart), in the order of
    the first argument; one to one.
    """
    if len(a) < 2 or len(b) < 2:
        return _no_matches()
    squared = _squared_distances(a, b)
    nearest = squared.argmin(axis=1)
    first = squared[np.arange(len(a)), nearest]
    rows = np.flatnonzero(first == squared.min(axis=0)[nearest])
    rows = rows[
        np.sort(np.unique(nearest[rows], return_index=True)[1])
    ]  # of equal descriptors in a, the first
    columns = nearest[rows]
    first = first[rows]
    squared[rows, columns] = np.inf
    good = _stands_out(first, squared[rows].min(axis=1), ratio) | _stands_out(
        first, squared.min(axis=0)[columns], ratio
    )
    return rows[good], columns[good]


def precedes(a: Features, b: Features) -> bool:
    """A total order on contents (False both ways only for equal ones), so that a result need not
    depend on which view came first."""
    if len(a) != len(b):
        return len(a) < len(b)
    points_a = a.points.tobytes()
    points_b = b.points.tobytes()
    if points_a != points_b:
        return points_a < points_b
    return a.descriptors.tobytes() < b.descriptors.tobytes()


def _squared_distances(a: Features, b: Features) -> Float32[np.ndarray, "n_a n_b"]:
    """|a|^2 + |b|^2 - 2ab as one product: two more columns, made once a view, add the norms without
    another pass over all pairs."""
    return a.left @ b.right.T


def _stands_out(
    first: Float32[np.ndarray, " m"], second: Float32[np.ndarray, " m"], ratio: float
) -> Bool[np.ndarray, " m"]:
    """The ratio test on squared distances, rounded as BFMatcher does: distances in float32,
    compared as Python floats."""
    return np.sqrt(first).astype(np.float64) < ratio * np.sqrt(second).astype(np.float64)


def _no_matches() -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    return np.empty(0, np.int64), np.empty(0, np.int64)


def _sift() -> cv2.SIFT:
    """One detector per thread: building it is not free, and sharing one between threads is not
    safe."""
    if not hasattr(_of_this_thread, "sift"):
        _of_this_thread.sift = cv2.SIFT.create()
    return _of_this_thread.sift
