"""Putting a mesh together from rectangles and boxes, cut fine enough for light to be baked into the
corners."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, UInt8

from mimic.scenes.mesh import CLASSES, Mesh

TILE_M = 0.3  # largest distance between vertices: the resolution of baked light

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Window:
    """The part of a texture that fills a rectangle exactly: left, top, right, bottom in 0..1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Paint:
    """What a surface looks like: a texture spread over `span_m` metres at a random place (or a
    window of it stretched to fit)."""

    texture: int
    span_m: float = 8.0
    window: Window | None = None
    glows: bool = False  # shines by itself: no shadow falls on it


class Builder:
    """Collects rectangles; `mesh` joins them. Every object has a class and, through `new`, an
    instance number."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, Paint, tuple[int, int]]] = []
        self._instance = 0

    def new(self, name: str) -> tuple[int, int]:
        """A new object of a class: its label, to be passed with each of its surfaces."""
        self._instance += 1
        return CLASSES.index(name), self._instance

    def quad(
        self, corner: Vector, right: Vector, up: Vector, paint: Paint, label: tuple[int, int]
    ) -> None:
        """A rectangle seen from the side where `right` x `up` points; the texture's left bottom is
        at `corner`."""
        origin, along, upward = (np.asarray(vector, float) for vector in (corner, right, up))
        width = np.linalg.norm(along)
        height = np.linalg.norm(upward)
        columns, rows = (max(1, int(np.ceil(side / TILE_M))) for side in (width, height))
        s, t = (
            axis.ravel()
            for axis in np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
        )
        vertices = origin + s[:, None] * along + t[:, None] * upward
        if paint.window is None:
            size = np.array([width, height]) / paint.span_m
            left, top = self._rng.uniform(0, 1, 2) * np.maximum(
                1 - size, 0
            )  # inside the texture, if it fits: no seam
            window = Window(left, top, left + size[0], top + size[1])
        else:
            window = paint.window
        uv = np.column_stack(
            [
                window.left + s * (window.right - window.left),
                window.bottom - t * (window.bottom - window.top),
            ]
        )
        number = np.arange((columns + 1) * (rows + 1)).reshape(rows + 1, columns + 1)
        a, b, c, d = (
            part.ravel()
            for part in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1])
        )
        faces = np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])])
        self._parts.append((vertices, uv, faces, paint, label))

    def box(
        self,
        low: Vector,
        high: Vector,
        paint: Paint,
        label: tuple[int, int],
        faces: dict[str, Paint] | None = None,
        without: tuple[str, ...] = (),
    ) -> None:
        """An upright box; `faces` paints single sides (-x +x -y +y -z +z) otherwise, `without`
        leaves sides out."""
        (x0, y0, z0) = low
        (x1, y1, z1) = high
        x = x1 - x0
        y = y1 - y0
        z = z1 - z0
        sides: dict[str, tuple[Vector, Vector, Vector]] = {
            "-x": ((x0, y0, z0), (0, 0, z), (0, y, 0)),
            "+x": ((x1, y0, z1), (0, 0, -z), (0, y, 0)),
            "-z": ((x1, y0, z0), (-x, 0, 0), (0, y, 0)),
            "+z": ((x0, y0, z1), (x, 0, 0), (0, y, 0)),
            "+y": ((x0, y1, z1), (x, 0, 0), (0, 0, -z)),
            "-y": ((x0, y0, z0), (x, 0, 0), (0, 0, z)),
        }
        for side, (corner, right, up) in sides.items():
            if side not in without:
                self.quad(corner, right, up, (faces or {}).get(side, paint), label)

    def prism(
        self,
        centre: Vector,
        radii: tuple[float, float],
        height: float,
        sides: int,
        paint: Paint,
        label: tuple[int, int],
    ) -> None:
        """An upright round thing, closed above: `centre` of its foot, radius below and above."""
        angles = np.linspace(0, -2 * np.pi, sides + 1)
        circle = np.column_stack([np.cos(angles), np.zeros(sides + 1), np.sin(angles)])
        foot = np.asarray(centre, float) + radii[0] * circle
        top = np.asarray(centre, float) + radii[1] * circle + [0, height, 0]
        span = paint.span_m
        u0, v0 = self._rng.uniform(0, 0.7, 2)
        for k, (near, far) in enumerate(pairwise(range(sides + 1))):
            ring = np.array([foot[near], foot[far], top[far], top[near]])
            u = u0 + np.array([k, k + 1, k + 1, k]) * (2 * np.pi * radii[0] / sides / span)
            v = v0 + np.array([height, height, 0, 0]) / span
            self._parts.append(
                (ring, np.column_stack([u, v]), np.array([[0, 1, 2], [0, 2, 3]]), paint, label)
            )
        lid = np.vstack([top[:-1], top[:-1].mean(axis=0)])
        fan = np.array([[k, (k + 1) % sides, sides] for k in range(sides)])
        self._parts.append((lid, u0 + (lid[:, [0, 2]] - lid[-1, [0, 2]]) / span, fan, paint, label))

    def mesh(
        self,
        textures: tuple[UInt8[np.ndarray, "height width 3"], ...],
        light: Float32[np.ndarray, "vertices 3"] | None,
    ) -> Mesh:
        """Everything so far; light None is full light."""
        corners = np.array([len(part[0]) for part in self._parts])
        first = np.concatenate([[0], np.cumsum(corners)[:-1]])
        triangles = np.array([len(part[2]) for part in self._parts])
        labels = np.array([(paint.texture, *label) for *_, paint, label in self._parts], np.int32)
        texture, class_id, instance = np.repeat(labels, triangles, axis=0).T.copy()
        vertices = np.concatenate([part[0] for part in self._parts]).astype(np.float32)
        glows = np.repeat([part[3].glows for part in self._parts], corners)
        return Mesh(
            vertices=vertices,
            uv=np.concatenate([part[1] for part in self._parts]).astype(np.float32),
            light=np.ones_like(vertices)
            if light is None
            else np.where(glows[:, None], np.float32(1), light),
            faces=np.concatenate(
                [part[2] + start for part, start in zip(self._parts, first, strict=True)]
            ).astype(np.int32),
            texture=texture,
            class_id=class_id,
            instance=instance,
            textures=textures,
        )
