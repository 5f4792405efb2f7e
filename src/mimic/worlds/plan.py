"""How much of a scene the search for a walkable floor looks at: bounded, whatever lies kilometres away."""

from __future__ import annotations

import numpy as np

from mimic.worlds.base import Unwalkable
from mimic.worlds.mesh import Mesh, face_normals
from mimic.worlds.navigation import CELL_M, SLOPE_DEG

CELLS_MAX = 2_000_000  # about 140 x 140 m; the arrays of the search then stay below a gigabyte
ROUNDS_MAX = 16


def plan(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of the scene, in metres; of the part with most level area where the whole is too large.

    Raises:
        Unwalkable: that part is too large as well.
    """
    low, high = (np.asarray(corner, np.float64) for corner in mesh.bounds())
    if _fits(low, high):
        return low, high
    corners = mesh.vertices[mesh.faces][:, :, [0, 2]].astype(np.float64)
    normals = face_normals(mesh.vertices, mesh.faces)
    steep = normals[:, 1] < np.cos(np.radians(SLOPE_DEG)) * np.linalg.norm(normals, axis=1)
    level = np.flatnonzero(~steep & (normals[:, 1] > 0))
    start, end = corners[level].min(axis=1), corners[level].max(axis=1)
    area = normals[level, 1].astype(np.float64)
    for _ in range(ROUNDS_MAX):
        before = len(area)
        for axis in (0, 1):
            kept = _largest(start[:, axis], end[:, axis], area)
            start, end, area = start[kept], end[kept], area[kept]
        if len(area) == before:
            break
    if len(area):
        near, far = low.copy(), high.copy()
        near[[0, 2]], far[[0, 2]] = start.min(axis=0), end.max(axis=0)
        if _fits(near, far):
            return near, far
    extents = " x ".join(f"{extent:.4g}" for extent in high - low)
    raise Unwalkable(
        f"the scene measures {extents} m (x, y up, z), too much to search for a floor; is its unit the metre? "
        "a <name>.stage_config.json with units_to_meters scales it"
    )


def _fits(low: np.ndarray, high: np.ndarray) -> bool:
    return float(np.prod(np.maximum((high - low)[[0, 2]] / CELL_M, 1))) <= CELLS_MAX


def _largest(start: np.ndarray, end: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Which intervals belong to the group, parted from others by empty space, with the largest area."""
    if not len(start):
        return np.zeros(0, np.int64)
    order = np.argsort(start, kind="stable")
    reach = np.maximum.accumulate(end[order])
    gap = np.concatenate([[False], start[order][1:] > reach[:-1] + CELL_M])
    group = np.cumsum(gap)
    wanted = int(np.argmax(np.bincount(group, area[order])))
    return order[group == wanted]
