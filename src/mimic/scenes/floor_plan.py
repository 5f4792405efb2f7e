"""How much of a scene the search for a walkable floor looks at: bounded, whatever lies kilometres
away.

A scene that is too large as a whole falls into parts, between which there is empty space; an agent
walks in one of them. Where something that is no floor joins what lies apart (a sliver that ends in
an outlier, a sky), the level triangles alone are parted.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from mimic.scenes.base import Unwalkable
from mimic.scenes.mesh import Mesh, face_normals
from mimic.scenes.navigation import CELL_M, SLOPE_DEG

# of the floor plan, about 140 x 140 m; the arrays of the search then stay below a gigabyte
CELLS_MAX = 2_000_000
HEIGHT_MAX_M = 1000.0  # rays from higher up would meet the floor less exactly
# wider empty space parts a scene; what stands in a room does not fall apart even in a file of
# centimetres
GAP_M = 20.0
TRIANGLE_MAX_M2 = (
    25.0  # a single triangle counts as no larger: a stray one is not the largest floor of a scene
)
MAIN_SHARE = 0.6  # of the level area lies in the part that is taken: what is left out is stray
ROUNDS_MAX = 16
EXACT = 1e-4  # of a cosine in single floats: a slope of just SLOPE_DEG is walked on whole

Bounds = tuple[np.ndarray, np.ndarray]
Boxes = Float64[np.ndarray, "triangles 3"]


def plan(mesh: Mesh) -> Bounds:
    """Lowest and highest corner of the scene, in metres; of its part with most level area where the
    whole is too large.

    Raises:
        Unwalkable: that part is too large as well, no part is most of the scene, or it has corners
            that are no numbers.
    """
    low, high = (np.asarray(corner, np.float64) for corner in mesh.bounds())
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise Unwalkable("the scene has corners that are no numbers; write the file again")
    if _fits(low, high):
        return low, high
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    start = corners.min(axis=1)
    end = corners.max(axis=1)
    level = _level_area(mesh)
    for some, axes in ((np.arange(len(level)), (0, 1, 2)), (np.flatnonzero(level > 0), (0, 2))):
        part = some[_largest_part(start[some], end[some], level[some], axes)]
        if level[part].sum() > MAIN_SHARE * level.sum():
            near = start[part].min(axis=0)
            far = end[part].max(axis=0)
            if _fits(near, far):
                return near, far
    extents = " x ".join(f"{extent:.4g}" for extent in high - low)
    raise Unwalkable(
        f"the scene measures {extents} m (x, y up, z), too much to search for a floor; is its unit "
        "the metre? "
        "units_to_meters in a <name>.stage_config.json beside it scales it; a scene that is so "
        "large must be cut into several files"
    )


def _fits(low: np.ndarray, high: np.ndarray) -> bool:
    cells = float(np.prod(np.maximum(np.ceil((high - low)[[0, 2]] / CELL_M), 1)))
    return cells <= CELLS_MAX and high[1] - low[1] <= HEIGHT_MAX_M


def facing_up(mesh: Mesh) -> Bool[np.ndarray, " triangles"]:
    """Which triangles can be walked on: no steeper than SLOPE_DEG, and seen from above (signed: a
    roof seen from below faces down)."""
    return _floors(face_normals(mesh.vertices, mesh.faces).astype(np.float64))


def _floors(normals: np.ndarray) -> Bool[np.ndarray, " triangles"]:
    length = np.linalg.norm(normals, axis=1)
    least = np.cos(np.radians(SLOPE_DEG)) - EXACT
    return (normals[:, 1] >= least * length) & (length > 0)


def _level_area(mesh: Mesh) -> Float64[np.ndarray, " triangles"]:
    """Of each triangle the area that counts as floor, m2; 0 where it is steep or faces down."""
    normals = face_normals(mesh.vertices, mesh.faces).astype(np.float64)
    return np.where(_floors(normals), np.clip(normals[:, 1] / 2, 0, TRIANGLE_MAX_M2), 0.0)


def _largest_part(start: Boxes, end: Boxes, level: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Which boxes belong to the part with the largest level area: parted along one axis after the
    other until nothing parts it."""
    part = np.arange(len(start))
    for _ in range(ROUNDS_MAX):
        before = len(part)
        for axis in axes:
            part = part[_largest_group(start[part, axis], end[part, axis], level[part])]
        if len(part) == before:
            break
    return part


def _largest_group(start: np.ndarray, end: np.ndarray, level: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which intervals belong to the group, parted from others by empty space, with the largest
    area."""
    if not len(start):
        return np.zeros(0, bool)
    order = np.argsort(start, kind="stable")
    reach = np.maximum.accumulate(end[order])
    parted = np.concatenate([[False], start[order][1:] > reach[:-1] + GAP_M])
    group = np.empty(len(start), np.int64)
    group[order] = np.cumsum(parted)
    return np.asarray(group == np.argmax(np.bincount(group, level)))
