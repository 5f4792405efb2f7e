"""The embedded engine: ray casting with Embree, textures with mip maps, exact depth, normals and
labels. No GPU, no display.

Embree casts on the calling thread; run one engine a process. Images are the same bits on repeat, in
any process of one machine; other CPUs may differ in the last bit.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32

from mimic.scenes import glb
from mimic.scenes.axes import DefaultUp, Up
from mimic.scenes.base import Point, Rendering, Rotation
from mimic.scenes.floor_plan import facing_up, plan
from mimic.scenes.mesh import GAMMA, Mesh, face_normals
from mimic.scenes.navigation import Floor
from mimic.scenes.shading.mipmaps import Mipmaps
from mimic.scenes.shading.twins import Twins

BAND_PX = 16384  # pixels shaded at a time: what they need stays in the cache
# smallest cosine that the texture level accounts for: beyond it, blur costs more than it saves
GRAZING = 0.05


class Rays:
    """Triangles to cast rays at."""

    def __init__(
        self, vertices: Float32[np.ndarray, "vertices 3"], faces: Int32[np.ndarray, "faces 3"]
    ) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene(
            robust=True
        )  # robust: no ray slips through the edge between two triangles
        self._geometry = TriangleMesh(
            self._scene,
            np.ascontiguousarray(vertices, np.float32),
            np.ascontiguousarray(faces, np.int32),
        )

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
        """First hits: `primID` the face or -1, `tfar` in lengths of the direction, `u`, `v` weights
        of corners 1 and 2, `Ng` the normal."""
        directions = np.ascontiguousarray(directions, np.float32)
        origins = np.ascontiguousarray(
            np.broadcast_to(np.asarray(origins, np.float32), directions.shape)
        )
        return self._scene.run(origins, directions, output=True)

    def blocked(self, origins: np.ndarray, directions: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Whether anything lies between each origin and origin + direction."""
        directions = np.ascontiguousarray(directions, np.float32)
        origins = np.ascontiguousarray(
            np.broadcast_to(np.asarray(origins, np.float32), directions.shape)
        )
        return (
            self._scene.run(
                origins, directions, dists=np.ones(len(directions), np.float32), query="OCCLUDED"
            )
            >= 0
        )


