"""Where an agent can stand, found by casting rays; the rules and numbers are those of Habitat's
NavMeshSettings.

The floor plan is cut into square cells, and each column of cells may hold several floors above each
other. A cell is walkable when something faces up under it, gently sloped, with room for the agent
above; its four neighbours can be reached without a climb and without crossing anything; and nothing
is nearer than the agent's radius. Connected cells are an island.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mimic.scenes.base import Point, Unwalkable

CELL_M = 0.1
RADIUS_M = 0.2
CLIMB_M = 0.2
SLOPE_DEG = 45.0
FLOORS_MAX = 6  # above each other in one column
SURFACES_MAX = 64
RAY_SPACING_M = 0.15  # heights at which steps are checked: a table edge must not fit between two
GUARD_M = (
    0.02  # where the guard fires, the walk still ends short of the obstacle by the radius and this
)

Cast = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
Bounds = tuple[np.ndarray, np.ndarray]


class Floor:
    """The walkable floor of a scene.

    Args:
        cast: first hits of rays (origins, directions); see embree.Rays.cast.
        bounds: lowest and highest corner of the scene.
        agent_height_m: free height above the floor; steps are checked up to it.
    """

    def __init__(self, cast: Cast, bounds: Bounds, agent_height_m: float) -> None:
        self._cast = cast
        self._heights = np.arange(RAY_SPACING_M, agent_height_m + RAY_SPACING_M, RAY_SPACING_M)
        low, high = (np.asarray(corner, np.float64) for corner in bounds)
        self._low = low
        self._shape = tuple(np.maximum(np.ceil((high - low)[[0, 2]] / CELL_M), 1).astype(int))
        self._centres_x = low[0] + (np.arange(self._shape[0]) + 0.5) * CELL_M
        self._centres_z = low[2] + (np.arange(self._shape[1]) + 0.5) * CELL_M
        self.height = self._find_floors(
            high[1] + 1.0, agent_height_m
        )  # [floor, x, z], nan where there is none
        edges, blocked = self._find_edges()
        self.island = self._find_islands(edges, blocked)  # [floor, x, z], -1 where nobody can stand
        self.cells = np.argwhere(self.island >= 0)
        self.radius = self._radii()

    def random_point(self, rng: np.random.Generator) -> Point:
        """Uniform over the walkable area; Unwalkable when there is none."""
        if not len(self.cells):
            raise Unwalkable(
                "no walkable floor: nothing level faces up with enough room above it (is the right "
                "axis up?)"
            )
        cell = self.cells[rng.integers(len(self.cells))]
        jitter = rng.uniform(-0.5, 0.5, 2) * CELL_M
        point = self._centre(cell[None])[0]
        point[[0, 2]] += jitter
        return point

    def island_radius(self, point: Point) -> float:
        cell = self._locate(np.asarray(point, np.float64))
        return 0.0 if cell is None else float(self.radius[self.island[cell]])

    def snap(self, point: Point) -> Point | None:
        """The nearest cell's middle, or the point itself dropped to the floor where that is
        walkable."""
        point = np.asarray(point, np.float64)
        if not len(self.cells):
            return None
        cell = self._locate(point)
        if cell is not None:
            return np.array([point[0], self.height[cell], point[2]])
        centres = self._centre(self.cells)
        return centres[np.argmin(np.linalg.norm(centres - point, axis=1))]

    def try_step(self, start: Point, end: Point) -> Point:
        """Walk straight; where that ends early, slide along x and then along z for what is left of
        the way."""
        start = np.asarray(start, np.float64)
        end = np.asarray(end, np.float64)
        reached = self._walk(start, end)
        for axis in (0, 2):
            left = end[axis] - reached[axis]
            if abs(left) > CELL_M / 4:
                aside = reached.copy()
                aside[axis] += left
                reached = self._walk(reached, aside)
        return reached

    def _walk(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Straight from start towards end, as far as the island goes and nothing is in the way."""
        cell = self._locate(start)
        if cell is None:
            return start
        end = self._guard(start, end)
        island = self.island[cell]
        reached = start.copy()
        steps = max(1, int(np.ceil(np.hypot(*(end - start)[[0, 2]]) / (CELL_M / 4))))
        for share in np.arange(1, steps + 1) / steps:
            point = start + (end - start) * share
            point[1] = reached[1]
            cell = self._locate(point)
            if cell is None or self.island[cell] != island:
                break
            point[1] = self.height[cell]
            reached = point
        return reached

    def _guard(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Shorten the way so that it stays the agent's radius short of whatever a ray along it
        meets."""
        way = end - start
        way[1] = 0.0
        length = np.hypot(way[0], way[2])
        if length < 1e-9:
            return start
        origins = start + np.outer(self._heights, [0.0, 1.0, 0.0])
        hits = self._cast(origins, np.broadcast_to(way / length, origins.shape))
        nearest = np.min(np.where(hits["primID"] >= 0, hits["tfar"], np.inf))
        return start + way * min(1.0, max(0.0, (nearest - RADIUS_M - GUARD_M) / length))

    def _locate(self, point: np.ndarray) -> tuple[int, int, int] | None:
        """The walkable cell that holds a point on (or just above or below) its floor."""
        i, k = (int(np.floor((point[axis] - self._low[axis]) / CELL_M)) for axis in (0, 2))
        if not (0 <= i < self._shape[0] and 0 <= k < self._shape[1]):
            return None
        distance = np.abs(self.height[:, i, k] - point[1])
        distance[np.isnan(distance) | (self.island[:, i, k] < 0)] = np.inf
        floor = int(np.argmin(distance))
        return (floor, i, k) if distance[floor] <= 1.5 * CLIMB_M else None

    def _centre(self, cells: np.ndarray) -> Float64[np.ndarray, "n 3"]:
        floor, i, k = cells.T
        return np.column_stack([self._centres_x[i], self.height[floor, i, k], self._centres_z[k]])

    def _find_floors(
        self, above: float, agent_height_m: float
    ) -> Float64[np.ndarray, "floors x z"]:
        """Down through all surfaces of every column; a floor faces up (signed: a roof seen from
        below does not) and has room above."""
        x, z = (
            axis.ravel() for axis in np.meshgrid(self._centres_x, self._centres_z, indexing="ij")
        )
        floors = np.full((FLOORS_MAX, len(x)), np.nan)
        count = np.zeros(len(x), int)
        column = np.arange(len(x))
        top = np.full(len(x), above)  # where the next ray starts
        ceiling = np.full(len(x), np.inf)  # the last surface met
        for _ in range(SURFACES_MAX):
            hits = self._cast(
                np.column_stack([x[column], top, z[column]]),
                np.tile([0.0, -1.0, 0.0], (len(column), 1)),
            )
            met = hits["primID"] >= 0
            column = column[met]
            y = top[met] - hits["tfar"][met]
            normal = hits["Ng"][met]
            if not len(column):
                break
            upward = normal[:, 1] >= np.cos(np.radians(SLOPE_DEG)) * np.linalg.norm(normal, axis=1)
            good = upward & (ceiling[met] - y >= agent_height_m) & (count[column] < FLOORS_MAX)
            floors[count[column[good]], column[good]] = y[good]
            count[column[good]] += 1
            ceiling = y
            top = y - 1e-3
        most = max(
            int(count.max()), 1
        )  # above each other: what is empty in every column costs memory below
        return floors[:most].reshape(most, *self._shape)

    def _find_edges(self) -> tuple[np.ndarray, Bool[np.ndarray, "floors x z"]]:
        """Pairs of neighbouring cells one can walk between, and the cells beside something that is
        in the way."""
        number = np.arange(self.height.size).reshape(self.height.shape)
        blocked = np.zeros(self.height.size, bool)
        edges = []
        for axis in (1, 2):
            near = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
            far = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
            starts = []
            ends = []
            for floor, other in np.ndindex(
                len(self.height), len(self.height)
            ):  # all at once would be too large
                within = np.abs(self.height[near][floor] - self.height[far][other]) <= CLIMB_M
                starts.append(number[near][floor][within])
                ends.append(number[far][other][within])
            a = np.concatenate(starts)
            b = np.concatenate(ends)
            hit = self._crossed(a, b)
            blocked[a[hit]] = blocked[b[hit]] = True
            edges.append(np.column_stack([a, b])[~hit])
        return np.concatenate(edges), blocked.reshape(self.height.shape)

    def _crossed(self, a: np.ndarray, b: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Whether anything stands between the middles of two cells, at any height of the agent.
        Vertical rays miss thin walls."""
        start, end = (
            self._centre(np.column_stack(np.unravel_index(cells, self.height.shape)))
            for cells in (a, b)
        )
        start[:, 1] = end[:, 1] = np.maximum(start[:, 1], end[:, 1])
        hit = np.zeros(len(a), bool)
        for height in self._heights:
            rest = np.flatnonzero(~hit)
            hits = self._cast(start[rest] + [0.0, height, 0.0], end[rest] - start[rest])
            hit[rest] = (hits["primID"] >= 0) & (hits["tfar"] <= 1.0)
        return hit

    def _find_islands(self, edges: np.ndarray, blocked: np.ndarray) -> np.ndarray:
        """Number the connected parts of what is left after keeping the agent's radius from every
        border."""
        degree = np.bincount(edges.ravel(), minlength=self.height.size).reshape(self.height.shape)
        open_cells = ~np.isnan(self.height) & (degree >= 4) & ~blocked
        padded = np.pad(open_cells, ((0, 0), (1, 1), (1, 1)))
        clear = np.stack(
            [
                ndimage.distance_transform_edt(floor)[1:-1, 1:-1] * CELL_M >= RADIUS_M
                for floor in padded
            ]
        ).ravel()
        inner = edges[clear[edges].all(axis=1)]
        size = self.height.size
        graph = coo_matrix(
            (np.ones(len(inner), bool), (inner[:, 0], inner[:, 1])), shape=(size, size)
        )
        labels = connected_components(graph, directed=False)[1]
        island = np.full(size, -1)
        island[clear] = np.unique(labels[clear], return_inverse=True)[1]
        return island.reshape(self.height.shape)

    def _radii(self) -> Float64[np.ndarray, " islands"]:
        """As Habitat: the greatest distance of an island's parts from their mean."""
        label = self.island[tuple(self.cells.T)]
        centres = self._centre(self.cells)
        radii = np.zeros(int(label.max()) + 1 if len(label) else 0)
        if not len(label):
            return radii
        count = np.bincount(label)
        mean = np.column_stack([np.bincount(label, centres[:, axis]) / count for axis in range(3)])
        np.maximum.at(radii, label, np.linalg.norm(centres - mean[label], axis=1))
        return radii
