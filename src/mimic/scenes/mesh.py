"""A scene in memory: triangles, textures, labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int32, UInt8

# Names of the labels; the index is the class id. Scenes that carry no labels are 0 everywhere.
CLASSES = (
    "unknown",
    "wall",
    "floor",
    "ceiling",
    "door",
    "window",
    "table",
    "chair",
    "sofa",
    "bed",
    "shelf",
    "cabinet",
    "picture",
    "rug",
    "lamp",
    "plant",
    "object",
)
GAMMA = 2.2  # textures are sRGB, glTF's vertex colours and factors linear


Wrap = Literal["repeat", "clamp", "mirror"]  # what lies beyond a texture's edge


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with textures; y up, metres. uv has its origin at a texture's top left, v downwards
    (glTF)."""

    vertices: Float32[np.ndarray, "vertices 3"]
    uv: Float32[np.ndarray, "vertices 2"]
    light: Float32[
        np.ndarray, "vertices 3"
    ]  # linear factor >= 0 on the texture: baked light, or a material's colour
    faces: Int32[np.ndarray, "faces 3"]  # counter-clockwise seen from the front
    texture: Int32[np.ndarray, " faces"]  # index into textures
    class_id: Int32[np.ndarray, " faces"]
    instance: Int32[np.ndarray, " faces"]
    textures: tuple[UInt8[np.ndarray, "height width 3"], ...]  # sRGB, RGB
    wraps: tuple[tuple[Wrap, Wrap], ...] = ()  # of each texture along u and v; empty = all repeat
    nearest: tuple[bool, ...] = ()  # textures enlarged without smoothing; empty = none

    def bounds(self) -> tuple[Float32[np.ndarray, "3"], Float32[np.ndarray, "3"]]:
        """Lowest and highest corner, metres."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)


def face_normals(
    vertices: Float32[np.ndarray, "vertices 3"], faces: Int32[np.ndarray, "faces 3"]
) -> Float32[np.ndarray, "faces 3"]:
    """Normals as long as twice the triangles' areas."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a).astype(np.float32)
