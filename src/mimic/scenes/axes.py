"""Which way is up in a .glb file: one answer, whichever engine reads it.

In this order: what the parameter `up` (or `--up`) says, what `<name>.stage_config.json` beside the
file says (`up`, `front`; `scale` and `units_to_meters` count in any case), and the reader's
default: y, as glTF 2.0 (section 3.4) says, or z for the scans of HM3D, Gibson and Matterport3D,
which are z-up as habitat-sim takes any bare .glb.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from mimic.errors import BadInput

Up = Literal["y", "z", "auto"]
DefaultUp = Literal["y", "z"]
AXES = {
    "y": {"up": [0, 1, 0], "front": [0, 0, -1]},
    "z": {"up": [0, 0, 1], "front": [0, 1, 0]},
}
BY_DEFAULT = {"y": "as glTF 2.0 says", "z": "as scans of this kind are"}


@dataclass(frozen=True, eq=False)
class Axes:
    """How a file is turned upright.

    up, front: unit vectors in the file's axes.
    world_from_file: to metres, y up, -z forward.
    why: who says so, for example "as glTF 2.0 says".
    habitat_agrees: habitat-sim, left to itself, would take the same.
    """

    up: tuple[float, ...]
    front: tuple[float, ...]
    world_from_file: Float64[np.ndarray, "3 3"]
    why: str
    habitat_agrees: bool

    @property
    def note(self) -> str:
        """For example "y is up, as glTF 2.0 says"."""
        return f"{_name(self.up)} is up, {self.why}"


def resolve(path: Path, up: Up, default_up: DefaultUp) -> Axes:
    """Which way is up in a file, and why.

    Args:
        path: the .glb file.
        up: the parameter; auto = the stage_config.json beside the file, and `default_up` without
            one.
        default_up: of files of this kind.

    Raises:
        BadInput: the stage_config.json beside the file makes no sense.
    """
    stated = stage_config(path)
    config = stated or {}
    if up != "auto":
        axes = AXES[up]
        why = f"as `up: {up}` says"
    elif "up" in config or "front" in config:
        upward = config.get("up", AXES[default_up]["up"])
        axes = {"up": upward, "front": config.get("front", _front(upward, default_up))}
        why = "as its stage_config.json says"
    else:
        axes = AXES[default_up]
        why = f"{BY_DEFAULT[default_up]} (`up: {_other(default_up)}` says otherwise)"
    matrix = _world_from_file(axes, config, config_of(path))
    # habitat-sim takes a bare .glb for z-up; what it makes of a configuration without axes is its
    # version's matter.
    left_alone = AXES["z"] if stated is None else stated
    agrees = all(left_alone.get(name) == axes[name] for name in ("up", "front"))
    vectors = {name: tuple(float(value) for value in axes[name]) for name in ("up", "front")}
    return Axes(vectors["up"], vectors["front"], matrix, why, agrees)


def config_of(scene: Path) -> Path:
    """The file beside a scene that says how it is to be read."""
    return scene.with_name(f"{scene.stem}.stage_config.json")


def stage_config(scene: Path) -> dict[str, Any] | None:
    """What lies beside a scene; None when nothing does. BadInput: not a JSON object."""
    path = config_of(scene)
    if not path.is_file():
        return None
    try:
        stated = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not readable as JSON ({error}); correct or remove it") from None
    if not isinstance(stated, dict):
        raise BadInput(f"{path}: holds no JSON object; correct or remove it")
    return stated


def _world_from_file(
    axes: dict[str, Any], config: dict[str, Any], where: Path
) -> Float64[np.ndarray, "3 3"]:
    """The matrix of `Axes`; BadInput names the file that makes no sense."""
    try:
        upward, front = (np.asarray(axes[name], np.float64) for name in ("up", "front"))
        if upward.shape != (3,) or front.shape != (3,):
            raise ValueError
        basis = np.array([np.cross(front, upward), upward, -front])
        units = float(config.get("units_to_meters", 1.0))
        scale = np.broadcast_to(np.asarray(config.get("scale", 1.0), np.float64), 3) * units
        if not np.allclose(basis @ basis.T, np.eye(3), atol=1e-3):
            raise ValueError
        if not np.isfinite(scale).all() or not scale.all():
            raise ValueError
    except (TypeError, ValueError, ArithmeticError):
        raise BadInput(
            f"{where}: `up` and `front` must be perpendicular unit vectors, `scale` three numbers "
            "and `units_to_meters` one, none of them 0"
        ) from None
    return basis * scale


def _front(upward: Any, default_up: DefaultUp) -> list[int]:
    """The forward axis that goes with an upward one that is stated alone."""
    known = (axes["front"] for axes in AXES.values() if axes["up"] == upward)
    return next(known, AXES[default_up]["front"])


def _other(up: DefaultUp) -> DefaultUp:
    return "z" if up == "y" else "y"


def _name(vector: tuple[float, ...]) -> str:
    """y, -z, or the numbers of a vector along no axis."""
    largest = int(np.argmax(np.abs(vector)))
    if np.count_nonzero(np.round(vector, 3)) > 1:
        return "[" + ", ".join(f"{value:g}" for value in vector) + "]"
    return ("-" if vector[largest] < 0 else "") + "xyz"[largest]
