"""Rooms of a flat: its plan, and floors, walls, doorways, windows and doors, empty."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from mimic.synthetic import lighting, texture_atlas
from mimic.synthetic.furniture import Kit, Rectangle, Wall

WALL_M = 0.12  # thickness of inner walls
DOOR_M = 1.0
DOOR_HEIGHT_M = 2.1


@dataclass
class Room:
    """Inner faces of the walls, and what is in the way."""

    x0: float
    x1: float
    z0: float
    z1: float
    doors: list[list[float]] = field(
        default_factory=lambda: [[], [], [], []]
    )  # per wall: left edges of doorways, along s
    placed: list[Rectangle] = field(default_factory=list)

    def walls(self) -> list[Wall]:
        """Clockwise from above, starting at z0; each seen from inside."""
        width = self.x1 - self.x0
        depth = self.z1 - self.z0
        return [
            Wall((self.x0, self.z0), (1, 0), width),
            Wall((self.x1, self.z0), (0, 1), depth),
            Wall((self.x1, self.z1), (-1, 0), width),
            Wall((self.x0, self.z1), (0, -1), depth),
        ]

    def free(self, spot: Rectangle, margin: float) -> bool:
        x0, x1, z0, z1 = spot
        return all(
            x1 + margin < a or x0 - margin > b or z1 + margin < c or z0 - margin > d
            for a, b, c, d in self.placed
        )


def plan(rng: np.random.Generator, width: float, depth: float) -> list[Room]:
    """Two rooms on one side, one over the full depth on the other; every two share a doorway."""
    half = WALL_M / 2
    x = rng.uniform(0.44, 0.56) * width
    z = rng.uniform(0.44, 0.56) * depth
    rooms = [
        Room(0, x - half, 0, z - half),
        Room(0, x - half, z + half, depth),
        Room(x + half, width, 0, depth),
    ]

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low + 0.6, high - 0.6 - DOOR_M))

    along_x = between(0, x)
    near = between(0, z)
    far = between(z, depth)
    _doorway(rooms[0], 2, rooms[0].x1 - along_x - DOOR_M)
    _doorway(rooms[1], 0, along_x)
    _doorway(rooms[0], 1, near)
    _doorway(rooms[2], 3, depth - near - DOOR_M)
    _doorway(rooms[1], 1, far - rooms[1].z0)
    _doorway(rooms[2], 3, depth - far - DOOR_M)
    return rooms


def _doorway(room: Room, wall: int, s: float) -> None:
    room.doors[wall].append(s)
    room.placed.append(room.walls()[wall].rectangle(s - 0.15, s + DOOR_M + 0.15, 1.1))


def build_shell(kit: Kit, room: Room, walls: list[Wall], height: float) -> None:
    """Floor, rug, ceiling, walls around the doorways, skirting."""
    builder = kit.builder
    rng = kit.rng
    width = room.x1 - room.x0
    depth = room.z1 - room.z0
    ground = str(rng.choice(["planks", "planks", "tiles", "carpet"]))
    builder.quad(
        (room.x0, 0, room.z1),
        (width, 0, 0),
        (0, 0, -depth),
        kit.paint(ground),
        builder.new("floor"),
    )
    builder.quad(
        (room.x0, height, room.z0),
        (width, 0, 0),
        (0, 0, depth),
        kit.paint("plaster"),
        builder.new("ceiling"),
    )
    x = rng.uniform(0.42, 0.6) * width
    z = rng.uniform(0.42, 0.6) * depth
    corner = (room.x0 + (width - x) / 2, 0.008, room.z0 + (depth + z) / 2)
    builder.quad(
        corner,
        (x, 0, 0),
        (0, 0, -z),
        kit.picture("rugs", int(rng.integers(4)), texture_atlas.RUGS),
        builder.new("rug"),
    )
    paper = str(rng.choice(["paper", "paper2"]))
    for wall, doors in zip(walls, room.doors, strict=True):
        _build_wall(kit, wall, doors, height, paper)


def _build_wall(kit: Kit, wall: Wall, doors: list[float], height: float, paper: str) -> None:
    """A wall with its skirting, open where the doorways are."""
    material = "brick" if kit.rng.random() < 0.22 else paper
    label = kit.builder.new("wall")
    edges = [0.0, *(edge for s in sorted(doors) for edge in (s, s + DOOR_M)), wall.length]
    for piece, (low, high) in enumerate(pairwise(edges)):
        solid = piece % 2 == 0
        bottom = 0.0 if solid else DOOR_HEIGHT_M
        kit.builder.quad(
            wall.at(low, bottom, 0),
            wall.along(high - low),
            (0, height - bottom, 0),
            kit.paint(material),
            label,
        )
        if solid:
            wall.box(kit.builder, (low, 0, 0), (high, 0.09, 0.015), kit.paint("wood", 3.0), label)
        wall.taken.append((low - 0.05, high + 0.05, height) if not solid else (-9.0, -9.0, 0.0))


def build_doorways(kit: Kit, room: Room, walls: list[Wall]) -> None:
    """Jambs through half the wall, and a frame around the opening."""
    wood = kit.paint("wood", 3.0)
    for wall, doors in zip(walls, room.doors, strict=True):
        for s in doors:
            label = kit.builder.new("door")
            back = -WALL_M / 2
            x, z = wall.inward
            inwards = (x * -back, 0.0, z * -back)
            outwards = (x * back, 0.0, z * back)
            up = (0.0, DOOR_HEIGHT_M, 0.0)
            kit.builder.quad(wall.at(s, 0, 0), outwards, up, wood, label)
            kit.builder.quad(wall.at(s + DOOR_M, 0, back), inwards, up, wood, label)
            kit.builder.quad(
                wall.at(s, DOOR_HEIGHT_M, back), wall.along(DOOR_M), inwards, wood, label
            )
            kit.builder.quad(
                wall.at(s, 0, 0), wall.along(DOOR_M), outwards, wood, label
            )  # the threshold
            for low, high in ((s - 0.08, s), (s + DOOR_M, s + DOOR_M + 0.08)):
                wall.box(kit.builder, (low, 0, 0), (high, DOOR_HEIGHT_M + 0.08, 0.02), wood, label)
            wall.box(
                kit.builder,
                (s, DOOR_HEIGHT_M, 0),
                (s + DOOR_M, DOOR_HEIGHT_M + 0.08, 0.02),
                wood,
                label,
            )


def build_openings(
    kit: Kit, room: Room, walls: list[Wall], number: int, outer: tuple[float, float]
) -> list[lighting.Light]:
    """Windows, and a closed door, in walls that face outside; windows shine."""
    lights = []
    for wall in walls:
        if _is_inner(wall, outer):
            continue
        if wall.length > 3 and kit.rng.random() < 0.85:
            lights.append(_build_window(kit, wall))
        elif number == 2 and wall.length > 3:
            _build_closed_door(kit, room, wall)
    return lights


def _is_inner(wall: Wall, outer: tuple[float, float]) -> bool:
    return any(
        0 < wall.at(0, 0, 0)[axis] == wall.at(1, 0, 0)[axis] < size
        for axis, size in ((0, outer[0]), (2, outer[1]))
    )


def _build_window(kit: Kit, wall: Wall) -> lighting.Light:
    width, bottom, height = kit.rng.uniform([1.1, 0.85, 1.1], [1.9, 1.0, 1.35])
    s = float(kit.rng.uniform(0.4, wall.length - width - 0.4))
    label = kit.builder.new("window")
    paint = kit.picture("views", int(kit.rng.integers(6)), texture_atlas.VIEWS, glows=True)
    kit.builder.quad(wall.at(s, bottom, 0.012), wall.along(width), (0, height, 0), paint, label)
    wall.box(
        kit.builder,
        (s - 0.06, bottom - 0.05, 0),
        (s + width + 0.06, bottom, 0.12),
        kit.paint("plaster", 3.0),
        label,
    )
    wall.taken.append((s - 0.1, s + width + 0.1, 9.0))
    samples = np.array(
        [wall.at(s + a * width, bottom + b * height, 0.1) for a in (0.25, 0.75) for b in (0.3, 0.8)]
    )
    return lighting.Light(samples, (0.92, 1.0, 1.1), 2.6)


def _build_closed_door(kit: Kit, room: Room, wall: Wall) -> None:
    s = float(kit.rng.uniform(0.4, wall.length - 1.4))
    paint = kit.picture("joinery", int(kit.rng.integers(4)), texture_atlas.JOINERY)
    wall.box(
        kit.builder,
        (s, 0, 0),
        (s + 0.95, 2.05, 0.03),
        kit.paint("wood", 3.0),
        kit.builder.new("door"),
        paint,
    )
    wall.taken.append((s, s + 0.95, 9.0))
    room.placed.append(wall.rectangle(s - 0.1, s + 1.05, 1.0))
