"""A stand-in for habitat_sim 0.3.x with the surface that the worker may use, and nothing more,
drawn by the embedded engine.

Unknown attributes are errors, positions and rotations follow habitat-sim's conventions (camera
along -z, y up, quaternions xyzw when given as a list, RGBA images, planar depth), and it misbehaves
as the real one was seen to (0.3.3, Mesa): it writes to stdout, ends the process when a GPU is asked
for that is not there, and is killed by calls on a pathfinder without a mesh and by scenes it cannot
read. What makes a scene deadly is its name: `crash-load` and `crash-render`, as damaged textures
do; `slow` never ends to load.
"""

from __future__ import annotations

import os
import signal
import time
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mimic.errors import BadInput
from mimic.scenes.base import Unwalkable
from mimic.scenes.embree import Embree

__version__ = "0.3.3"
CELL_M = 0.2  # a computed mesh lies this far above the floor
SNAP_M = 2.0  # farther from the mesh, snapping finds nothing
LIFT = np.array([0.0, CELL_M, 0.0])
COMPUTED_AREA_M2 = 10.0  # of any mesh that is computed
FILE_AREA_M2 = 20.0  # of any that is read


def _die(name: signal.Signals) -> None:
    os.kill(os.getpid(), name)
    time.sleep(60)


class _Strict:
    """Only the attributes named in _fields exist."""

    _fields: dict = {}

    def __init__(self) -> None:
        for name, value in self._fields.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self._fields:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        object.__setattr__(self, name, value)


class SimulatorConfiguration(_Strict):
    _fields = {
        "scene_id": "",
        "scene_dataset_config_file": "default",
        "random_seed": 0,
        "gpu_device_id": 0,
        "default_agent_id": 0,
        "allow_sliding": True,
        "create_renderer": True,
        "requires_textures": True,
        "load_semantic_mesh": True,
        "enable_physics": False,
        "frustum_culling": True,
        "override_scene_light_defaults": False,
        "scene_light_setup": "no_lights",
        "navmesh_settings": None,
    }


class SensorType(Enum):
    COLOR = 1
    DEPTH = 2
    SEMANTIC = 4


class CameraSensorSpec(_Strict):
    _fields = {
        "uuid": "",
        "sensor_type": None,
        "sensor_subtype": None,
        "resolution": [128, 128],
        "position": [0, 1.5, 0],
        "orientation": [0, 0, 0],
        "hfov": 90.0,
        "near": 0.01,
        "far": 1000.0,
        "clear_color": None,
        "channels": 4,
        "noise_model": "None",
    }


class NavMeshSettings(_Strict):
    _fields = {
        "agent_height": 0.0,
        "agent_radius": 0.0,
        "cell_size": 0.0,
        "include_static_objects": False,
    }

    def set_defaults(self) -> None:
        self.agent_height, self.agent_radius, self.cell_size = 1.5, 0.1, 0.05


class _AgentConfiguration:
    def __init__(
        self,
        height: Any = 1.5,
        radius: Any = 0.1,
        sensor_specifications: Any = None,
        action_space: Any = None,
    ) -> None:
        self.sensor_specifications = sensor_specifications or []


class _AgentState:
    def __init__(
        self,
        position: Any = (0.0, 0.0, 0.0),
        rotation: Any = (0.0, 0.0, 0.0, 1.0),
        sensor_states: Any = None,
    ) -> None:
        if not np.isfinite(position).all():
            raise ValueError("position must be finite")
        self.position, self.rotation = np.asarray(position), list(rotation)


agent = SimpleNamespace(AgentConfiguration=_AgentConfiguration, AgentState=_AgentState)


class Configuration:
    def __init__(
        self,
        sim_cfg: Any,
        agents: Any,
        metadata_mediator: Any = None,
        enable_batch_renderer: Any = False,
    ) -> None:
        self.sim_cfg, self.agents = sim_cfg, agents


class _PathFinder:
    def __init__(self, engine: Embree | None) -> None:
        self._engine, self._rng, self.is_loaded = engine, np.random.default_rng(0), False
        self._area_m2 = 0.0

    def _mesh(self) -> Embree:
        if not self.is_loaded:
            _die(signal.SIGSEGV)
        assert self._engine is not None
        return self._engine

    @property
    def navigable_area(self) -> float:
        self._mesh()
        return self._area_m2

    def seed(self, n: int) -> None:
        self._rng = np.random.default_rng(n)

    def load_nav_mesh(self, path: str) -> bool:
        self.is_loaded = Path(path).exists()
        self._area_m2 = FILE_AREA_M2
        return self.is_loaded

    def built(self) -> None:
        self.is_loaded = True
        self._area_m2 = COMPUTED_AREA_M2

    def get_random_navigable_point(self, max_tries: Any = 10, island_index: Any = -1) -> Any:
        return np.asarray(self._mesh().random_point(self._rng) + LIFT, np.float32)

    def island_radius(self, pt: Any) -> Any:
        return self._mesh().island_radius(np.asarray(pt, float) - LIFT)

    def is_navigable(self, pt: Any, max_y_delta: Any = 0.5) -> Any:
        return self._mesh().snap(np.asarray(pt, float) - LIFT) is not None

    def try_step(self, start: Any, end: Any) -> Any:
        reached = self._mesh().try_step(
            np.asarray(start, float) - LIFT, np.asarray(end, float) - LIFT
        )
        return np.asarray(reached + LIFT, np.float32)

    def snap_point(self, pt: Any) -> Any:
        snapped = self._mesh().snap(np.asarray(pt, float) - LIFT)
        if snapped is None or np.linalg.norm(snapped + LIFT - pt) > SNAP_M:
            return np.full(3, np.nan, np.float32)
        return np.asarray(snapped + LIFT, np.float32)


