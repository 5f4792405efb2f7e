from __future__ import annotations

import numpy as np
import pytest

from mimic.geometry import covisibility
from mimic.scenes import base, walker
from mimic.scenes.embree import Embree
from mimic.scenes.mesh import GAMMA, Mesh
from mimic.synthetic.builder import Builder, Paint, Window
from tests.support.boxes import BOX, engine_of

SIZE = (96, 64)
MIDDLE = np.array([2.0, 1.5, 3.0])
# Turned left by so much, a level camera in the box looks at: the wall's inward normal and its
# distance from MIDDLE.
WALLS = {0: ((0, 0, 1), 3.0), 90: ((1, 0, 0), 2.0), 180: ((0, 0, -1), 1.0), 270: ((-1, 0, 0), 3.0)}


@pytest.mark.parametrize("yaw_deg", WALLS)
def test_a_wall_has_one_planar_depth_and_one_normal(box: Embree, yaw_deg: int) -> None:
    normal, distance = WALLS[yaw_deg]
    seen = box.render(MIDDLE, base.heading(yaw_deg), SIZE, 30.0)
    assert np.allclose(seen.depth_m, distance, atol=1e-4)
    assert seen.normal is not None
    assert np.allclose(seen.normal, normal, atol=1e-6)
    assert len(np.unique(seen.instance)) == 1


def test_floor_and_ceiling_face_the_camera(box: Embree) -> None:
    seen = box.render(MIDDLE, base.heading(0), (64, 64), 90.0)
    assert seen.normal is not None
    assert seen.class_id is not None
    assert np.allclose(seen.normal[-1, 32], [0, 1, 0])
    assert np.allclose(seen.normal[0, 32], [0, -1, 0])
    assert (seen.class_id[-1, 32], seen.class_id[0, 32], seen.class_id[32, 32]) == (2, 3, 1)


