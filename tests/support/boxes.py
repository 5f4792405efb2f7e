"""Scenes whose truth fits on a line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mimic.scenes.embree import Embree
from mimic.scenes.mesh import Mesh
from mimic.synthetic.builder import Builder, Paint

BOX = (5.0, 3.0, 4.0)  # x, y, z: from the origin


def room(builder: Builder, size: tuple[float, float, float] = BOX) -> None:
    """A closed box seen from inside."""
    x, y, z = size
    paint = Paint(0)
    builder.quad((0, 0, z), (x, 0, 0), (0, 0, -z), paint, builder.new("floor"))
    builder.quad((0, y, 0), (x, 0, 0), (0, 0, z), paint, builder.new("ceiling"))
    for corner, right in (
        ((0, 0, 0), (x, 0, 0)),
        ((x, 0, 0), (0, 0, z)),
        ((x, 0, z), (-x, 0, 0)),
        ((0, 0, z), (0, 0, -z)),
    ):
        builder.quad(corner, right, (0, y, 0), paint, builder.new("wall"))


def noise_texture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def engine_of(mesh: Mesh) -> Embree:
    engine = Embree("auto", texture_max_px=1024, lod_bias=0.0, agent_height_m=1.8)
    engine.show(mesh)
    return engine


def built(*parts: Callable[[Builder], None]) -> Embree:
    """An engine that shows what the functions put into a builder."""
    builder = Builder(np.random.default_rng(0))
    for part in parts:
        part(builder)
    return engine_of(builder.mesh((noise_texture(),), None))
