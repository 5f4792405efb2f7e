"""What two cameras both see, from depth and pose: the truth that homographies are checked against.

Cameras are pinholes in OpenCV's convention: x right, y down, z forward, pixel centres at integers.
`intrinsics` is the 3x3 matrix K in pixels, `depth_m` the z coordinate in metres (not the distance
along the ray; 0, negative or not finite = unknown), and `world_from_a` the 4x4 camera-to-world pose
of a. `from_opengl` converts poses of cameras that look along -z with y up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int16
from scipy.spatial import cKDTree

from mimic.geometry import patches


@dataclass(frozen=True, eq=False)
class Visibility:
    """Where pixels of a lie in b. All arrays have one entry per queried pixel."""

    points_b: Float64[np.ndarray, "n 2"]  # x, y in b; nan where unknown or behind b
    depth_b_m: Float64[np.ndarray, " n"]  # z in b's camera; nan where a's depth is unknown
    known: Bool[np.ndarray, " n"]  # a's depth is known there
    inside: Bool[np.ndarray, " n"]  # known, in front of b and within its frame
    visible: Bool[np.ndarray, " n"]  # inside, and b's depth agrees (or no depth of b was given)


def from_opengl(world_from_camera: Float[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """The same pose for OpenCV axes (y down, z forward), given one for OpenGL axes (y up, looking
    along -z)."""
    return world_from_camera @ np.diag([1.0, -1.0, -1.0, 1.0])


def intrinsics_from_fov(
    width_px: int, height_px: int, hfov_deg: float
) -> Float64[np.ndarray, "3 3"]:
    """K of a square-pixel camera that sees hfov_deg across its width, its axis through the middle
    of the image."""
    focal_px = width_px / 2 / np.tan(np.radians(hfov_deg) / 2)
    return np.array(
        [[focal_px, 0.0, (width_px - 1) / 2], [0.0, focal_px, (height_px - 1) / 2], [0.0, 0.0, 1.0]]
    )


def resize_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], scale_x: float, scale_y: float
) -> Float64[np.ndarray, "3 3"]:
    """K after the image is resized by these factors (new / old), image borders mapped to image
    borders as cv2.resize does."""
    resize = np.array(
        [[scale_x, 0.0, (scale_x - 1) / 2], [0.0, scale_y, (scale_y - 1) / 2], [0.0, 0.0, 1.0]]
    )
    return resize @ intrinsics


def warp(
    points_a: Float[np.ndarray, "n 2"],
    depth_a_m: Float[np.ndarray, " n"],
    intrinsics_a: Float[np.ndarray, "3 3"],
    intrinsics_b: Float[np.ndarray, "3 3"],
    b_from_a: Float[np.ndarray, "4 4"],
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"]]:
    """Pixels of a with their depths -> pixels of b and depths there; nan where the depth is
    unknown, pixels nan behind b as well.

    b_from_a is the rigid motion from a's camera to b's: inverse(world_from_b) @ world_from_a.
    """
    depth = np.asarray(depth_a_m, np.float64)
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
    rays = np.column_stack([points_a, np.ones(len(points_a))]) @ np.linalg.inv(intrinsics_a).T
    in_b = (rays * depth[:, None]) @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    depth_b = in_b[:, 2]
    projected = in_b @ intrinsics_b.T
    with np.errstate(divide="ignore", invalid="ignore"):
        points_b = np.where(depth_b[:, None] > 0, projected[:, :2] / projected[:, 2:], np.nan)
    return points_b, depth_b


def look(
    points_a: Float[np.ndarray, "n 2"],
    depth_a_m: Float[np.ndarray, "height_a width_a"],
    depth_b_m: Float[np.ndarray, "height_b width_b"],
    intrinsics_a: Float[np.ndarray, "3 3"],
    intrinsics_b: Float[np.ndarray, "3 3"],
    world_from_a: Float[np.ndarray, "4 4"],
    world_from_b: Float[np.ndarray, "4 4"],
    tolerance: float,
) -> Visibility:
    """Where the 3-D points behind pixels of a (x, y; rounded to read the depth) are in b, and
    whether b sees them.

    A point is visible where it lies in b's frame and b's depth there differs from its own by less
    than `tolerance` of its own.
    """
    column, row = np.rint(points_a).astype(int).T
    b_from_a = np.linalg.inv(world_from_b) @ world_from_a
    points_b, depth_b = warp(points_a, depth_a_m[row, column], intrinsics_a, intrinsics_b, b_from_a)
    height, width = depth_b_m.shape
    with np.errstate(invalid="ignore"):
        inside = (
            (points_b > -0.5).all(axis=1)
            & (points_b[:, 0] < width - 0.5)
            & (points_b[:, 1] < height - 0.5)
        )
        nearest = np.rint(np.where(inside[:, None], points_b, 0)).astype(int)
        surface = depth_b_m[nearest[:, 1], nearest[:, 0]].astype(np.float64)
        visible = inside & (surface > 0) & (np.abs(surface - depth_b) < tolerance * depth_b)
    return Visibility(points_b, depth_b, np.isfinite(depth_b), inside, visible)


def covisibility(
    depth_a_m: Float[np.ndarray, "height_a width_a"],
    depth_b_m: Float[np.ndarray, "height_b width_b"],
    intrinsics_a: Float[np.ndarray, "3 3"],
    intrinsics_b: Float[np.ndarray, "3 3"],
    world_from_a: Float[np.ndarray, "4 4"],
    world_from_b: Float[np.ndarray, "4 4"],
    tolerance: float,
    step_px: int,
) -> float:
    """Share of a's pixels of known depth that b sees, reading every step_px-th pixel in both
    directions; 0 where none is known."""
    height, width = depth_a_m.shape
    y, x = np.mgrid[0:height:step_px, 0:width:step_px]
    points_a = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
    seen = look(
        points_a,
        depth_a_m,
        depth_b_m,
        intrinsics_a,
        intrinsics_b,
        world_from_a,
        world_from_b,
        tolerance,
    )
    return float(seen.visible.sum() / max(int(seen.known.sum()), 1))


def cloud(
    depth_m: Float[np.ndarray, "height width"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
) -> Float64[np.ndarray, "n 3"]:
    """The points of the world that the pixels of known depth show."""
    height, width = depth_m.shape
    y, x = (axis.ravel() for axis in np.mgrid[0:height, 0:width])
    depth = np.asarray(depth_m, np.float64).ravel()
    known = np.isfinite(depth) & (depth > 0)
    rays = np.column_stack([x, y, np.ones(len(x))])[known] @ np.linalg.inv(intrinsics).T
    return (rays * depth[known, None]) @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]


def cloud_overlap(
    points_a: Float[np.ndarray, "n 3"],
    points_b: Float[np.ndarray, "m 3"],
    distance_m: float,
    stride: int,
) -> float:
    """Share of the points of each cloud that have a point of the other nearer than distance_m; the
    smaller of the two (CroCo).

    Every stride-th point is asked for.
    """
    if not len(points_a) or not len(points_b):
        return 0.0
    shares = []
    for points, others in ((points_a, points_b), (points_b, points_a)):
        nearest, _ = cKDTree(others, balanced_tree=False).query(
            points[::stride], distance_upper_bound=distance_m
        )
        shares.append(float(np.isfinite(nearest).mean()))
    return min(shares)


def patch_map(
    depth_a_m: Float[np.ndarray, "size size"],
    depth_b_m: Float[np.ndarray, "size size"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_a: Float[np.ndarray, "4 4"],
    world_from_b: Float[np.ndarray, "4 4"],
    side: int,
    tolerance: float,
) -> Int16[np.ndarray, " patches"]:
    """Patch of b for each of a's side x side patches, one to one, -1 = none: all pixels vote, 'not
    seen by b' is a candidate like any."""
    size = len(depth_a_m)
    y, x = (axis.ravel() for axis in np.mgrid[0:size, 0:size])
    pixels = np.column_stack([x, y]).astype(np.float64)
    seen = look(
        pixels, depth_a_m, depth_b_m, intrinsics, intrinsics, world_from_a, world_from_b, tolerance
    )
    count = side * side
    target = np.full(len(pixels), count)
    cell = np.clip(
        np.floor((seen.points_b[seen.visible] + 0.5) * side / size).astype(int), 0, side - 1
    )
    target[seen.visible] = cell[:, 1] * side + cell[:, 0]
    patch = (y * side // size) * side + x * side // size
    counts = np.bincount(patch * (count + 1) + target, minlength=count * (count + 1)).reshape(
        count, count + 1
    )
    winner = counts.argmax(axis=1)
    targets = np.where(winner == count, patches.NONE, winner).astype(np.int16)
    return patches.keep_most_voted(targets, counts[np.arange(count), winner].astype(np.int64))
