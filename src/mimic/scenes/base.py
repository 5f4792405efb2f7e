"""What an engine is: it holds one scene, renders it, and knows where an agent can stand.

Conventions, Habitat's: metres, y up; a camera looks along its own -z with y up. `world_from_camera`
is its 3x3 rotation. Turning and stepping live outside (walker.py), so every engine walks the same
way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

Point = Float64[np.ndarray, "3"]
Rotation = Float64[np.ndarray, "3 3"]


@dataclass(frozen=True, eq=False)
class Rendering:
    """What a camera sees. Where nothing is hit: black, depth 0, normal 0, class and instance 0."""

    rgb: UInt8[np.ndarray, "height width 3"]
    depth_m: Float32[
        np.ndarray, "height width"
    ]  # planar: distance along the viewing axis, not along the ray
    normal: Float32[np.ndarray, "height width 3"] | None  # unit, in the world, towards the camera
    class_id: Int32[np.ndarray, "height width"] | None  # index into mesh.CLASSES; 0 = unknown
    instance: Int32[np.ndarray, "height width"] | None


class Unwalkable(Exception):
    """The scene has no place to stand that is large enough; the message says what was found."""


class EngineFailed(RuntimeError):
    """The engine itself is at fault, not the scene: it cannot be started, does not answer, or
    died."""


class Engine(Protocol):
    """One scene at a time: `load` first."""

    name: str

    def load(self, scene: Path) -> None:
        """Read a scene file; BadInput when it cannot be read."""

    def random_point(self, rng: np.random.Generator) -> Point:
        """A point on the walkable floor, uniform over its area; Unwalkable when there is none."""

    def island_radius(self, point: Point) -> float:
        """Metres from the middle of the connected floor that holds `point` to its farthest part; 0
        off the floor."""

    def try_step(self, start: Point, end: Point) -> Point:
        """Walk from start towards end, sliding along obstacles; the point on the floor that is
        reached."""

    def snap(self, point: Point) -> Point | None:
        """The nearest point of the walkable floor; None when there is none."""

    def render(
        self,
        position: Point,
        world_from_camera: Rotation,
        size_px: tuple[int, int],
        hfov_deg: float,
    ) -> Rendering:
        """See from `position` (the camera's centre, not the floor). size_px is (width, height)."""

    def close(self) -> None:
        """Let go of the scene."""


def heading(yaw_deg: float) -> Rotation:
    """Camera to world, level, turned left by yaw_deg (counter-clockwise from above); 0 looks along
    -z."""
    angle = np.radians(yaw_deg)
    cos = np.cos(angle)
    sin = np.sin(angle)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def pose(position: Point, world_from_camera: Rotation) -> Float64[np.ndarray, "4 4"]:
    """The 4x4 camera-to-world pose in OpenCV's axes (y down, z forward), as pairs store it."""
    matrix = np.eye(4)
    matrix[:3, :3] = world_from_camera @ np.diag([1.0, -1.0, -1.0])
    matrix[:3, 3] = position
    return matrix
