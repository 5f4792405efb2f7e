"""Which pictures look the same: 64-bit difference hashes, and all near pairs among millions of
them.

A difference hash (dHash) says for 8 x 8 places of a shrunken grey picture whether it gets brighter
to the right. Another JPEG quality, size or exposure changes few of its bits; another view changes
many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Int64, UInt8, UInt64

WORD_BITS = 64
# Odd factors that spread the bits of two words over one; equal words stay equal, and what falls
# together by chance is checked.
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))


def dhash(grey: UInt8[np.ndarray, "height width"]) -> int:
    """64 bits, row by row, the first in the highest place: is the pixel to the right brighter?"""
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())


def near_duplicate_pairs(
    codes: UInt64[np.ndarray, "n 2"], groups: Int64[np.ndarray, " n"], bits: int
) -> Int64[np.ndarray, "m 2"]:
    """Rows of different groups whose codes differ in at most `bits` bits, in either order of their
    two words: i < j, each once.

    Exact: of `bits + 2` disjoint sets of bits, two such codes agree in all bits of at least two. So
    rows are sorted by each two of the sets in turn, (bits + 2)(bits + 1) / 2 times, and compared
    with those they agree with: by chance there are few.
    """
    # Rows 0..n-1 have their words as they are, rows n..2n-1 exchanged: either order is compared.
    both = tuple(np.concatenate([codes[:, word], codes[:, 1 - word]]) for word in (0, 1))
    pairs = [np.empty((0, 2), np.int64)]
    for bands in itertools.combinations(range(bits + 2), 2):
        for i, j in _equal_key_pairs(_keys(both, bands, bits + 2)):
            # By chance alone many keys agree: drop what is one row, one group, or too different.
            i, j = _distinct_rows(i, j, len(codes))
            i, j = _select(groups[i % len(codes)] != groups[j % len(codes)], i, j)
            i, j = _select(sum(np.bitwise_count(word[i] ^ word[j]) for word in both) <= bits, i, j)
            i = i % len(codes)
            j = j % len(codes)
            pairs.append(np.stack([np.minimum(i, j), np.maximum(i, j)], axis=1))
    links = np.concatenate(pairs)
    return np.unique(links, axis=0) if len(links) else links


def _keys(
    words: tuple[UInt64[np.ndarray, " n"], ...], bands: tuple[int, ...], bands_total: int
) -> UInt64[np.ndarray, " n"]:
    """One number for the bits of some bands; a band is every `bands_total`-th bit, since
    neighbouring bits of a picture say much the same."""
    masks = [
        sum(1 << bit for bit in range(WORD_BITS) if (bit + WORD_BITS * word) % bands_total in bands)
        for word in (0, 1)
    ]
    a, b = (
        (values & np.uint64(mask)) * factor
        for values, mask, factor in zip(words, masks, _MIX, strict=True)
    )
    return a ^ (b >> np.uint64(29)) ^ (b << np.uint64(35))


def _equal_key_pairs(
    keys: UInt64[np.ndarray, " n"],
) -> Iterator[tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]]:
    """All pairs of equal keys, as rows of the first and of the second, those at one distance in the
    sorted order at a time."""
    # Equal keys lie side by side once sorted. Pair each with its next neighbour, then with the one
    # after that, for as long as any run of equal keys is that long.
    order = np.argsort(keys)
    keys = keys[order]
    at = np.flatnonzero(keys[1:] == keys[:-1])
    shift = 1
    while len(at):
        yield order[at], order[at + shift]
        shift += 1
        at = at[at + shift < len(keys)]
        at = at[keys[at + shift] == keys[at]]


def _distinct_rows(i: np.ndarray, j: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Without pairs of which both are turned round, or that are one row twice."""
    return _select(((i < n) | (j < n)) & (i % n != j % n), i, j)


def _select(chosen: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return i[chosen], j[chosen]
