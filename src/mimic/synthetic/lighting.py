"""Light baked into a mesh's corners: lamps and windows with shadows, and the half-dark of
corners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from mimic.scenes.embree import Rays
from mimic.scenes.mesh import GAMMA, Mesh, face_normals

HEMISPHERE_RAYS = 24
REACH_M = 1.4  # how far away a thing still darkens a corner
# where light is measured: off the wall by more than a picture frame, or it darkens the wall around
# it
OFF_M = 0.04
EXPOSURE = 2.1
AMBIENT = np.array([0.50, 0.50, 0.52])


@dataclass(frozen=True)
class Light:
    """A small source: corners of its area serve as samples, which makes shadows soft."""

    samples: np.ndarray  # [n, 3] metres
    colour: tuple[float, float, float]
    reach_m: float  # distance at which it has fallen to half


def bake(mesh: Mesh, lights: list[Light]) -> Float32[np.ndarray, "vertices 3"]:
    """The linear factor of every vertex, 0..1. Vertices must not be shared between surfaces of
    different direction."""
    normals = np.zeros_like(mesh.vertices)
    np.add.at(
        normals, mesh.faces.ravel(), np.repeat(face_normals(mesh.vertices, mesh.faces), 3, axis=0)
    )
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    rays = Rays(mesh.vertices, mesh.faces)
    # Off the surface, and a little towards its middle: a corner of a floor must not start inside
    # the wall.
    middle = np.zeros_like(mesh.vertices)
    count = np.zeros(len(mesh.vertices), np.float32)
    np.add.at(
        middle, mesh.faces.ravel(), np.repeat(mesh.vertices[mesh.faces].mean(axis=1), 3, axis=0)
    )
    np.add.at(count, mesh.faces.ravel(), 1)
    inward = middle / np.maximum(count, 1)[:, None] - mesh.vertices
    start = mesh.vertices + OFF_M * normals + 0.1 * inward
    total = _openness(rays, start, normals)[:, None] * AMBIENT
    for light in lights:
        for sample in light.samples:
            total += _shine(rays, start, normals, sample, light) / len(light.samples)
    return ((1 - np.exp(-EXPOSURE * total)) ** GAMMA).astype(
        np.float32
    )  # rolls off instead of clipping


def _openness(rays: Rays, start: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Share of the sky of each point that is free within reach, by a cosine-weighted spiral."""
    k = np.arange(HEMISPHERE_RAYS) + 0.5
    radius = np.sqrt(k / HEMISPHERE_RAYS)
    angle = k * np.pi * (3 - np.sqrt(5))
    spiral = np.column_stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)]
    )
    helper = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
    tangent = np.cross(helper, normals)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    frame = np.stack([tangent, np.cross(normals, tangent), normals], axis=1)
    free = np.zeros(len(start))
    for direction in spiral:
        free += ~rays.blocked(start, REACH_M * np.einsum("i,nij->nj", direction, frame))
    return 0.25 + 0.75 * free / HEMISPHERE_RAYS  # light that bounces off what blocks it


def _shine(
    rays: Rays, start: np.ndarray, normals: np.ndarray, sample: np.ndarray, light: Light
) -> np.ndarray:
    towards = sample - start
    distance = np.linalg.norm(towards, axis=1)
    cosine = np.maximum(np.einsum("ij,ij->i", towards, normals) / np.maximum(distance, 1e-6), 0)
    lit = cosine > 0
    lit[lit] = ~rays.blocked(start[lit], 0.98 * towards[lit])
    return (lit * cosine / (1 + (distance / light.reach_m) ** 2))[:, None] * np.array(light.colour)