class _Agent:
    def __init__(self) -> None:
        self.state = _AgentState()

    def set_state(
        self,
        state: Any,
        reset_sensors: Any = True,
        infer_sensor_states: Any = True,
        is_initial: Any = False,
    ) -> None:
        self.state = state


class Simulator:
    def __init__(self, config: Configuration) -> None:
        os.write(
            1,
            b"[Metadata] AttributesManagersBase.h(283) : a line on stdout, "
            b"as the C++ side prints\n",
        )
        backend = config.sim_cfg
        if backend.gpu_device_id >= 0:
            os.write(
                2,
                b"Platform::WindowlessEglApplication::tryCreateContext(): "
                b"unable to find CUDA device 0 among 1 EGL devices in total\n",
            )
            os.write(2, b"WindowlessContext: Unable to create windowless context\n")
            os._exit(1)
        if os.environ.get("MAGNUM_LOG") != "quiet":
            os.write(2, b"    mesa-forward-compatible-line-width-range\n")
        os.write(
            2,
            b"[12:00:00:0]:[Warning]:[Scene] SemanticScene.h(1)::no annotations: "
            b"not the cause of anything\n",
        )
        time.sleep(float(os.environ.get("STAND_IN_LOADS_FOR_S", "0")))
        if "slow" in backend.scene_id:
            time.sleep(60)
        if "crash-load" in backend.scene_id:
            _die(signal.SIGSEGV)
        self._deadly = "crash-render" in backend.scene_id
        self._sensors = config.agents[0].sensor_specifications
        self._agent = _Agent()
        self._engine = None if backend.scene_id == "NONE" else _loaded(Path(backend.scene_id))
        self.pathfinder = _PathFinder(self._engine)
        beside = Path(backend.scene_id).with_suffix(".navmesh")
        if beside.exists() and not _stage_config(Path(backend.scene_id)).exists():
            self.pathfinder.load_nav_mesh(str(beside))

    def recompute_navmesh(self, pathfinder: Any, navmesh_settings: Any) -> bool:
        if self._engine is None:
            raise AssertionError("ESP_CHECK failed: no mesh to compute a navigation mesh of")
        try:
            self._engine.random_point(np.random.default_rng(0))
        except Unwalkable:
            os.write(2, b"[Error]:[Nav] PathFinder.cpp(1)::Could not build Detour navmesh\n")
            return False
        pathfinder.built()
        return True

    def get_agent(self, agent_id: int) -> _Agent:
        return self._agent

    def get_sensor_observations(self, agent_ids: int = 0) -> dict:
        if self._deadly:
            _die(signal.SIGSEGV)
        assert self._engine is not None
        rotation = Rotation.from_quat(self._agent.state.rotation).as_matrix()
        observations = {}
        for sensor in self._sensors:
            height, width = sensor.resolution
            centre = self._agent.state.position + rotation @ np.asarray(sensor.position, float)
            seen = self._engine.render(centre.astype(float), rotation, (width, height), sensor.hfov)
            opaque = np.full((height, width, 1), 255, np.uint8)
            observations[sensor.uuid] = (
                np.concatenate([seen.rgb, opaque], -1)
                if sensor.sensor_type is SensorType.COLOR
                else seen.depth_m
            )
        return observations

    def close(self, destroy: bool = True) -> None:
        if self._engine is not None:
            self._engine.close()


def _stage_config(scene: Path) -> Path:
    return scene.with_name(f"{scene.stem}.stage_config.json")


def _loaded(scene: Path) -> Embree:
    """z is up where no stage_config.json says otherwise."""
    if not scene.exists():
        raise AssertionError(
            f"ESP_CHECK failed: No Stage Attributes exists for requested scene '{scene}'. Likely "
            "cause is the dataset."
        )
    engine = Embree("auto", texture_max_px=1024, lod_bias=-0.5, agent_height_m=1.5, default_up="z")
    try:
        engine.load(scene)
    except BadInput:
        raise AssertionError(
            f"ESP_CHECK failed: Error loading general mesh data from file '{scene}'"
        ) from None
    return engine
