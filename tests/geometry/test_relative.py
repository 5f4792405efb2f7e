"""One pose from several: exact where the truth is known, and the field's numbers of many."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mimic.geometry.relative import (
    median_rotation,
    median_standard_error,
    meeting_point,
    placed,
    pose_errors,
    rotation_error_deg,
    summary,
)


def poses(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = np.tile(np.eye(4), (count, 1, 1))
    made[:, :3, :3] = Rotation.random(count, rng).as_matrix()
    made[:, :3, 3] = rng.normal(size=(count, 3))
    return made


def test_angles() -> None:
    turn = Rotation.from_rotvec(np.radians([0, 0, 30])).as_matrix()
    assert rotation_error_deg(np.eye(3), turn) == pytest.approx(30)
    assert rotation_error_deg(turn, turn) == pytest.approx(0, abs=1e-6)
    assert rotation_error_deg(np.eye(3), np.diag([-1.0, -1.0, 1.0])) == pytest.approx(180)


def test_angles_by_the_trace() -> None:
    """cos = (trace - 1) / 2, as many of the field's scripts have it."""
    found, truth = poses(20, 0), poses(20, 1)
    cosines = (np.einsum("nij,nij->n", found[:, :3, :3], truth[:, :3, :3]) - 1) / 2
    errors = pose_errors(found, truth)
    np.testing.assert_allclose(errors[:, 1], np.degrees(np.arccos(cosines)), atol=1e-6)
    np.testing.assert_allclose(errors[:, 0] ** 2, ((found - truth)[:, :3, 3] ** 2).sum(axis=1))


@pytest.mark.parametrize("wrong_first", [False, True])
def test_the_median_ignores_the_wrong_ones(wrong_first: bool) -> None:
    for seed in range(10):
        truth, wrong = (
            Rotation.random(None, np.random.default_rng(seed)),
            Rotation.random(3, np.random.default_rng(100 + seed)),
        )
        parts = [np.stack([truth.as_matrix()] * 5), wrong.as_matrix()]
        rotations = np.concatenate(parts[::-1] if wrong_first else parts)
        assert rotation_error_deg(median_rotation(rotations), truth.as_matrix()) < 1e-5


def test_lines_meet() -> None:
    rng, point = np.random.default_rng(0), np.array([1.0, -2.0, 3.0])
    origins = rng.normal(size=(6, 3))
    found = meeting_point(origins, (point - origins) * rng.uniform(-2, 2, (6, 1)))
    assert found is not None
    np.testing.assert_allclose(found, point, atol=1e-9)
    directions = rng.normal(size=(6, 3))
    found = meeting_point(origins, directions)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def cost(where: np.ndarray) -> float:
        away = where - origins
        return float((away**2).sum() - ((away * unit).sum(axis=1) ** 2).sum())

    assert found is not None
    assert all(cost(found) < cost(found + 0.01 * step) for step in (*np.eye(3), *-np.eye(3)))


def test_lines_that_do_not_meet() -> None:
    origins = np.random.default_rng(0).normal(size=(6, 3))
    assert meeting_point(origins, np.tile([0.0, 0.0, 1.0], (6, 1))) is None
    assert meeting_point(origins[:1], np.ones((1, 3))) is None
    assert meeting_point(origins[:2], np.zeros((2, 3))) is None


def test_true_relative_poses_place_a_query_exactly() -> None:
    near, query = poses(5, 0), poses(1, 7)[0]
    moves = np.linalg.inv(near) @ query
    for found in placed(moves[:, :3, :3], moves[:, :3, 3], near):
        np.testing.assert_allclose(found, query, atol=1e-9)
    stretched, wrong_first = (
        moves[:, :3, 3] * np.array([3, 0.2, 1, 7, 0.5])[:, None],
        moves[:, :3, :3].copy(),
    )
    wrong_first[0] = np.eye(3)
    first, together = placed(
        wrong_first, stretched, near
    )  # all together needs no length, and bears a wrong rotation
    np.testing.assert_allclose(together, query, atol=1e-9)
    assert (pose_errors(first[None], query[None]) > [0.1, 1]).all()


def test_a_single_neighbour_is_all() -> None:
    near, query = poses(1, 0), poses(1, 7)[0]
    moves = np.linalg.inv(near) @ query
    first, together = placed(moves[:, :3, :3], moves[:, :3, 3], near)
    np.testing.assert_allclose(first, together, atol=1e-12)
    first, together = placed(np.eye(3)[None], np.zeros((1, 3)), near)
    np.testing.assert_allclose(first, near[0], atol=1e-12)
    np.testing.assert_allclose(together, near[0], atol=1e-12)


def test_the_fields_numbers_by_hand() -> None:
    errors = np.array([[0.01, 1.0], [0.04, 6.0], [0.06, 2.0], [0.2, 30.0]])
    assert summary(errors) == {
        "median_error_m": pytest.approx(0.05),
        "median_error_deg": 4.0,
        "within_5cm_5deg": 0.25,
    }


def test_the_standard_error_of_a_median() -> None:
    """Of normal values sqrt(pi / 2) sigma / sqrt(n); of others as medians of many samples
    scatter."""
    rng = np.random.default_rng(0)
    for draw in (rng.standard_normal, rng.standard_exponential):
        samples = draw((2000, 400))
        stated = np.mean([median_standard_error(sample) for sample in samples[:300]])
        assert stated == pytest.approx(np.median(samples, axis=1).std(), rel=0.07)
    assert np.mean(
        [median_standard_error(rng.standard_normal(400)) for _ in range(300)]
    ) == pytest.approx(1.2533 / 20, rel=0.05)
    assert median_standard_error(np.array([0.3])) == 0
