"""A stand-in for habitat_sim 0.3.x with the surface that the worker may use, and nothing more, drawn by the embedded engine.

Unknown attributes are errors, positions and rotations follow habitat-sim's conventions (camera along -z, y up, quaternions xyzw when
given as a list, RGBA images, planar depth), and it misbehaves as habitat-sim does: it writes to stdout, and aborts the whole
process when a GPU is asked for that is not there.
"""

from __future__ import annotations

import os
import time
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.spatial.transform import Rotation

from mimic.worlds.embree import Embree

__version__ = "0.3.3"


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
        "scene_id": "", "scene_dataset_config_file": "default", "random_seed": 0, "gpu_device_id": 0, "default_agent_id": 0,
        "allow_sliding": True, "create_renderer": True, "requires_textures": True, "load_semantic_mesh": True, "enable_physics": False,
        "frustum_culling": True, "override_scene_light_defaults": False, "scene_light_setup": "no_lights", "navmesh_settings": None,
    }  # fmt: skip


class SensorType(Enum):
    COLOR = 1
    DEPTH = 2
    SEMANTIC = 4


class CameraSensorSpec(_Strict):
    _fields = {
        "uuid": "", "sensor_type": None, "sensor_subtype": None, "resolution": [128, 128], "position": [0, 1.5, 0],
        "orientation": [0, 0, 0],
        "hfov": 90.0, "near": 0.01, "far": 1000.0, "clear_color": None, "channels": 4, "noise_model": "None",
    }  # fmt: skip


class NavMeshSettings(_Strict):
    _fields = {"agent_height": 0.0, "agent_radius": 0.0, "cell_size": 0.0, "include_static_objects": False}

    def set_defaults(self) -> None:
        self.agent_height, self.agent_radius, self.cell_size = 1.5, 0.1, 0.05


class _AgentConfiguration:
    def __init__(self, height=1.5, radius=0.1, sensor_specifications=None, action_space=None) -> None:
        self.sensor_specifications = sensor_specifications or []


class _AgentState:
    def __init__(self, position=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.0, 1.0), sensor_states=None) -> None:
        if not np.isfinite(position).all():
            raise ValueError("position must be finite")
        self.position, self.rotation = np.asarray(position), list(rotation)


agent = SimpleNamespace(AgentConfiguration=_AgentConfiguration, AgentState=_AgentState)


class Configuration:
    def __init__(self, sim_cfg, agents, metadata_mediator=None, enable_batch_renderer=False) -> None:
        self.sim_cfg, self.agents = sim_cfg, agents


class _PathFinder:
    def __init__(self, engine: Embree) -> None:
        self._engine, self._rng, self.is_loaded = engine, np.random.default_rng(0), False

    navigable_area = 10.0

    def seed(self, n: int) -> None:
        self._rng = np.random.default_rng(n)

    def load_nav_mesh(self, path: str) -> bool:
        self.is_loaded = Path(path).exists()
        return self.is_loaded

    def get_random_navigable_point(self, max_tries=10, island_index=-1):
        return np.asarray(self._engine.random_point(self._rng), np.float32)

    def island_radius(self, pt):
        return self._engine.island_radius(np.asarray(pt, float))

    def is_navigable(self, pt, max_y_delta=0.5):
        return self._engine.snap(np.asarray(pt, float)) is not None

    def try_step(self, start, end):
        return np.asarray(self._engine.try_step(np.asarray(start, float), np.asarray(end, float)), np.float32)

    def snap_point(self, pt):
        snapped = self._engine.snap(np.asarray(pt, float))
        return np.full(3, np.nan, np.float32) if snapped is None else np.asarray(snapped, np.float32)


class _Agent:
    def __init__(self) -> None:
        self.state = _AgentState()

    def set_state(self, state, reset_sensors=True, infer_sensor_states=True, is_initial=False) -> None:
        self.state = state


class Simulator:
    def __init__(self, config: Configuration) -> None:
        os.write(1, b"[Metadata] AttributesManagersBase.h(283) : a line on stdout, as the C++ side prints\n")
        backend = config.sim_cfg
        if backend.gpu_device_id >= 0:
            os.write(2, b"WindowlessContext: unable to find EGL device for CUDA device 0\n")
            os.abort()
        if "slow" in backend.scene_id:
            time.sleep(60)
        self._sensors = config.agents[0].sensor_specifications
        self._agent = _Agent()
        engine = Embree(up="auto", texture_max_px=1024, lod_bias=-0.5, agent_height_m=1.5)
        engine.load(Path(backend.scene_id))
        self._engine, self.pathfinder = engine, _PathFinder(engine)

    def recompute_navmesh(self, pathfinder, navmesh_settings) -> bool:
        pathfinder.is_loaded = True
        return True

    def get_agent(self, agent_id: int) -> _Agent:
        return self._agent

    def get_sensor_observations(self, agent_ids: int = 0) -> dict:
        rotation = Rotation.from_quat(self._agent.state.rotation).as_matrix()
        observations = {}
        for sensor in self._sensors:
            height, width = sensor.resolution
            centre = self._agent.state.position + rotation @ np.asarray(sensor.position, float)
            seen = self._engine.render(centre.astype(float), rotation, (width, height), sensor.hfov)
            opaque = np.full((height, width, 1), 255, np.uint8)
            observations[sensor.uuid] = np.concatenate([seen.rgb, opaque], -1) if sensor.sensor_type is SensorType.COLOR else seen.depth_m
        return observations

    def close(self, destroy: bool = True) -> None:
        self._engine.close()
