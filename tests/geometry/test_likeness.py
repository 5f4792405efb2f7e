from __future__ import annotations

import cv2
import numpy as np
import pytest

from mimic.geometry import likeness
from tests.support import footage

PICTURES = [
    cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 3), cv2.COLOR_RGB2GRAY)
    for image in footage.pan(0, 4, 100)
]


def test_the_hash_says_where_it_gets_brighter() -> None:
    ramp = np.tile(np.arange(0, 252, 28, dtype=np.uint8), (8, 1))
    assert likeness.dhash(ramp) == 2**64 - 1
    assert likeness.dhash(ramp[:, ::-1].copy()) == 0
    ramp[0, 1] = 0  # the first place: no longer brighter than its left neighbour
    assert likeness.dhash(ramp) == 2**63 - 1


@pytest.mark.parametrize("picture", PICTURES)
def test_another_quality_or_size_changes_few_bits_and_another_view_many(
    picture: np.ndarray,
) -> None:
    code = likeness.dhash(picture)
    worse = cv2.imdecode(
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE
    )
    smaller = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert max((code ^ likeness.dhash(other)).bit_count() for other in (worse, smaller)) <= 3
    others = [
        (code ^ likeness.dhash(other)).bit_count() for other in PICTURES if other is not picture
    ]
    assert min(others) >= 8


@pytest.mark.parametrize("bits", [0, 1, 4, 6])
def test_all_near_rows_are_found_and_no_others(bits: int) -> None:
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 2**64, (300, 2), dtype=np.uint64)
    for row in range(
        100, 300
    ):  # another row's code with up to 8 bits changed, turned round every other time
        code = codes[rng.integers(100)].copy()
        for bit in rng.integers(0, 128, rng.integers(0, 9)):
            code[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
        codes[row] = code[::-1] if row % 2 else code
    groups = rng.integers(0, 5, 300)
    expected = set()
    for i in range(300):
        for j in range(i + 1, 300):
            apart = min(
                np.bitwise_count(codes[i] ^ other).sum() for other in (codes[j], codes[j][::-1])
            )
            if apart <= bits and groups[i] != groups[j]:
                expected.add((i, j))
    assert {
        tuple(link) for link in likeness.near_duplicate_pairs(codes, groups, bits).tolist()
    } == expected
    assert len(expected) > 10


def test_nothing_is_near_nothing() -> None:
    assert likeness.near_duplicate_pairs(
        np.empty((0, 2), np.uint64), np.empty(0, np.int64), 4
    ).shape == (0, 2)


def test_many_equal_rows_are_all_found() -> None:
    codes = np.zeros((40, 2), np.uint64)
    assert len(likeness.near_duplicate_pairs(codes, np.arange(40), 3)) == 40 * 39 // 2
