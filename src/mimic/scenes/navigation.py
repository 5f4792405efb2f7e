"""Where an agent can stand, found by casting rays; the rules and numbers are those of Habitat's
NavMeshSettings.

The floor plan is cut into square cells, and each column of cells may hold several floors above each
other. A cell is open when something faces up under it, gently sloped, with room for the agent
above, and its four neighbours can be reached without a climb and without crossing anything. It is
walkable when the cells around it, reached over such edges, are open too: nothing is nearer than the
agent's radius. Connected cells are an island.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mimic.scenes.base import Point, Unwalkable

CELL_M = 0.1
RADIUS_M = 0.2  # two cells: what is open all around a cell is as far away as this
CLIMB_M = 0.2
SLOPE_DEG = 45.0
FLOORS_MAX = 6  # above each other in one column
SURFACES_MAX = 64
NEXT_M = 1e-3  # from a surface, to the one below and to what is above it
RAY_SPACING_M = 0.15  # heights at which steps are checked: a table edge must not fit between two
GUARD_M = (
    0.02  # where the guard fires, the walk still ends short of the obstacle by the radius and this
)
STRIDE_M = CELL_M / 4  # a walk looks at the floor and ahead as often as this
AHEAD_M = RADIUS_M + GUARD_M + STRIDE_M  # how far: what is nearer is in the way

Cast = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
Bounds = tuple[np.ndarray, np.ndarray]


class Floor:
    """The walkable floor of a scene.

    Args:
        cast: first hits of rays (origins, directions) with the scene; see embree.Rays.cast.
        cast_at_floors: the same with the triangles alone that face up and are no steeper than
            SLOPE_DEG.
        bounds: lowest and highest corner of the scene.
        agent_height_m: free height above the floor; steps are checked up to it.
    """

    def __init__(
        self, cast: Cast, cast_at_floors: Cast, bounds: Bounds, agent_height_m: float
    ) -> None:
        self._cast = cast
        self._heights = np.arange(RAY_SPACING_M, agent_height_m + RAY_SPACING_M, RAY_SPACING_M)
        low, high = (np.asarray(corner, np.float64) for corner in bounds)
        self._low = low
        self._shape = tuple(np.maximum(np.ceil((high - low)[[0, 2]] / CELL_M), 1).astype(int))
        self._centres_x = low[0] + (np.arange(self._shape[0]) + 0.5) * CELL_M
        self._centres_z = low[2] + (np.arange(self._shape[1]) + 0.5) * CELL_M
        self.height = self._find_floors(
            cast_at_floors, high[1] + 1.0, agent_height_m
        )  # [floor, x, z], nan where there is none
        # [floor, x, z]: -1 where nobody can stand; the highest of the nine cells where one can
        self.island, self._highest = self._find_islands(*self._find_edges())
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
        way = (end - start) * [1.0, 0.0, 1.0]
        length = float(np.hypot(way[0], way[2]))
        if length < 1e-9:
            return start
        way /= length
        points, highest = self._follow(start, way, length + AHEAD_M)
        if not len(points):
            return start
        reached = min(length, (len(points) - 1) * STRIDE_M)
        count = int(reached / STRIDE_M) + 1
        reached = min(reached, self._free(points, way, highest, count))
        point = points[int(reached / STRIDE_M)]
        last = start + way * reached
        last[1] = point[1]
        cell = self._locate(last)
        if cell is None:  # the corner of a cell where nobody can stand
            return point
        last[1] = self.height[cell]
        return last

    def _follow(
        self, start: np.ndarray, way: np.ndarray, length: float
    ) -> tuple[Float64[np.ndarray, "points 3"], Float64[np.ndarray, " points"]]:
        """Points on the floor from start on along a unit vector, STRIDE_M apart, to the border of
        the island, and the highest floor around each; none where nobody can stand at the start."""
        points: list[np.ndarray] = []
        highest: list[float] = []
        cell = self._locate(start)
        if cell is None:
            return np.empty((0, 3)), np.empty(0)
        island = self.island[cell]
        height = self.height[cell]
        for distance in np.arange(0.0, length + STRIDE_M, STRIDE_M):
            point = start + way * distance
            point[1] = height
            cell = self._locate(point)
            if cell is None or self.island[cell] != island:
                break
            point[1] = height = self.height[cell]
            points.append(point)
            highest.append(self._highest[cell])
        return np.array(points), np.array(highest)

    def _free(self, points: np.ndarray, way: np.ndarray, highest: np.ndarray, count: int) -> float:
        """How far the way goes on from its first point before something comes nearer than the
        agent's radius, as seen from the first `count` points.

        The floor is not in the way: rays run above whatever of it lies ahead or beside (the middle
        of a cell has its height, and a riser crosses it anywhere), and below the ceiling over all
        of it.
        """
        window = int(np.ceil(AHEAD_M / STRIDE_M)) + 1
        end = (0, max(0, count + window - 1 - len(points)))
        above, below = (
            np.lib.stride_tricks.sliding_window_view(np.pad(floor, end, "edge"), window)[:count]
            for floor in (highest, points[:, 1])
        )
        heights = np.minimum(
            above.max(axis=1)[:, None] + self._heights,
            below.min(axis=1)[:, None] + self._heights[-1],
        )
        origins = np.repeat(points[:count], len(self._heights), axis=0)
        origins[:, 1] = heights.ravel()
        hits = self._cast(origins, np.broadcast_to(way, origins.shape))
        distance = np.where(hits["primID"] >= 0, hits["tfar"], np.inf).reshape(heights.shape)
        nearest = distance.min(axis=1)
        near = nearest < AHEAD_M
        limits = np.arange(count) * STRIDE_M + nearest - RADIUS_M - GUARD_M
        return max(0.0, float(limits[near].min())) if near.any() else np.inf

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
        self, cast: Cast, above: float, agent_height_m: float
    ) -> Float64[np.ndarray, "floors x z"]:
        """Down through the floors of every column (surfaces that face up: a roof seen from below
        does not); one counts where there is room above it."""
        x, z = (
            axis.ravel() for axis in np.meshgrid(self._centres_x, self._centres_z, indexing="ij")
        )
        floors = np.full((FLOORS_MAX, len(x)), np.nan)
        count = np.zeros(len(x), int)
        column = np.arange(len(x))
        top = np.full(len(x), above)  # where the next ray starts
        for _ in range(SURFACES_MAX):
            points = np.column_stack([x[column], top, z[column]])
            hits = cast(points, np.broadcast_to([0.0, -1.0, 0.0], points.shape))
            met = hits["primID"] >= 0
            column = column[met]
            y = top[met] - hits["tfar"][met]
            if not len(column):
                break
            good = count[column] < FLOORS_MAX
            points = np.column_stack([x[column], y + NEXT_M, z[column]])
            good &= self._free_above(points) + NEXT_M >= agent_height_m
            floors[count[column[good]], column[good]] = y[good]
            count[column[good]] += 1
            top = y - NEXT_M
        most = max(
            int(count.max()), 1
        )  # above each other: what is empty in every column costs memory below
        return floors[:most].reshape(most, *self._shape)

    def _free_above(self, points: np.ndarray) -> Float64[np.ndarray, " n"]:
        """Metres to what is met straight up."""
        hits = self._cast(points, np.broadcast_to([0.0, 1.0, 0.0], points.shape))
        return np.where(hits["primID"] >= 0, hits["tfar"], np.inf).astype(np.float64)

    def _find_edges(self) -> tuple[list[np.ndarray], Bool[np.ndarray, " cells"]]:
        """Pairs of neighbouring cells one can walk between, along x and along z, and the cells
        beside something that is in the way."""
        number = np.arange(self.height.size, dtype=np.int32).reshape(self.height.shape)
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
                rise = np.abs(self.height[near][floor] - self.height[far][other])
                within = rise <= CLIMB_M + NEXT_M  # a riser of just as much, measured
                starts.append(number[near][floor][within])
                ends.append(number[far][other][within])
            a = np.concatenate(starts)
            b = np.concatenate(ends)
            hit = self._crossed(a, b)
            blocked[a[hit]] = blocked[b[hit]] = True
            edges.append(np.column_stack([a, b])[~hit])
        return edges, blocked

    def _crossed(self, a: np.ndarray, b: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Whether anything stands between the middles of two cells, at any height of the agent.
        Vertical rays miss thin walls."""
        start, end = (
            self._centre(np.column_stack(np.unravel_index(cells, self.height.shape)))
            for cells in (a, b)
        )
        floor = np.maximum(start[:, 1], end[:, 1])
        ceiling = np.minimum(start[:, 1], end[:, 1]) + self._heights[-1]
        hit = np.zeros(len(a), bool)
        for height in self._heights:
            start[:, 1] = end[:, 1] = np.minimum(floor + height, ceiling)
            rest = np.flatnonzero(~hit)
            hits = self._cast(start[rest], end[rest] - start[rest])
            hit[rest] = (hits["primID"] >= 0) & (hits["tfar"] <= 1.0)
        return hit

    def _find_islands(
        self, edges: list[np.ndarray], blocked: np.ndarray
    ) -> tuple[np.ndarray, Float64[np.ndarray, "floors x z"]]:
        """Number the connected parts of what is left after keeping the agent's radius from every
        border; and the highest of each cell and the eight around it.

        Along the edges, not within a floor's number: that one counts from the top, and changes
        where a gallery or a roof begins above.
        """
        size = self.height.size
        clear = ~np.append(blocked, True)  # the last one stands for "no such neighbour"
        highest = np.append(self.height.ravel(), -np.inf)
        pairs = [(_link(one, size), _link(one[:, ::-1], size)) for one in edges]
        for before, after in pairs:
            clear &= (before >= 0) & (after >= 0)
        for before, after in pairs:  # beside each other, then all nine
            clear &= clear[before] & clear[after]
            highest = np.fmax(highest, np.fmax(highest[before], highest[after]))
        del pairs, before, after
        inner = np.concatenate(edges)
        inner = inner[clear[inner].all(axis=1)]
        graph = coo_matrix(
            (np.ones(len(inner), bool), (inner[:, 0], inner[:, 1])), shape=(size, size)
        )
        labels = connected_components(graph, directed=False)[1]
        clear = clear[:size]
        island = np.full(size, -1)
        island[clear] = np.unique(labels[clear], return_inverse=True)[1]
        shape = self.height.shape
        return island.reshape(shape), highest[:size].reshape(shape)

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


def _link(pairs: np.ndarray, size: int) -> np.ndarray:
    """The second of the pair for every first, -1 where it has none; one more than size."""
    link = np.full(size + 1, -1, np.int32)
    link[pairs[:, 0]] = pairs[:, 1]
    return link
