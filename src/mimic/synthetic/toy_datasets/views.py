"""Renderings of generated flats, for the sets that need pictures with labels."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from mimic.config import LabelledViews
from mimic.scenes import walker
from mimic.scenes.base import Rendering
from mimic.scenes.embree import Embree
from mimic.scenes.walker import Camera
from mimic.synthetic import apartments

LOD_BIAS = -0.5
AGENT_HEIGHT_M = 1.8
ISLAND_RADIUS_MIN_M = 2.0
NEAREST_M = 0.4  # a median nearer is a wall in the face


@functools.lru_cache(maxsize=1)
def engine(section: LabelledViews, scene: int) -> Embree:
    """Flat number `scene`, ready to be seen."""
    flat = section.flat
    world = Embree("y", flat.texture_px, LOD_BIAS, AGENT_HEIGHT_M)
    world.show(
        apartments.build(
            section.first_seed + scene, flat.width_m, flat.depth_m, flat.height_m, flat.texture_px
        )
    )
    return world


def intrinsics(width: int, height: int, hfov_deg: float) -> np.ndarray:
    """The 3 x 3 matrix of the renderings; pixel centres at integers."""
    focal_px = width / 2 / np.tan(np.radians(hfov_deg) / 2)
    return np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])


def render(
    section: LabelledViews, scene: int, count: int, hfov_deg: float
) -> Iterator[tuple[Camera, Rendering]]:
    """`count` views of flat number `scene`, from places all over it, looking a little down into the
    room."""
    world = engine(section, scene)
    rng = np.random.default_rng([section.first_seed + scene, 5])
    while count:
        floor = walker.start(world, rng, ISLAND_RADIUS_MIN_M)
        position = floor + [0.0, rng.uniform(1.2, 1.6), 0.0]
        camera = walker.look(
            position, walker.open_heading(world, rng, floor), float(rng.normal(-8, 5))
        )
        rendering = world.render(
            camera.position, camera.rotation, (section.width_px, section.height_px), hfov_deg
        )
        if np.median(rendering.depth_m) > NEAREST_M:
            count -= 1
            yield camera, rendering
