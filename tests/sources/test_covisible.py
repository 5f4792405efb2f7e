"""Pairs by co-visibility, against the depths and poses of the scene itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mimic import config, sources
from mimic.geometry import covisibility
from mimic.geometry.overlap import Outcome
from mimic.mining import loop, shard_job
from mimic.params import load_params
from mimic.scenes import walker
from mimic.sources.covisible import CovisibleSource, aim
from mimic.synthetic import apartments, glb_writer

SIZE_PX, POSITIONS = 224, 4


@pytest.fixture(scope="module")
def section(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> config.Covisible:
    root = tmp_path_factory.mktemp("scenes")
    (root / "room.glb").write_bytes(glb_writer.to_glb(apartments.build(0, 11.0, 8.0, 2.6, 512)))
    (root / "room.stage_config.json").write_text(json.dumps(glb_writer.stage_config("room.glb")))
    rooms = (
        load_params(repository / "params.yaml")
        .sources["rooms"]
        .model_dump(exclude={"headings", "step_m", "turn_deg"})
    )
    numbers = {
        "hfov_deg": 60.0,
        "positions": POSITIONS,
        "tries": 100,
        "steps": 5,
        "step_sigma_m": 2.0,
        "jitter_deg": (3.0, 10.0, 5.0),
    }
    measure = {
        "valid_depth_min": 0.7,
        "overlap_min": 0.5,
        "point_distance_m": 0.05,
        "patches": 14,
        "depth_tolerance": 0.05,
    }
    return config.Covisible(
        **(rooms | numbers | measure | {"reader": "covisible", "layout": "scenes", "root": root})
    )


def test_pairs_see_the_same_and_are_kept_without_a_homography(
    section: config.Covisible, repository: Path
) -> None:
    source = sources.open_source("habitat", section, Path(), SIZE_PX, None)
    assert isinstance(source, CovisibleSource)
    assert source.clips() == ["room.glb"]
    mine = load_params(repository / "params.yaml").mine
    stats = loop.MiningStats()
    pairs = list(loop.mine_clip(source, "room.glb", shard_job.rule_of(mine), 0.0, 0, stats))
    assert 2 <= len(pairs) <= POSITIONS
    assert stats.outcomes[Outcome.KEPT] == len(pairs) == stats.candidates
    for pair in pairs:
        found = pair.comparison
        assert found.b_from_a is None
        assert len(found.correspondences) == 196
        assert found.overlap > 0.1
        matched = found.correspondences[found.correspondences >= 0]
        assert len(set(matched.tolist())) == len(matched)
    again = list(
        loop.mine_clip(source, "room.glb", shard_job.rule_of(mine), 0.0, 0, loop.MiningStats())
    )
    assert all(np.array_equal(x.image_b, y.image_b) for x, y in zip(pairs, again, strict=True))


def test_a_camera_that_looks_at_a_point_has_it_in_its_middle() -> None:
    position, target = np.array([1.0, 1.5, -2.0]), np.array([-2.0, 0.3, 3.0])
    axis = -walker.look(position, *aim(position, target)).rotation[:, 2]
    assert axis == pytest.approx((target - position) / np.linalg.norm(target - position))


# A wall 2 m ahead, seen from two places side by side: everything can be written down.
K = covisibility.intrinsics_from_fov(224, 224, 60.0)
WALL = np.full((224, 224), 2.0)
SPACING = 2.0 / K[0, 0]  # metres on the wall from one pixel to the next


def _moved(pixels: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = pixels * SPACING
    return pose


@pytest.mark.parametrize("patches_moved", [0, 3, 7, 14])
def test_clouds_and_patches_of_a_wall(patches_moved: int) -> None:
    a, b = np.eye(4), _moved(16 * patches_moved)
    clouds = [covisibility.cloud(WALL, K, pose) for pose in (a, b)]
    overlap = covisibility.cloud_overlap(clouds[0], clouds[1], SPACING / 2, 1)
    assert overlap == pytest.approx(1 - patches_moved / 14, abs=1e-9)
    expected = np.full((14, 14), -1)
    expected[:, patches_moved:] = np.arange(196).reshape(14, 14)[:, : 14 - patches_moved]
    assert np.array_equal(covisibility.patch_map(WALL, WALL, K, a, b, 14, 0.05), expected.ravel())


def test_what_another_surface_hides_is_not_matched() -> None:
    near = WALL.copy()
    near[:, :112] = 0.5  # b has something before its left half
    found = covisibility.patch_map(WALL, near, K, np.eye(4), np.eye(4), 14, 0.05).reshape(14, 14)
    assert (found[:, :7] == -1).all()
    assert (found[:, 7:] >= 0).all()


def test_nothing_seen_is_no_overlap() -> None:
    nothing = covisibility.cloud(np.zeros((8, 8)), K, np.eye(4))
    assert nothing.shape == (0, 3)
    assert covisibility.cloud_overlap(nothing, nothing, 1.0, 1) == 0.0
