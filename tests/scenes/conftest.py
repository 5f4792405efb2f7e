"""A bare box, whose truth fits on a line."""

from __future__ import annotations

import pytest

from mimic.scenes.embree import Embree
from tests.support.boxes import built, room


@pytest.fixture(scope="session")
def box() -> Embree:
    return built(room)
