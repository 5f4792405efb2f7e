"""Scenes to test with: a bare box, whose truth fits on a line, and a furnished flat."""

from __future__ import annotations

import pytest
from boxes import built, engine_of, room

from mimic.scenes.embree import Embree
from mimic.scenes.mesh import Mesh
from mimic.synthetic import apartments


@pytest.fixture(scope="session")
def box() -> Embree:
    return built(room)


@pytest.fixture(scope="session")
def flat_mesh() -> Mesh:
    return apartments.build(seed=7, width_m=9.0, depth_m=7.0, height_m=2.6, texture_px=512)


@pytest.fixture(scope="session")
def flat(flat_mesh: Mesh) -> Embree:
    return engine_of(flat_mesh)