class Embree:
    """Implements scenes.base.Engine.

    Args:
        up, default_up: which axis of a .glb points up; see axes.resolve.
        texture_max_px: larger textures are scaled down to this side.
        lod_bias: added to the mip level; negative is sharper.
        agent_height_m: the walkable floor has this much free above it; also the highest a camera
            may be carried.
    """

    name = "embree"

    def __init__(
        self,
        up: Up,
        texture_max_px: int,
        lod_bias: float,
        agent_height_m: float,
        default_up: DefaultUp = "y",
    ) -> None:
        self.up: Up = up
        self.default_up: DefaultUp = default_up
        self.texture_max_px = texture_max_px
        self.lod_bias = lod_bias
        self.agent_height_m = agent_height_m

    def load(self, scene: Path) -> None:
        self.show(glb.read(scene, self.up, self.texture_max_px, self.default_up))

    def show(self, mesh: Mesh) -> None:
        """Load a scene that is in memory already."""
        self.mesh = mesh
        self.rays = Rays(mesh.vertices, mesh.faces)
        self._twins = Twins(mesh.vertices, mesh.faces)
        self._mipmaps = Mipmaps(mesh.textures, mesh.wraps, mesh.nearest)
        self.__dict__.pop("floor", None)
        normals = face_normals(mesh.vertices, mesh.faces)
        area = np.linalg.norm(normals, axis=1)
        self._normals = normals / np.maximum(area, 1e-12)[:, None]
        attributes = np.concatenate([mesh.uv, mesh.light], axis=1).astype(np.float32)
        a, b, c = (attributes[mesh.faces[:, corner]] for corner in range(3))
        self._attributes = np.stack(
            [a, b - a, c - a], axis=1
        )  # value, change along Embree's u, along its v
        (bu, bv) = (b - a)[:, :2].T
        (cu, cv) = (c - a)[:, :2].T
        texels = np.array([texture.shape[0] * texture.shape[1] for texture in mesh.textures])[
            mesh.texture
        ]
        per_metre = np.sqrt(np.abs(bu * cv - bv * cu) * texels / np.maximum(area, 1e-12))
        self._log_density = np.log2(np.maximum(per_metre, 1e-6)).astype(np.float32)

    @functools.cached_property
    def floor(self) -> Floor:
        """Where an agent can stand; found on first use."""
        bounds = plan(self.mesh)
        floors = Rays(self.mesh.vertices, self.mesh.faces[facing_up(self.mesh)])
        return Floor(self.rays.cast, floors.cast, bounds, self.agent_height_m)

    def random_point(self, rng: np.random.Generator) -> Point:
        return self.floor.random_point(rng)

    def island_radius(self, point: Point) -> float:
        return self.floor.island_radius(point)

    def try_step(self, start: Point, end: Point) -> Point:
        return self.floor.try_step(start, end)

    def snap(self, point: Point) -> Point | None:
        return self.floor.snap(point)

    def render(
        self,
        position: Point,
        world_from_camera: Rotation,
        size_px: tuple[int, int],
        hfov_deg: float,
    ) -> Rendering:
        width, height = size_px
        directions = _directions(width, height, hfov_deg)
        rotation = world_from_camera.T.astype(np.float32)
        bands = np.array_split(np.arange(height), max(1, width * height // BAND_PX))
        parts = [
            self._render(
                position, directions[rows] @ rotation, 2 * np.tan(np.radians(hfov_deg) / 2) / width
            )
            for rows in bands
        ]
        return Rendering(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _render(
        self, position: Point, directions: Float32[np.ndarray, "rows width 3"], pixel: float
    ) -> tuple[np.ndarray, ...]:
        """Some rows: the arrays of a Rendering. `pixel` is a pixel's width at distance 1."""
        shape = directions.shape[:2]
        directions = directions.reshape(-1, 3)
        hits = self.rays.cast(position, directions)
        hit = hits["primID"] >= 0
        face = np.where(hit, hits["primID"], 0)
        u = hits["u"]
        v = hits["v"]
        if self._twins.any:
            facing = np.einsum("ij,ij->i", np.take(self._normals, face, axis=0), directions)
            face, u, v = self._twins.facing(face, u, v, facing > 0)
        depth = np.where(
            hit, hits["tfar"], np.float32(0)
        )  # the directions' z is -1 in the camera: a hit's tfar is its planar depth
        normal = np.take(self._normals, face, axis=0)
        facing = np.einsum("ij,ij->i", normal, directions)
        normal *= np.where(hit, -np.sign(facing), 0).astype(np.float32)[:, None]
        cosine = np.abs(facing) / np.sqrt(np.einsum("ij,ij->i", directions, directions))
        pixel_m = np.maximum(depth, 1e-6) * np.float32(pixel) / np.sqrt(np.maximum(cosine, GRAZING))
        lod = self._log_density[face] + np.log2(pixel_m) + np.float32(self.lod_bias)
        values = self._interpolate(face, u, v)
        u, v = (np.ascontiguousarray(values[:, k]).reshape(shape) for k in (0, 1))
        colour = self._mipmaps.sample(
            self.mesh.texture[face].reshape(shape), lod.reshape(shape), u, v
        )
        light = np.maximum(values[:, 2:], 0) ** np.float32(1 / GAMMA)  # linear between the corners
        colour *= (light * hit[:, None]).reshape(*shape, 3)
        return (
            np.rint(np.minimum(colour, 255)).astype(np.uint8),
            depth.reshape(shape),
            normal.reshape(*shape, 3),
            np.where(hit, self.mesh.class_id[face], 0).astype(np.int32).reshape(shape),
            np.where(hit, self.mesh.instance[face], 0).astype(np.int32).reshape(shape),
        )

    def _interpolate(
        self, face: np.ndarray, u: np.ndarray, v: np.ndarray
    ) -> Float32[np.ndarray, "n 5"]:
        """Texture coordinates and light at the hits."""
        corners = np.take(self._attributes, face, axis=0)
        return corners[:, 0] + u[:, None] * corners[:, 1] + v[:, None] * corners[:, 2]

    def close(self) -> None:
        for name in ("mesh", "rays", "_twins", "_mipmaps", "floor", "_attributes"):
            self.__dict__.pop(name, None)


@functools.lru_cache(maxsize=4)
def _directions(width: int, height: int, hfov_deg: float) -> Float32[np.ndarray, "height width 3"]:
    """A ray through the middle of every pixel, in the camera, z = -1."""
    focal_px = width / 2 / np.tan(np.radians(hfov_deg) / 2)
    x, y = np.meshgrid(
        (np.arange(width) + 0.5 - width / 2) / focal_px,
        -(np.arange(height) + 0.5 - height / 2) / focal_px,
    )
    return np.stack([x, y, np.full_like(x, -1)], axis=-1).astype(np.float32)
