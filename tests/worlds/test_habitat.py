"""The worker and its adapter, driven with a stand-in that has habitat-sim's surface and its bad habits."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.worlds import habitat
from mimic.worlds.base import heading
from mimic.worlds.embree import Embree
from mimic.worlds.habitat import Habitat, HabitatFailed, Worker

STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))


@pytest.fixture(scope="module")
def room(real_data: Path) -> Path:
    return real_data / "scenes3d" / "simple_room.glb"


def _engine(gpu_device_id: int = -1, timeout_s: float = 60.0) -> Habitat:
    return Habitat([sys.executable], timeout_s, gpu_device_id, None, (96, 64), 90.0, 1.5, 0.1)


def test_the_adapter_sees_what_the_engine_behind_it_sees(room: Path) -> None:
    """Rotations, positions, image order and depth survive the pipe."""
    direct = Embree(up="auto", texture_max_px=1024, lod_bias=-0.5, agent_height_m=1.5)
    direct.load(room)
    engine = _engine()
    engine.load(room)
    try:
        point = engine.random_point(np.random.default_rng(3))
        np.testing.assert_array_equal(point, engine.random_point(np.random.default_rng(3)))
        assert engine.island_radius(point) > 1
        assert engine.snap(point + [100.0, 0.0, 0.0]) is None or direct.snap(point + [100.0, 0.0, 0.0]) is not None
        there = engine.try_step(point, point + [0.3, 0.0, 0.1])
        np.testing.assert_allclose(there, direct.try_step(point, point + [0.3, 0.0, 0.1]), atol=1e-5)
        for yaw_deg in (0.0, 37.0, 200.0):
            eye = (point + [0.0, 1.4, 0.0]).astype(np.float32).astype(float)
            seen = engine.render(eye, heading(yaw_deg), (96, 64), 90.0)
            truth = direct.render(eye, heading(yaw_deg), (96, 64), 90.0)
            assert np.abs(seen.rgb.astype(int) - truth.rgb).mean() < 0.5
            assert np.median(np.abs(seen.depth_m - truth.depth_m)) < 1e-3
    finally:
        engine.close()


def test_an_abort_is_a_message_and_not_the_end(room: Path) -> None:
    engine = _engine(gpu_device_id=0)
    with pytest.raises(HabitatFailed, match=r"died of SIGABRT during load.*-1 takes the first.*unable to find EGL device"):
        engine.load(room)
    engine.close()


def test_an_error_inside_is_named_and_the_worker_lives_on() -> None:
    worker = Worker([sys.executable], 60.0)
    with pytest.raises(HabitatFailed, match="random_point: AttributeError"):
        worker.call("random_point", seed=1)
    with pytest.raises(HabitatFailed, match="unknown call '__init__'"):
        worker.call("__init__")
    assert worker.call("probe")[0]["version"] == "0.3.3"
    worker.close()


def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    engine = _engine(timeout_s=3.0)
    with pytest.raises(BadInput, match=r"slow\.glb: .*load took longer than 3 s"):  # the empty stage opens: this scene is to blame
        engine.load(tmp_path / "slow.glb")
    engine.close()


def test_a_python_without_habitat_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(HabitatFailed, match="No module named 'habitat_sim'"):
        habitat.probe([sys.executable], 60.0)
    with pytest.raises(BadInput, match="cannot start 'no-such-program'"):
        habitat.probe(["no-such-program"], 60.0)


def test_the_worker_is_python_3_9_and_imports_nothing_of_ours() -> None:
    tree = ast.parse(habitat.WORKER.read_text(), feature_version=(3, 9))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"json", "os", "resource", "sys", "numpy", "habitat_sim"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Match)]
