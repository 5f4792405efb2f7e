"""habitat-sim behind the engine interface, in a process of its own (habitat_process.py).

One worker per scene: habitat-sim keeps every scene it ever loaded, and when no GPU matches it
aborts the process, which here is a message and not the end of the miner.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from mimic.errors import BadInput
from mimic.scenes import axes
from mimic.scenes.axes import DefaultUp, Up, config_of, stage_config
from mimic.scenes.base import Point, Rendering, Rotation, Unwalkable
from mimic.scenes.gltf import references
from mimic.scenes.habitat_process import HabitatDied, HabitatFailed, HabitatSlow, Worker

RANDOM_POINT_TRIES = 10
NO_SCENE = "NONE"  # habitat-sim's name for an empty stage
NO_DEVICE = (
    "no EGL device matches gpu_device_id? -1 takes the first one, Mesa's software renderer included"
)


class Habitat:
    """Implements scenes.base.Engine.

    Args:
        command, timeout_s: see Worker.
        gpu_device_id: CUDA ordinal to render on; -1 = the first EGL device, on a machine without a
            GPU the CPU.
        dataset_config: a scene_dataset_config.json; only semantics need one.
        size_px, hfov_deg: of every rendering: habitat-sim fixes them when a scene is loaded.
        agent_height_m, agent_radius_m: of the navigation mesh, where the scene brings none.
        up, default_up: the file's upward axis, the same as for the embedded engine; see
        axes.resolve.
    """

    name = "habitat"

    def __init__(
        self,
        command: Sequence[str],
        timeout_s: float,
        gpu_device_id: int,
        dataset_config: Path | None,
        size_px: tuple[int, int],
        hfov_deg: float,
        agent_height_m: float,
        agent_radius_m: float,
        up: Up,
        default_up: DefaultUp = "y",
    ) -> None:
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._gpu_device_id = gpu_device_id
        self._dataset_config = dataset_config
        self._size_px = size_px
        self._hfov_deg = hfov_deg
        self._agent = {"agent_height_m": agent_height_m, "agent_radius_m": agent_radius_m}
        self._up: Up = up
        self._default_up: DefaultUp = default_up
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._worker: Worker | None = None

    def load(self, scene: Path) -> None:
        """Start a worker and read a scene.

        Raises:
            BadInput: the scene is at fault, even where habitat-sim died of it.
            HabitatFailed: habitat-sim is: it does not import, or no scene at all opens.
        """
        refuse_missing(scene)
        self._start()
        scene = Path(
            os.path.abspath(scene)
        )  # not resolved: what lies beside a link to a scene counts
        stage = self._turned(scene)
        navmesh = (
            scene.with_suffix(".navmesh") if stage == scene else None
        )  # a mesh of the scene as habitat-sim reads it
        try:
            self._open(str(stage), navmesh if navmesh is not None and navmesh.is_file() else None)
        except HabitatDied as died:
            self.refuse_if_none_opens()
            raise BadInput(f"{scene}: {died}") from None
        except HabitatFailed as failed:
            raise BadInput(f"{scene}: {failed}") from None

    def _turned(self, scene: Path) -> Path:
        """The scene, or a link to it (and to what it refers to) beside a stage_config.json of ours
        where habitat-sim would take another axis for up."""
        resolved = axes.resolve(scene, self._up, self._default_up)
        if resolved.habitat_agrees:
            return scene
        self._folder = tempfile.TemporaryDirectory(prefix="mimic-stage-")
        link = Path(self._folder.name) / scene.name
        link.symlink_to(scene)
        stated = {"render_asset": scene.name, "up": resolved.up, "front": resolved.front}
        config = {**(stage_config(scene) or {}), **stated}
        config_of(link).write_text(json.dumps(config))
        for name in {Path(uri).parts[0] for uri, _ in references(scene)}:
            beside = scene.parent / name
            # neither what is written already nor the root and the parent, as a path may begin
            if beside.parent == scene.parent and name != ".." and beside.exists():
                with contextlib.suppress(FileExistsError):
                    (link.parent / name).symlink_to(beside)
        return link

    def _start(self) -> None:
        self.close()
        self._worker = Worker(self._command, self._timeout_s)
        self._ask("probe")

    def refuse_if_none_opens(self) -> None:
        """Open the empty stage: where that kills habitat-sim too, no scene is to blame."""
        self._start()
        try:
            self._open(NO_SCENE, None)
        except HabitatSlow:
            raise
        except HabitatDied as died:
            raise HabitatDied(f"{died}; {NO_DEVICE}") from None
        except HabitatFailed:
            pass  # an answer is a sign of life

    def _open(self, scene: str, navmesh: Path | None) -> None:
        width, height = self._size_px
        self._ask(
            "load",
            scene=scene,
            navmesh=None if navmesh is None else str(navmesh.resolve()),
            dataset_config=None
            if self._dataset_config is None
            else str(self._dataset_config.resolve()),
            resolution=[height, width],
            hfov_deg=self._hfov_deg,
            gpu_device_id=self._gpu_device_id,
            **self._agent,
        )

    def random_point(self, rng: np.random.Generator) -> Point:
        for _ in range(
            RANDOM_POINT_TRIES
        ):  # a draw fails now and then; the walkable area is then not empty yet
            point = self._ask("random_point", seed=int(rng.integers(2**31)))["point"]
            if point is not None:
                return np.asarray(point, np.float64)
        raise Unwalkable(
            "habitat-sim finds no navigable point: no navigation mesh, or an empty one"
        )

    def island_radius(self, point: Point) -> float:
        return float(self._ask("island_radius", point=_listed(point))["radius_m"])

    def try_step(self, start: Point, end: Point) -> Point:
        reached = self._ask("try_step", start=_listed(start), end=_listed(end))["point"]
        return start if reached is None else np.asarray(reached, np.float64)

    def snap(self, point: Point) -> Point | None:
        snapped = self._ask("snap", point=_listed(point))["point"]
        return None if snapped is None else np.asarray(snapped, np.float64)

    def render(
        self,
        position: Point,
        world_from_camera: Rotation,
        size_px: tuple[int, int],
        hfov_deg: float,
    ) -> Rendering:
        if (size_px, hfov_deg) != (self._size_px, self._hfov_deg):
            raise ValueError(
                f"this scene was loaded for {self._size_px} pixels and {self._hfov_deg} degrees"
            )
        assert self._worker is not None, "load a scene first"
        _, arrays = self._worker.call(
            "render", position=_listed(position), rotation=quaternion(world_from_camera).tolist()
        )
        return Rendering(
            rgb=arrays["rgb"], depth_m=arrays["depth"], normal=None, class_id=None, instance=None
        )

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        assert self._worker is not None, "load a scene first"
        return self._worker.call(name, **arguments)[0]


def refuse_missing(scene: Path) -> None:
    """BadInput in few words, where habitat-sim speaks of attributes and templates."""
    if not scene.is_file():
        raise BadInput(f"{scene}: no such file")
    stage_config(scene)


def probe(command: Sequence[str], timeout_s: float) -> dict[str, str]:
    """Versions found under habitat's Python: {"version", "python", "numpy"}; nothing is rendered.

    Raises:
        BadInput, HabitatFailed: the command does not start, or habitat_sim does not import.
    """
    worker = Worker(command, timeout_s)
    try:
        return worker.call("probe")[0]
    finally:
        worker.close()


def open_nothing(command: Sequence[str], timeout_s: float, gpu_device_id: int) -> None:
    """Open the empty stage, which needs all that rendering needs.

    Raises:
        BadInput, HabitatFailed: the command does not start, habitat_sim does not import, or it dies
        for want of a device.
    """
    engine = Habitat(command, timeout_s, gpu_device_id, None, (64, 64), 90.0, 1.5, 0.1, "auto")
    try:
        engine.refuse_if_none_opens()
    finally:
        engine.close()


def quaternion(rotation: Rotation) -> Float64[np.ndarray, "4"]:
    """[x, y, z, w] of a rotation matrix, w >= 0 (Shepperd's method: divide by the largest
    component)."""
    m = rotation
    w = 1 + np.trace(m)
    x, y, z = 1 + 2 * np.diag(m) - np.trace(m)
    candidates = (
        (x, [x, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]]),
        (y, [m[0, 1] + m[1, 0], y, m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]]),
        (z, [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], z, m[1, 0] - m[0, 1]]),
        (w, [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], w]),
    )
    largest = np.array(max(candidates, key=lambda candidate: candidate[0])[1], np.float64)
    largest /= np.linalg.norm(largest)
    return -largest if largest[3] < 0 else largest


def _listed(point: Point) -> list[float]:
    return [float(x) for x in point]
