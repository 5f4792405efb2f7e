"""Multiview-Habitat, the baseline of MIMIC: pairs of views of a 3-D scene that see much the same,
by depth and pose (CroCo, section 3).

Layout: that of the scene readers (`layout` names one). A first view looks anywhere from a random
place; a second one, a short random walk away, looks at the middle of what the first one sees. The
pair is given to the miner (no homography judges it) when both views see enough surface and their
point clouds overlap enough; otherwise another second view is tried, `tries` times, then the next
position. So this source does judge: the published set is drawn that way. Correspondences come from
the depths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimic import config
from mimic.geometry import covisibility
from mimic.scenes import base, walker
from mimic.scenes.base import Engine, EngineFailed, Unwalkable
from mimic.scenes.walker import Camera
from mimic.sources.base import Correspondences, Group, Image, Position, Unreadable, View
from mimic.sources.published.gibson import GibsonSource
from mimic.sources.published.hm3d import HM3DSource
from mimic.sources.published.matterport import MatterportSource
from mimic.sources.scenes import SceneSource, open_scene, placed, positions

QUERY_STRIDE = (
    7  # every so manieth point of a cloud is looked up in the other: the share comes out the same
)
LAYOUTS: dict[str, type[SceneSource]] = {
    "scenes": SceneSource,
    "hm3d": HM3DSource,
    "gibson": GibsonSource,
    "matterport": MatterportSource,
}


@dataclass(frozen=True, eq=False)
class Shot:
    """A rendered view."""

    camera: Camera
    pose: np.ndarray
    rgb: Image
    depth_m: np.ndarray
    points: np.ndarray  # of the world, f64 [n, 3]

    def image(self) -> Image:
        return self.rgb


class CovisibleSource(SceneSource):
    """See `config.Covisible` for the numbers."""

    def __init__(
        self,
        name: str,
        section: config.Covisible,
        root: Path,
        size_px: int,
        habitat: config.HabitatRuntime | None = None,
    ) -> None:
        super().__init__(name, section, root, size_px, habitat)
        self._rule = section
        self._k = covisibility.intrinsics_from_fov(
            section.render_px, section.render_px, section.hfov_deg
        )

    def scenes(self, files: list[str]) -> list[str]:
        return LAYOUTS[self._rule.layout](self.name, self._rule, self.root, self._size_px).scenes(
            files
        )

    def groups(
        self,
        clip: str,
        rng: np.random.Generator,
        resume_after: Position | None = None,
    ) -> Iterator[Group]:
        """At most one group a position; each position's randomness is its own.

        Raises:
            Unreadable: the scene cannot be read, or has no walkable floor that is large enough.
        """
        seeds = rng.integers(0, 2**63, self._rule.positions)
        with open_scene(self._rule, self._habitat, self.root / clip) as engine:
            for position, own_rng in positions(seeds, resume_after):
                try:
                    pair = self._pair(engine, own_rng)
                except (Unwalkable, EngineFailed) as problem:
                    raise Unreadable(str(problem)) from None
                if pair is not None:
                    yield placed(self._given(position, *pair), position, len(seeds))

    def _pair(self, engine: Engine, rng: np.random.Generator) -> tuple[Shot, Shot] | None:
        """Two views that see much the same; None when `tries` second views did not."""
        rule = self._rule
        floor_a = walker.start(engine, rng, rule.island_radius_min_m)
        a = self._shoot(engine, rng, floor_a, None)
        if not self._sees_enough(a):
            return None
        middle = a.points.mean(axis=0)
        for _ in range(rule.tries):
            floor_b = floor_a
            for step in rng.normal(0.0, rule.step_sigma_m, (rule.steps, 2)):
                floor_b = engine.try_step(floor_b, floor_b + [step[0], 0.0, step[1]])
            b = self._shoot(engine, rng, floor_b, middle)
            if not self._sees_enough(b):
                continue
            if (
                covisibility.cloud_overlap(a.points, b.points, rule.point_distance_m, QUERY_STRIDE)
                >= rule.overlap_min
            ):
                return a, b
        return None

    def _shoot(
        self, engine: Engine, rng: np.random.Generator, floor: np.ndarray, target: np.ndarray | None
    ) -> Shot:
        """A view from above a place on the floor, at a target or anywhere, jittered."""
        rule = self._rule
        position = floor + [0.0, rng.uniform(*rule.height_m), 0.0]
        yaw_deg, pitch_deg = (
            (rng.uniform(0.0, 360.0), 0.0) if target is None else aim(position, target)
        )
        pan, tilt, roll = rng.uniform(-1.0, 1.0, 3) * rule.jitter_deg
        level = walker.look(position, yaw_deg + pan, float(np.clip(pitch_deg + tilt, -90.0, 90.0)))
        camera = Camera(position, level.rotation @ _roll(roll))
        seen = engine.render(
            camera.position, camera.rotation, (rule.render_px, rule.render_px), rule.hfov_deg
        )
        pose = base.pose(camera.position, camera.rotation)
        return Shot(
            camera, pose, seen.rgb, seen.depth_m, covisibility.cloud(seen.depth_m, self._k, pose)
        )

    def _sees_enough(self, shot: Shot) -> bool:
        return float((shot.depth_m > 0).mean()) >= self._rule.valid_depth_min

    def _given(self, position: int, a: Shot, b: Shot) -> Group:
        def given() -> Correspondences:
            rule = self._rule
            return covisibility.patch_map(
                a.depth_m, b.depth_m, self._k, a.pose, b.pose, rule.patches, rule.depth_tolerance
            )

        views = tuple(
            View(f"{position:04d}{side}", shot.image, shot.pose)
            for side, shot in (("a", a), ("b", b))
        )
        return Group(views=views, pairs=((0, 1),), precomputed=given)


def aim(position: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch, degrees, of a camera that looks from one point at another."""
    x, y, z = target - position
    return float(np.degrees(np.arctan2(-x, -z))), float(np.degrees(np.arctan2(y, np.hypot(x, z))))


def _roll(roll_deg: float) -> np.ndarray:
    angle = np.radians(roll_deg)
    return np.array(
        [[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]]
    )
