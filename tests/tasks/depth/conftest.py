"""Depth tasks on the folder own/ of a test's workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimic.tasks.depth.config import DepthTask


@pytest.fixture
def own_task(depth_task: DepthTask) -> DepthTask:
    return depth_task.model_copy(update={"data": Path("own")})
