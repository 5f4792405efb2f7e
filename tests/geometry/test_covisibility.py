"""Co-visibility of cameras before a wall, and of real frames whose figures were computed
elsewhere."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from mimic.geometry import covisibility

WIDTH, HEIGHT = 160, 120
INTRINSICS = covisibility.intrinsics_from_fov(WIDTH, HEIGHT, 60.0)
WALL_M = 2.0


def wall() -> np.ndarray:
    return np.full((HEIGHT, WIDTH), WALL_M)


def moved(x_m: float, y_m: float, z_m: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = x_m, y_m, z_m
    return pose


def seen(depth_b: np.ndarray, world_from_b: np.ndarray) -> float:
    return covisibility.covisibility(
        wall(), depth_b, INTRINSICS, INTRINSICS, np.eye(4), world_from_b, 0.05, 1
    )


def test_same_camera_sees_everything() -> None:
    assert seen(wall(), np.eye(4)) == 1.0


@pytest.mark.parametrize("columns", [10, 40, 100, 159, 400])
def test_sideways_step_before_a_wall(columns: int) -> None:
    """A camera that moves right by as much wall as `columns` pixels cover loses those columns of
    the image."""
    metres_per_pixel = WALL_M / INTRINSICS[0, 0]
    expected = max(0, WIDTH - columns) / WIDTH
    assert seen(wall(), moved(columns * metres_per_pixel, 0, 0)) == pytest.approx(
        expected, abs=1 / WIDTH
    )


def test_step_back_sees_all_and_is_seen_in_part() -> None:
    back = moved(0, 0, -WALL_M)
    far = wall() * 2
    assert seen(far, back) == 1.0
    other_way = covisibility.covisibility(
        far, wall(), INTRINSICS, INTRINSICS, back, np.eye(4), 0.05, 1
    )
    assert other_way == pytest.approx(0.25, abs=0.02)


def test_an_occluder_and_a_view_from_behind_see_nothing() -> None:
    assert seen(wall() / 2, np.eye(4)) == 0.0
    behind = np.diag([-1.0, 1, -1, 1])  # turned about y by 180 degrees
    assert seen(wall(), behind) == 0.0


def test_unknown_depth_counts_neither_way() -> None:
    depth = wall()
    depth[:, : WIDTH // 2] = 0
    depth[0, 0] = np.nan
    assert (
        covisibility.covisibility(
            depth, wall(), INTRINSICS, INTRINSICS, np.eye(4), np.eye(4), 0.05, 1
        )
        == 1.0
    )
    assert (
        covisibility.covisibility(
            depth * 0, wall(), INTRINSICS, INTRINSICS, np.eye(4), np.eye(4), 0.05, 1
        )
        == 0.0
    )
    points, depth_b = covisibility.warp(
        np.zeros((1, 2)), np.zeros(1), INTRINSICS, INTRINSICS, np.eye(4)
    )
    assert np.isnan(points).all()
    assert np.isnan(depth_b).all()


def test_warp_of_a_plane_is_its_homography() -> None:
    """A plane z = d in a, any motion: H = K (R + t n'/d) K^-1 (Hartley and Zisserman, 13.1)."""
    rotation, _ = cv2.Rodrigues(np.array([0.05, -0.2, 0.1]))
    translation = np.array([0.3, -0.1, 0.2])
    b_from_a = np.eye(4)
    b_from_a[:3, :3], b_from_a[:3, 3] = rotation, translation
    plane = (
        INTRINSICS
        @ (rotation + np.outer(translation, [0, 0, 1]) / WALL_M)
        @ np.linalg.inv(INTRINSICS)
    )
    points = np.random.default_rng(0).uniform(0, 100, (40, 2))
    found, depth_b = covisibility.warp(
        points, np.full(40, WALL_M), INTRINSICS, INTRINSICS, b_from_a
    )
    assert np.allclose(found, cv2.perspectiveTransform(points[:, None], plane)[:, 0])
    assert (depth_b > 0).all()


def test_opengl_axes() -> None:
    converted = covisibility.from_opengl(np.eye(4))
    forward, down = converted[:3, 2], converted[:3, 1]
    assert forward.tolist() == [0, 0, -1]
    assert down.tolist() == [0, -1, 0]


def test_resized_intrinsics_keep_the_borders() -> None:
    half = covisibility.resize_intrinsics(INTRINSICS, 0.5, 0.5)
    border = np.array([-0.5, -0.5, 1.0])
    assert np.allclose((np.linalg.inv(half) @ border), np.linalg.inv(INTRINSICS) @ border)


def test_kitchen_matches_the_table(real_data: Path) -> None:
    """Depth in mm, camera-to-world poses, K as the data set's README gives it (principal point 320,
    240)."""
    folder = real_data / "seven_scenes_kitchen"
    intrinsics = np.loadtxt(folder / "camera-intrinsics.txt")

    def frame(number: str) -> tuple[np.ndarray, np.ndarray]:
        depth = cv2.imread(
            str(folder / f"frames/frame-{int(number):06d}.depth.png"), cv2.IMREAD_UNCHANGED
        )
        return np.where(depth < 65535, depth, 0) / 1000.0, np.loadtxt(
            folder / f"frames/frame-{int(number):06d}.pose.txt"
        )

    errors = []
    for row in list(csv.DictReader((folder / "pairs_reference.tsv").open(), delimiter="\t"))[::6]:
        (depth_a, pose_a), (depth_b, pose_b) = frame(row["frame_i"]), frame(row["frame_j"])
        share = covisibility.covisibility(
            depth_a, depth_b, intrinsics, intrinsics, pose_a, pose_b, 0.05, 8
        )
        errors.append(share - float(row["covis_i_in_j"]))
    assert np.abs(errors).max() < 0.05
    assert np.abs(errors).mean() < 0.01
