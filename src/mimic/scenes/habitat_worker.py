"""A program, not a module: habitat-sim behind a pipe.

Runs under habitat-sim's own Python (3.9, numpy, habitat_sim; nothing of this package) and does what
it is told on stdin, one scene per process: habitat-sim leaks scenes, allows one simulator per
process, and aborts the process when no GPU matches.

Protocol, both ways: one line of JSON; an answer's `arrays` lists [name, dtype, shape] whose raw
bytes follow the line in order. A request is {"call": <name>, ...arguments}; an answer holds "error"
when the call failed, and the worker lives on. Positions are metres, y up, -z forward; rotations are
quaternions [x, y, z, w], camera to world.
"""

import json
import os
import resource
import sys

import numpy as np

# habitat-sim logs to stdout; the pipe keeps a descriptor of its own and everything else goes to
# stderr.
_ANSWERS = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
# An abort is expected where no GPU matches: it should not leave gigabytes of core file behind.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class LoadedScene:
    """One simulator: `load` first, then points, steps and renderings."""

    def __init__(self):
        self.sim = None

    def probe(self):
        import habitat_sim

        # 0.3.4 still calls itself 0.3.3: the version is for people, code asks for features.
        return {
            "version": getattr(habitat_sim, "__version__", "unknown"),
            "python": sys.version.split()[0],
            "numpy": np.__version__,
        }, {}

    def load(
        self,
        scene,
        navmesh,
        dataset_config,
        resolution,
        hfov_deg,
        gpu_device_id,
        agent_height_m,
        agent_radius_m,
    ):
        import habitat_sim

        backend = habitat_sim.SimulatorConfiguration()
        backend.scene_id = scene  # a full path: names are matched by substring, first hit wins
        if dataset_config is not None:
            backend.scene_dataset_config_file = dataset_config
        backend.gpu_device_id = gpu_device_id
        backend.enable_physics = False
        backend.load_semantic_mesh = False
        sensors = []
        for uuid, kind in (
            ("rgb", habitat_sim.SensorType.COLOR),
            ("depth", habitat_sim.SensorType.DEPTH),
        ):
            sensor = habitat_sim.CameraSensorSpec()
            sensor.uuid = uuid
            sensor.sensor_type = kind
            sensor.resolution = list(resolution)
            sensor.position = [0.0, 0.0, 0.0]  # the caller places the camera itself, at any height
            sensor.hfov = hfov_deg
            sensors.append(sensor)
        agent = habitat_sim.agent.AgentConfiguration(
            height=agent_height_m, radius=agent_radius_m, sensor_specifications=sensors
        )
        self.sim = habitat_sim.Simulator(habitat_sim.Configuration(backend, [agent]))
        paths = self.sim.pathfinder
        if navmesh is not None:
            paths.load_nav_mesh(navmesh)
        if not paths.is_loaded:
            settings = habitat_sim.NavMeshSettings()
            settings.set_defaults()
            settings.agent_height = agent_height_m
            settings.agent_radius = agent_radius_m
            # Two arguments since 0.2.5. False where nothing can be walked on: the pathfinder then
            # stays unloaded.
            self.sim.recompute_navmesh(paths, settings)
        return {"navigable_area_m2": float(paths.navigable_area) if paths.is_loaded else 0.0}, {}

    def _walkable(self):
        """The pathfinder, or None where there is no navigation mesh: any call on an unloaded one
        kills the process (0.3.3)."""
        paths = self.sim.pathfinder
        return paths if paths.is_loaded else None

    def random_point(self, seed):
        paths = self._walkable()
        if paths is None:
            return {"point": None}, {}
        paths.seed(
            seed
            # C rand(), global to the process: seeded before every draw, or the order of draws would
            # matter
        )
        return {"point": _point(paths.get_random_navigable_point())}, {}

    def island_radius(self, point):
        paths = self._walkable()
        return {
            "radius_m": 0.0
            if paths is None
            else float(paths.island_radius(np.asarray(point, np.float32)))
        }, {}

    def is_navigable(self, point):
        paths = self._walkable()
        return {
            "navigable": paths is not None
            and bool(paths.is_navigable(np.asarray(point, np.float32)))
        }, {}

    def try_step(self, start, end):
        paths = self._walkable()
        if paths is None:
            return {"point": None}, {}
        return {
            "point": _point(
                paths.try_step(np.asarray(start, np.float32), np.asarray(end, np.float32))
            )
        }, {}

    def snap(self, point):
        paths = self._walkable()
        return {
            "point": None
            if paths is None
            else _point(paths.snap_point(np.asarray(point, np.float32)))
        }, {}

    def render(self, position, rotation):
        import habitat_sim

        state = habitat_sim.agent.AgentState(
            position=np.asarray(position, np.float32), rotation=list(rotation)
        )
        self.sim.get_agent(0).set_state(state)
        seen = self.sim.get_sensor_observations()
        return {}, {
            "rgb": np.asarray(seen["rgb"], np.uint8)[..., :3],
            "depth": np.asarray(seen["depth"], np.float32),
        }

    def close(self):
        if self.sim is not None:
            self.sim.close()
            self.sim = None
        return {}, {}


def _point(value):
    """numpy up to 0.3.0, magnum.Vector3 after; not-a-number (no such point) becomes None, which
    JSON can say."""
    point = np.asarray(value, np.float32)
    return [float(x) for x in point] if np.isfinite(point).all() else None


def _answer(fields, arrays):
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    fields["arrays"] = [
        [name, str(array.dtype), list(array.shape)] for name, array in arrays.items()
    ]
    _ANSWERS.write(json.dumps(fields).encode() + b"\n")
    for array in arrays.values():
        _ANSWERS.write(array.tobytes())
    _ANSWERS.flush()


def main():
    scene = LoadedScene()
    for line in sys.stdin:
        request = json.loads(line)
        call = request.pop("call")
        try:
            if call not in (
                "probe",
                "load",
                "random_point",
                "island_radius",
                "is_navigable",
                "try_step",
                "snap",
                "render",
                "close",
            ):
                raise ValueError("unknown call " + repr(call))
            fields, arrays = getattr(scene, call)(**request)
        except Exception as error:  # told to the caller, who decides; the worker lives on
            fields = {"error": f"{type(error).__name__}: {error}"}
            arrays = {}
        _answer(fields, arrays)
        if call == "close":
            break


if __name__ == "__main__":
    main()
