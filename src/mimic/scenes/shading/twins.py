"""Triangles that lie in one another's place and face opposite ways: a wall whose sides have
materials of their own, as CAD programs write it.

A ray meets both at the same distance. Which one an engine names depends on their order in the file;
the one to draw is the one that faces the camera (glTF 2.0, section 3.9.6).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt64

# odd numbers without a pattern, of 64 bits: one a coordinate, one a corner
FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64
)  # products wrap round


class Twins:
    """Of every face the one in its place that faces the other way, if there is one."""

    def __init__(
        self, vertices: Float32[np.ndarray, "vertices 3"], faces: Int32[np.ndarray, "faces 3"]
    ) -> None:
        corners = _hashes(vertices)[faces]
        shared = _repeated(corners.sum(axis=1))
        first = corners[shared].argmin(axis=1)
        turned = np.take_along_axis(corners[shared], (first[:, None] + np.arange(3)) % 3, axis=1)
        twin = _first_of(_mixed(turned * FACTORS), _mixed(turned[:, [0, 2, 1]] * FACTORS))
        has_twin = twin >= 0
        self.any = bool(has_twin.any())
        if self.any:
            self._twin = np.full(len(faces), -1, np.int32)
            self._twin[shared[has_twin]] = shared[twin[has_twin]]
            self._first = np.zeros(len(faces), np.int8)  # corner that both have in common first
            self._first[shared] = first

    def facing(
        self,
        face: Int32[np.ndarray, " rays"],
        u: Float32[np.ndarray, " rays"],
        v: Float32[np.ndarray, " rays"],
        is_back: Bool[np.ndarray, " rays"],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face and weights of corners 1 and 2 of each hit, of the twin where the hit face shows its
        back."""
        swapped = np.flatnonzero(is_back & (self._twin[face] >= 0))
        if not len(swapped):
            return face, u, v
        old = face[swapped]
        new = self._twin[old]
        weights = np.stack([1 - u - v, u, v], axis=1)[swapped]
        turned = np.empty_like(weights)
        rows = np.arange(len(swapped))
        for step in range(3):  # one goes round the corners one way, the other the other way
            corner = (self._first[new] + step) % 3
            turned[rows, corner] = weights[rows, (self._first[old] - step) % 3]
        face = face.copy()
        face[swapped] = new
        u = u.copy()
        u[swapped] = turned[:, 1]
        v = v.copy()
        v[swapped] = turned[:, 2]
        return face, u, v


def _hashes(vertices: Float32[np.ndarray, "vertices 3"]) -> UInt64[np.ndarray, " vertices"]:
    """A number of each position; equal for equal positions alone, as good as surely."""
    bits = (vertices + np.float32(0)).view(np.uint32)  # -0 becomes 0
    return _mixed(bits.astype(np.uint64) * FACTORS)


def _mixed(products: UInt64[np.ndarray, "rows 3"]) -> UInt64[np.ndarray, " rows"]:
    mixed = products.sum(axis=1)
    mixed ^= mixed >> np.uint64(29)
    mixed *= FACTORS[0]
    return mixed ^ (mixed >> np.uint64(32))


def _repeated(keys: UInt64[np.ndarray, " rows"]) -> Int64[np.ndarray, " some"]:
    """Rows, in order, whose key another row has as well."""
    order = np.argsort(keys, kind="stable")
    equal = keys[order[1:]] == keys[order[:-1]]
    is_repeated = np.zeros(len(keys), bool)
    is_repeated[order[1:][equal]] = True
    is_repeated[order[:-1][equal]] = True
    return np.flatnonzero(is_repeated)


def _first_of(
    keys: UInt64[np.ndarray, " rows"], wanted: UInt64[np.ndarray, " rows"]
) -> Int64[np.ndarray, " rows"]:
    """The first row with each wanted key; -1 where none has it."""
    if not len(keys):
        return np.empty(0, np.int64)
    order = np.argsort(keys, kind="stable")
    ranks = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order][ranks] == wanted, order[ranks], -1)
