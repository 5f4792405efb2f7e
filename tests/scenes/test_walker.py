from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest

from mimic.scenes import walker
from mimic.scenes.base import heading
from mimic.scenes.embree import Embree
from mimic.scenes.walker import Walk

WALK = Walk(headings=8, turn_deg=60.0, step_m=(0.5, 1.0), island_radius_min_m=2.0)


def yaw_of(camera: walker.Camera) -> float:
    forward = -camera.rotation[:, 2]
    return float(np.degrees(np.arctan2(-forward[0], -forward[2])) % 360)


def test_three_rings_turn_and_step_as_the_rule_says(flat: Embree) -> None:
    turns = set()
    for seed in range(12):
        rings = walker.three_rings(flat, np.random.default_rng(seed), WALK, 1.4)
        assert [len(ring) for ring in rings] == [8, 8, 8]
        for ring in rings:
            assert {tuple(camera.position) for camera in ring} == {tuple(ring[0].position)}
            assert np.diff([yaw_of(camera) for camera in ring]) % 360 == pytest.approx(
                [315] * 7
            )  # to the right
        places = np.array([ring[0].position for ring in rings])
        assert (np.linalg.norm(np.diff(places, axis=0), axis=1) < 1.0 + 1e-6).all()
        first, second = (
            round((yaw_of(a[0]) - yaw_of(b[0])) % 360 / 60) for a, b in pairwise(rings)
        )
        assert first in {1, 2, 4, 5}
        assert second in {0, 1, 2, 4, 5}
        turns |= {first, second}
    assert len(turns) >= 4


def test_a_level_camera_turns_left_for_positive_yaw() -> None:
    assert -heading(0)[:, 2] == pytest.approx([0, 0, -1])
    assert -heading(90)[:, 2] == pytest.approx([-1, 0, 0])
    assert -walker.look(np.zeros(3), 0, 30).rotation[:, 2] == pytest.approx(
        [0, 0.5, -np.sqrt(0.75)]
    )  # up


def test_a_stroll_is_smooth_gets_around_and_stays_off_the_walls(flat: Embree) -> None:
    cameras = walker.random_walk(flat, np.random.default_rng(2), 150, 0.05, 1.45, 2.0)
    positions = np.array([camera.position for camera in cameras])
    assert np.linalg.norm(np.diff(positions, axis=0), axis=1).max() < 0.1
    turns = [
        np.degrees(np.arccos(np.clip((np.trace(a.rotation.T @ b.rotation) - 1) / 2, -1, 1)))
        for a, b in pairwise(cameras)
    ]
    assert max(turns) < 6.0
    assert np.ptp(positions[:, [0, 2]], axis=0).max() > 1.0
    for camera in cameras[::10]:
        seen = flat.render(camera.position, camera.rotation, (32, 32), 70.0)
        assert seen.depth_m.min() > 0.08
        assert np.allclose(camera.rotation @ camera.rotation.T, np.eye(3))


def test_the_seed_decides(flat: Embree) -> None:
    first, second = (
        walker.three_rings(flat, np.random.default_rng(4), WALK, 1.4) for _ in range(2)
    )
    assert all(
        np.array_equal(a.position, b.position)
        for a, b in zip(chain(*first), chain(*second), strict=True)
    )