def test_back_project_lands_on_the_box(box: Embree) -> None:
    """Depth, pose and focal length put every pixel on a face of the box."""
    camera = walker.look(MIDDLE, 33.0, -12.0)
    width, height = SIZE
    seen = box.render(camera.position, camera.rotation, SIZE, 75.0)
    intrinsics = covisibility.intrinsics_from_fov(width, height, 75.0)
    y, x = np.mgrid[:height, :width]
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(intrinsics).T
    pose = base.pose(camera.position, camera.rotation)
    points = (rays * seen.depth_m[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    assert np.abs(np.stack([points, np.array(BOX) - points])).min(axis=(0, -1)).max() < 1e-3


def test_two_views_agree_where_both_see(flat: Embree) -> None:
    rng = np.random.default_rng(5)
    place = walker.start(flat, rng, 2.0) + [0, 1.4, 0]
    yaw = walker.open_heading(flat, rng, place - [0, 1.4, 0])
    cameras = [
        walker.look(place, yaw, -5.0),
        walker.look(place + 0.15 * base.heading(yaw)[:, 0], yaw + 8, -5.0),
    ]
    size, hfov = (128, 128), 70.0
    a, b = (flat.render(camera.position, camera.rotation, size, hfov) for camera in cameras)
    intrinsics = covisibility.intrinsics_from_fov(*size, hfov)
    poses = [base.pose(camera.position, camera.rotation) for camera in cameras]
    y, x = (axis.ravel() for axis in np.mgrid[:128, :128])
    seen = covisibility.look(
        np.column_stack([x, y]).astype(float),
        a.depth_m,
        b.depth_m,
        intrinsics,
        intrinsics,
        poses[0],
        poses[1],
        0.02,
    )
    assert seen.known.all()
    assert seen.visible[seen.inside].mean() > 0.88
    u, v = np.rint(seen.points_b[seen.visible]).astype(int).T
    here, there = a.rgb[y, x][seen.visible].astype(int), b.rgb[v, u].astype(int)
    shuffled = np.random.default_rng(0).permutation(there)
    assert np.abs(here - there).mean() < 0.4 * np.abs(here - shuffled).mean()
    assert a.instance is not None
    assert b.instance is not None
    assert (a.instance[y, x][seen.visible] == b.instance[v, u]).mean() > 0.97


def test_same_scene_same_bits(flat: Embree, flat_mesh: Mesh) -> None:
    place = walker.start(flat, np.random.default_rng(1), 2.0) + [0, 1.5, 0]
    first, second, rebuilt = (
        engine.render(place, base.heading(20), SIZE, 80.0)
        for engine in (flat, flat, engine_of(flat_mesh))
    )
    for other in (second, rebuilt):
        assert np.array_equal(first.rgb, other.rgb)
        assert np.array_equal(first.depth_m, other.depth_m)


def test_a_texture_stands_upright_and_unmirrored() -> None:
    corners = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
    texture = corners.repeat(16, axis=0).repeat(16, axis=1)
    builder = Builder(np.random.default_rng(0))
    builder.quad(
        (-1, 0, -2),
        (2, 0, 0),
        (0, 2, 0),
        Paint(0, window=Window(0, 0, 1, 1)),
        builder.new("picture"),
    )
    seen = engine_of(builder.mesh((texture,), None)).render(
        np.array([0.0, 1.0, 0.0]), base.heading(0), (64, 64), 90.0
    )
    assert tuple(seen.rgb[20, 20]) == (255, 0, 0)
    assert tuple(seen.rgb[20, 43]) == (0, 255, 0)
    assert tuple(seen.rgb[43, 20]) == (0, 0, 255)
    assert tuple(seen.rgb[43, 43]) == (255, 255, 255)


def test_between_corners_light_is_linear() -> None:
    """A vertex colour is linear: half-way between black and white lies more than half of 255."""
    corners = np.array([(-1, 0, -2), (1, 0, -2), (1, 2, -2), (-1, 2, -2)], np.float32)
    label = np.zeros(2, np.int32)
    mesh = Mesh(
        vertices=corners,
        uv=np.zeros((4, 2), np.float32),
        light=np.array([0, 1, 1, 0], np.float32)[:, None].repeat(3, axis=1),
        faces=np.array([(0, 1, 2), (0, 2, 3)], np.int32),
        texture=label,
        class_id=label,
        instance=label,
        textures=(np.full((4, 4, 3), 255, np.uint8),),
    )
    seen = engine_of(mesh).render(np.array([0.0, 1.0, 0.0]), base.heading(0), (64, 64), 90.0)
    share = (np.arange(16, 48) + 0.5 - 16) / 32  # the wall fills the middle half of the picture
    assert seen.rgb[32, 16:48, 0] == pytest.approx(255 * share ** (1 / GAMMA), abs=1)


def test_beyond_the_scene_is_black_without_depth_or_label() -> None:
    builder = Builder(np.random.default_rng(0))
    builder.quad((-1, 0, -2), (2, 0, 0), (0, 2, 0), Paint(0), builder.new("wall"))
    engine = engine_of(builder.mesh((np.full((4, 4, 3), 200, np.uint8),), None))
    seen = engine.render(np.array([0.0, 1.0, 0.0]), base.heading(180), SIZE, 90.0)
    assert not seen.rgb.any()
    assert not seen.depth_m.any()
    assert not seen.class_id.any()
    assert not seen.instance.any()
    assert not seen.normal.any()


def test_far_away_a_texture_becomes_its_mean() -> None:
    board = np.zeros((256, 256, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    builder = Builder(np.random.default_rng(0))
    builder.quad(
        (-4, -4, -30),
        (8, 0, 0),
        (0, 8, 0),
        Paint(0, window=Window(0, 0, 1, 1)),
        builder.new("wall"),
    )
    seen = engine_of(builder.mesh((board,), None)).render(
        np.zeros(3), base.heading(0), (32, 32), 12.0
    )
    assert np.abs(seen.rgb.astype(int) - 127).max() <= 3
