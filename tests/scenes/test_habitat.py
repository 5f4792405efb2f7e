"""The worker and its adapter, driven with a stand-in that has habitat-sim's surface and its bad
habits."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from mimic.errors import BadInput
from mimic.scenes import axes, habitat, habitat_process
from mimic.scenes.axes import DefaultUp, Up
from mimic.scenes.base import Unwalkable, heading
from mimic.scenes.embree import Embree
from mimic.scenes.habitat import Habitat
from mimic.scenes.habitat_process import HabitatDied, HabitatFailed, Worker
from mimic.synthetic import apartments, glb_writer
from tests.support import HABITAT_STAND_IN
from tests.support.stand_in import habitat_sim

LIFT = np.array([0.0, 0.2, 0.0])  # a computed navigation mesh lies one cell above the floor


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HABITAT_STAND_IN))


@pytest.fixture(scope="module")
def room(real_data: Path) -> Path:
    return real_data / "scenes3d" / "simple_room.glb"


def _engine(
    gpu_device_id: int = -1, timeout_s: float = 60.0, up: Up = "auto", default_up: DefaultUp = "z"
) -> Habitat:
    return Habitat(
        [sys.executable], timeout_s, gpu_device_id, None, (96, 64), 90.0, 1.5, 0.1, up, default_up
    )


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
        assert (
            engine.snap(point + [100.0, 0.0, 0.0]) is None
        )  # habitat-sim looks two metres around, not farther
        np.testing.assert_allclose(engine.snap(point), point, atol=1e-5)
        there = engine.try_step(point, point + [0.3, 0.0, 0.1])
        floor = point - LIFT
        np.testing.assert_allclose(
            there, direct.try_step(floor, floor + [0.3, 0.0, 0.1]) + LIFT, atol=1e-5
        )
        for yaw_deg in (0.0, 37.0, 200.0):
            eye = (point + [0.0, 1.4, 0.0]).astype(np.float32).astype(float)
            seen = engine.render(eye, heading(yaw_deg), (96, 64), 90.0)
            truth = direct.render(eye, heading(yaw_deg), (96, 64), 90.0)
            assert np.abs(seen.rgb.astype(int) - truth.rgb).mean() < 0.5
            assert np.median(np.abs(seen.depth_m - truth.depth_m)) < 1e-3
    finally:
        engine.close()


def test_a_wrong_gpu_is_a_message_and_not_the_end(room: Path) -> None:
    """It ends with status 1 and says which device it looked for; only then is a device the likely
    cause."""
    engine = _engine(gpu_device_id=0)
    with pytest.raises(
        HabitatFailed,
        match=r"ended with status 1 during load; it last said: .*unable to find CUDA device 0.*-1 "
        r"takes the first",
    ):
        engine.load(room)
    engine.close()


def test_a_worker_that_was_killed_between_two_calls_says_so_and_closes() -> None:
    worker = Worker([sys.executable], 60.0)
    worker.call("probe")
    os.kill(worker._process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker._process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(
        HabitatDied, match="the worker died of SIGKILL during probe; it last said: nothing"
    ):
        worker.call("probe")
    worker.close()
    assert worker._process.returncode == -signal.SIGKILL


def test_a_scene_that_kills_the_worker_is_to_blame_itself(room: Path, tmp_path: Path) -> None:
    """Damaged textures do; the empty stage opens, so nothing is said of devices, and no warning is
    quoted as a cause."""
    deadly = tmp_path / "crash-load.glb"
    shutil.copy(room, deadly)
    engine = _engine()
    with pytest.raises(
        BadInput, match=r"crash-load\.glb: .*died of SIGSEGV during load; it last said"
    ) as told:
        engine.load(deadly)
    assert "gpu_device_id" not in str(told.value)
    assert "no annotations" not in str(told.value)
    assert "mesa" not in str(told.value)
    engine.close()
    late = tmp_path / "crash-render.glb"
    shutil.copy(room, late)
    engine.load(late)
    point = engine.random_point(np.random.default_rng(0))
    with pytest.raises(HabitatDied, match="died of SIGSEGV during render"):
        engine.render(point, heading(0.0), (96, 64), 90.0)
    with pytest.raises(HabitatDied, match="died of SIGSEGV during random_point"):
        engine.random_point(np.random.default_rng(0))
    engine.close()


def test_a_scene_without_floor_is_unwalkable_and_the_worker_lives(tmp_path: Path) -> None:
    """No navigation mesh can be built: every call on the unloaded pathfinder would kill
    habitat-sim."""
    wall = tmp_path / "wall.glb"
    box = trimesh.creation.box((0.05, 0.05, 0.05))
    trimesh.Scene(box).export(wall)
    engine = _engine()
    engine.load(wall)
    with pytest.raises(Unwalkable, match="no navigable point"):
        engine.random_point(np.random.default_rng(0))
    point = np.zeros(3)
    assert engine.island_radius(point) == 0
    assert engine.snap(point) is None
    np.testing.assert_array_equal(engine.try_step(point, point + 1), point)
    assert engine.render(np.array([0.0, 0.0, 1.0]), heading(0.0), (96, 64), 90.0).depth_m.max() > 0
    engine.close()


Z_UP = {"up": [0, 0, 1], "front": [0, 1, 0], "scale": [1, 1, 1]}


@pytest.mark.parametrize(
    ("up", "default_up", "said"),
    [
        ("y", "z", None),
        ("y", "z", Z_UP),
        ("auto", "y", None),
        ("auto", "y", {"shader_type": "flat"}),
        ("auto", "z", {"up": [0, 1, 0]}),
        ("auto", "z", None),
        ("auto", "y", Z_UP),
    ],
)
def test_both_engines_take_the_same_axis_for_up(
    tmp_path: Path, up: Up, default_up: DefaultUp, said: dict | None
) -> None:
    """habitat-sim takes a bare file for z-up; it is told otherwise where need be, and what lies
    beside the file is left alone."""
    scene = tmp_path / "flat.glb"
    scene.write_bytes(glb_writer.to_glb(apartments.build(0, 8.0, 6.5, 2.6, 64)))
    if said is not None:
        axes.config_of(scene).write_text(json.dumps(said))
    driven = _engine(up=up, default_up=default_up)
    embedded = Embree(
        up, texture_max_px=1024, lod_bias=-0.5, agent_height_m=1.5, default_up=default_up
    )
    for engine in (driven, embedded):
        engine.load(scene)
    low, high = embedded.mesh.bounds()
    seen, truth = (
        engine.render((low + high) / 2, heading(30.0), (96, 64), 90.0)
        for engine in (driven, embedded)
    )
    assert (truth.depth_m > 0).any()
    np.testing.assert_allclose(seen.depth_m, truth.depth_m, atol=1e-3)
    driven.close()
    beside = sorted(path.name for path in tmp_path.iterdir() if path != scene)
    assert beside == ([] if said is None else ["flat.stage_config.json"])


def test_what_a_turned_scene_refers_to_lies_beside_its_link(tmp_path: Path) -> None:
    """habitat-sim looks for it beside the file that it is told to open."""
    scene = tmp_path / "room.glb"
    tree: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "images": [
            *({"uri": uri} for uri in ("pictures/a%20b.png", "c.png", "gone.png", "./d.png")),
            *({"uri": uri} for uri in (str(tmp_path / "c.png"), f"../{tmp_path.name}/c.png")),
            *({"uri": uri} for uri in ("room.stage_config.json", "room.glb", "gone/../c.png")),
        ],
        "buffers": [{"uri": "room.bin", "byteLength": 4}],
    }
    body = json.dumps(tree).encode()
    body += b" " * (-len(body) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(body), len(body), 0x4E4F534A)
    scene.write_bytes(head + body)
    (tmp_path / "pictures").mkdir()
    for name in ("pictures/a b.png", "c.png", "d.png", "room.bin", "another.glb"):
        (tmp_path / name).write_bytes(name.encode())
    axes.config_of(scene).write_text('{"up": [0, 0, 1]}')
    engine = _engine(up="y")
    link = engine._turned(scene)
    assert link.parent != tmp_path
    for name in ("pictures/a b.png", "c.png", "d.png", "room.bin"):
        assert (link.parent / name).read_bytes() == name.encode()
    assert sorted(path.name for path in link.parent.iterdir()) == [
        *("c.png", "d.png", "pictures", "room.bin", "room.glb", "room.stage_config.json"),
    ]
    assert axes.config_of(scene).read_text() == '{"up": [0, 0, 1]}'
    assert json.loads(axes.config_of(link).read_text())["up"] == [0, 1, 0]
    engine.close()
    assert not link.parent.exists()


def test_the_navigation_mesh_beside_a_configured_scene_is_used(room: Path, tmp_path: Path) -> None:
    """habitat-sim looks for one beside bare scenes only."""
    scene = tmp_path / "room.glb"
    shutil.copy(room, scene)
    axes.config_of(scene).write_text(json.dumps({"up": [0, 0, 1], "front": [0, 1, 0]}))
    engine = _engine()
    asked: list[Any] = []
    answers: list[Any] = []
    ask = engine._ask

    def noted(name: str, **given: Any) -> Any:
        asked.append(given.get("navmesh"))
        answers.append(ask(name, **given))
        return answers[-1]

    engine._ask = noted  # type: ignore[method-assign]
    engine.load(scene)
    assert asked[-1] is None
    assert answers[-1] == {"navigable_area_m2": habitat_sim.COMPUTED_AREA_M2}
    (tmp_path / "room.navmesh").touch()
    engine.load(scene)
    assert asked[-1] == str(tmp_path / "room.navmesh")
    assert answers[-1] == {"navigable_area_m2": habitat_sim.FILE_AREA_M2}
    axes.config_of(scene).unlink()  # habitat-sim finds it by itself, and nothing is computed
    engine.load(scene)
    assert answers[-1] == {"navigable_area_m2": habitat_sim.FILE_AREA_M2}
    engine.close()


def test_what_is_missing_or_damaged_is_one_short_line(room: Path, tmp_path: Path) -> None:
    engine = _engine()
    with pytest.raises(BadInput, match=r"gone\.glb: no such file$"):
        engine.load(tmp_path / "gone.glb")
    scene = tmp_path / "room.glb"
    shutil.copy(room, scene)
    axes.config_of(scene).write_text("{up")
    with pytest.raises(BadInput, match=r"room\.stage_config\.json: not readable as JSON"):
        engine.load(scene)
    axes.config_of(scene).write_text("[]")
    with pytest.raises(BadInput, match="holds no JSON object"):
        engine.load(scene)
    axes.config_of(scene).unlink()
    scene.write_bytes(b"glTF" + bytes(40))
    with pytest.raises(BadInput, match="ESP_CHECK failed: Error loading general mesh data"):
        engine.load(scene)
    engine.close()


def test_an_error_inside_is_named_and_the_worker_lives_on() -> None:
    worker = Worker([sys.executable], 60.0)
    with pytest.raises(HabitatFailed, match="random_point: AttributeError"):
        worker.call("random_point", seed=1)
    with pytest.raises(HabitatFailed, match="unknown call '__init__'"):
        worker.call("__init__")
    assert worker.call("probe")[0]["version"] == "0.3.3"
    worker.close()


@pytest.mark.parametrize("answer", ["loading profile", "{}", "5"])
def test_a_command_that_prints_something_else_says_so(answer: str) -> None:
    """As a container's entry point or a login shell does."""
    worker = Worker(["sh", "-c", f"echo '{answer}'; cat"], 60.0)
    with pytest.raises(HabitatFailed, match=f"habitat.command: answered '{answer}', not as mimic"):
        worker.call("probe")
    worker.close()


def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    engine = _engine(timeout_s=12.0)  # in which a busy machine opens the empty stage
    (tmp_path / "slow.glb").touch()
    with pytest.raises(
        BadInput, match=r"slow\.glb: .*load took longer than 12 s"
    ):  # the empty stage opens: this scene is to blame
        engine.load(tmp_path / "slow.glb")
    engine.close()


def test_a_python_without_habitat_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(HabitatFailed, match="No module named 'habitat_sim'"):
        habitat.probe([sys.executable], 60.0)
    with pytest.raises(BadInput, match="cannot start 'no-such-program'"):
        habitat.probe(["no-such-program"], 60.0)


def test_the_worker_is_python_3_9_and_imports_nothing_of_ours() -> None:
    tree = ast.parse(habitat_process.WORKER.read_text(), feature_version=(3, 9))
    imported = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert imported == {"json", "os", "resource", "sys", "numpy", "habitat_sim"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Match)]
