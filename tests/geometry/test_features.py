"""Features and matching against OpenCV's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from mimic.geometry import features
from tests.support.views import texture


def opencv_matches(
    a: features.Features, b: features.Features, ratio: float
) -> list[tuple[int, int]]:
    pairs = cv2.BFMatcher().knnMatch(a.descriptors, b.descriptors, k=2)
    return [(p.queryIdx, p.trainIdx) for p, q in pairs if p.distance < ratio * q.distance]


def random_features(rng: np.random.Generator, count: int, high: int = 256) -> features.Features:
    descriptors = rng.integers(0, high, (count, features.DESCRIPTOR_LENGTH)).astype(np.float32)
    return features.from_arrays(rng.uniform(0, 224, (count, 2)).astype(np.float32), descriptors)


def test_extract_is_opencvs_sift() -> None:
    image = texture(0, 224)
    keypoints, descriptors = cv2.SIFT.create().detectAndCompute(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None
    )
    found = features.extract(image)
    assert np.array_equal(found.points, np.array([k.pt for k in keypoints], np.float32))
    assert np.array_equal(found.descriptors, descriptors)
    assert np.array_equal(found.norms, (descriptors.astype(np.int64) ** 2).sum(axis=1))


def test_descriptors_are_integers_so_the_product_is_exact() -> None:
    descriptors = features.extract(texture(1, 224)).descriptors
    assert np.array_equal(descriptors, np.rint(descriptors))
    assert descriptors.min() >= 0
    assert descriptors.max() <= 255


def test_an_image_without_texture_has_no_features_and_no_matches() -> None:
    flat = features.extract(np.full((224, 224, 3), 90, np.uint8))
    other = features.extract(texture(0, 224))
    assert len(flat) == 0
    for a, b in ((flat, other), (other, flat), (flat, flat)):
        for matcher in (features.match, features.match_mutual):
            assert [len(index) for index in matcher(a, b, 0.7)] == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_matches_equal_brute_force(seed: int) -> None:
    a, b = (
        features.extract(texture(seed, 224)),
        features.extract(np.roll(texture(seed, 224), 17, axis=1)),
    )
    matched = list(zip(*(index.tolist() for index in features.match(a, b, 0.7)), strict=True))
    assert len(matched) > 50
    assert matched == opencv_matches(a, b, 0.7)


@pytest.mark.parametrize("high", [256, 3, 2])
def test_matches_equal_brute_force_on_random_descriptors_and_ties(high: int) -> None:
    """The largest sums that can occur, and (few values, repeated rows) many equal distances."""
    rng = np.random.default_rng(high)
    a, b = random_features(rng, 60, high), random_features(rng, 70, high)
    b = features.from_arrays(
        b.points, np.concatenate([b.descriptors[:40], a.descriptors[:20], a.descriptors[:10]])
    )
    for ratio in (0.7, 0.99, 1.0):
        matched = list(zip(*(index.tolist() for index in features.match(a, b, ratio)), strict=True))
        assert matched == opencv_matches(a, b, ratio)


@pytest.mark.parametrize("seed", range(4))
def test_mutual_matches_are_symmetric_one_to_one_and_each_others_nearest(seed: int) -> None:
    a, b = (
        features.extract(texture(seed, 224)),
        features.extract(np.roll(texture(seed, 224), 17, axis=0)),
    )
    index_a, index_b = features.match_mutual(a, b, 0.7)
    back_b, back_a = features.match_mutual(b, a, 0.7)
    pairs = set(zip(index_a.tolist(), index_b.tolist(), strict=True))
    assert pairs == set(zip(back_a.tolist(), back_b.tolist(), strict=True))
    assert len(set(index_a.tolist())) == len(set(index_b.tolist())) == len(pairs) > 50
    squared = (
        (a.descriptors[:, None].astype(np.int64) - b.descriptors[None].astype(np.int64)) ** 2
    ).sum(axis=-1)
    either_way = set(opencv_matches(a, b, 0.7)) | {(i, j) for j, i in opencv_matches(b, a, 0.7)}
    assert pairs == {
        (i, j) for i, j in either_way if squared[i, j] == squared[i].min() == squared[:, j].min()
    }


def test_order_of_contents_is_total() -> None:
    rng = np.random.default_rng(0)
    a, b = random_features(rng, 5), random_features(rng, 5)
    same_points = features.from_arrays(a.points, b.descriptors)
    for left, right in ((a, b), (a, same_points), (a, random_features(rng, 6))):
        assert features.precedes(left, right) != features.precedes(right, left)
    assert not features.precedes(a, features.from_arrays(a.points.copy(), a.descriptors.copy()))


def test_threads_get_equal_features() -> None:
    images = [texture(seed, 160) for seed in range(4)]
    alone = [features.extract(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(features.extract, images))
    for left, right in zip(alone, together, strict=True):
        assert np.array_equal(left.descriptors, right.descriptors)
