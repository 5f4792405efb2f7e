"""Furnished flats from a seed: three rooms with doorways, each with its own floor, walls, furniture
and pictures.

Lessons built in (measured): textures must not repeat within a view, details must be large and of
high contrast, or a view has too few SIFT keypoints to be matched. The same seed gives the same
flat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from mimic.scenes.mesh import Mesh
from mimic.synthetic import furniture, lighting, texture_atlas, textures
from mimic.synthetic.builder import Builder
from mimic.synthetic.furniture import AT_WALLS, GAP_M, Kit, Rectangle, Wall

WALL_M = 0.12  # thickness of inner walls
DOOR_M = 1.0
DOOR_HEIGHT_M = 2.1
DRAWINGS = {
    "paper": textures.wallpaper,
    "paper2": textures.wallpaper,
    "brick": textures.brick,
    "planks": textures.planks,
    "tiles": textures.tiles,
    "carpet": textures.carpet,
    "plaster": textures.plaster,
    "wood": textures.wood,
    "fabric": textures.fabric,
    "upholstery": textures.fabric,
    "leaves": textures.leaves,
    "paintings": texture_atlas.paintings,
    "rugs": texture_atlas.rugs,
    "views": texture_atlas.views,
    "joinery": texture_atlas.joinery,
    "books": texture_atlas.books,
}


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


def build(seed: int, width_m: float, depth_m: float, height_m: float, texture_px: int) -> Mesh:
    """A flat of about width_m x depth_m, its corner at the origin, with light baked in.

    Args:
        seed: every seed is another flat.
        width_m, depth_m, height_m: outer size; rooms need about 3 m each way.
        texture_px: side of each texture; it spans 8 m.
    """
    rng = np.random.default_rng([seed, 1])
    pictures = tuple(
        draw(np.random.default_rng([seed, 2, number]), texture_px)
        for number, draw in enumerate(DRAWINGS.values())
    )
    kit = Kit(Builder(rng), rng, {name: number for number, name in enumerate(DRAWINGS)})
    lights: list[lighting.Light] = []
    for number, room in enumerate(_plan(rng, width_m, depth_m)):
        walls = room.walls()
        _shell(kit, room, walls, height_m)
        _doorways(kit, room, walls)
        lights += _openings(kit, room, walls, number, (width_m, depth_m))
        lights.append(_ceiling_lamp(kit, room, height_m))
        _furnish(kit, room, walls)
        _pictures(kit, walls, number, height_m)
    dark = kit.builder.mesh(pictures, None)
    return kit.builder.mesh(pictures, lighting.bake(dark, lights))


def _plan(rng: np.random.Generator, width: float, depth: float) -> list[Room]:
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


def _shell(kit: Kit, room: Room, walls: list[Wall], height: float) -> None:
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
    for number, wall in enumerate(walls):
        material = "brick" if rng.random() < 0.22 else paper
        label = builder.new("wall")
        edges = [
            0.0,
            *(edge for s in sorted(room.doors[number]) for edge in (s, s + DOOR_M)),
            wall.length,
        ]
        for piece, (low, high) in enumerate(pairwise(edges)):
            solid = piece % 2 == 0
            bottom = 0.0 if solid else DOOR_HEIGHT_M
            builder.quad(
                wall.at(low, bottom, 0),
                wall.along(high - low),
                (0, height - bottom, 0),
                kit.paint(material),
                label,
            )
            if solid:
                wall.box(builder, (low, 0, 0), (high, 0.09, 0.015), kit.paint("wood", 3.0), label)
            wall.taken.append((low - 0.05, high + 0.05, height) if not solid else (-9.0, -9.0, 0.0))


def _doorways(kit: Kit, room: Room, walls: list[Wall]) -> None:
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


def _openings(
    kit: Kit, room: Room, walls: list[Wall], number: int, outer: tuple[float, float]
) -> list[lighting.Light]:
    """Windows, and a closed door, in walls that face outside; windows shine."""
    lights = []
    for wall in walls:
        if any(
            0 < wall.at(0, 0, 0)[axis] == wall.at(1, 0, 0)[axis] < size
            for axis, size in ((0, outer[0]), (2, outer[1]))
        ):
            continue  # an inner wall
        if wall.length > 3 and kit.rng.random() < 0.85:
            width, bottom, height = kit.rng.uniform([1.1, 0.85, 1.1], [1.9, 1.0, 1.35])
            s = float(kit.rng.uniform(0.4, wall.length - width - 0.4))
            label = kit.builder.new("window")
            paint = kit.picture("views", int(kit.rng.integers(6)), texture_atlas.VIEWS, glows=True)
            kit.builder.quad(
                wall.at(s, bottom, 0.012), wall.along(width), (0, height, 0), paint, label
            )
            wall.box(
                kit.builder,
                (s - 0.06, bottom - 0.05, 0),
                (s + width + 0.06, bottom, 0.12),
                kit.paint("plaster", 3.0),
                label,
            )
            wall.taken.append((s - 0.1, s + width + 0.1, 9.0))
            samples = np.array(
                [
                    wall.at(s + a * width, bottom + b * height, 0.1)
                    for a in (0.25, 0.75)
                    for b in (0.3, 0.8)
                ]
            )
            lights.append(lighting.Light(samples, (0.92, 1.0, 1.1), 2.6))
        elif number == 2 and wall.length > 3:
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
    return lights


def _ceiling_lamp(kit: Kit, room: Room, height: float) -> lighting.Light:
    x = (room.x0 + room.x1) / 2
    z = (room.z0 + room.z1) / 2
    label = kit.builder.new("lamp")
    kit.builder.prism(
        (x, height - 0.16, z), (0.28, 0.05), 0.16, 14, kit.paint("plaster", 3.0, glows=True), label
    )
    samples = np.array(
        [
            [x + dx, height - 0.34, z + dz]
            for dx, dz in ((0.25, 0), (-0.25, 0), (0, 0.25), (0, -0.25))
        ]
    )
    return lighting.Light(samples, (1.25, 1.16, 1.0), 2.4)


def _furnish(kit: Kit, room: Room, walls: list[Wall]) -> None:
    rng = kit.rng
    wanted = ["shelf", "sofa", "cabinet", "bed", "shelf", "desk", "cabinet", "shelf"]
    order = rng.permutation(len(wanted))[: int(rng.integers(5, 9))]
    for name in (wanted[k] for k in order):
        piece, widths, depth = AT_WALLS[name]
        for _ in range(30):
            wall = walls[int(rng.integers(4))]
            width = float(rng.uniform(*widths))
            if wall.length < width + 0.4:
                continue
            s = float(rng.uniform(0.03, wall.length - width - 0.03))
            spot = wall.rectangle(s, s + width, depth)
            tall = 0.85 if name in ("sofa", "cabinet", "bed") else 0.0
            if room.free(spot, GAP_M) and wall.free(s, s + width, tall):
                wall.taken.append((s, s + width, piece(kit, wall, s, width, depth)))
                room.placed.append(spot)
                break
    _in_the_middle(kit, room)


def _in_the_middle(kit: Kit, room: Room) -> None:
    """A table, a floor lamp and a plant, wherever they fit."""
    rng = kit.rng
    for name, size, height, margin in (
        ("table", None, 0.0, 0.62),
        ("lamp", 0.4, 1.5, 0.02),
        ("plant", 0.5, 1.2, 0.02),
        ("plant", 0.4, 0.9, 0.02),
    ):
        for _ in range(25):
            width, depth = rng.uniform([1.1, 0.75], [1.6, 0.95]) if size is None else (size, size)
            if room.x1 - room.x0 < width + 0.5 or room.z1 - room.z0 < depth + 0.5:
                continue
            x = float(rng.uniform(room.x0 + 0.05, room.x1 - width - 0.05))
            z = float(rng.uniform(room.z0 + 0.05, room.z1 - depth - 0.05))
            if size is not None:  # into a corner or to a wall, out of the way
                x = room.x0 + 0.08 if rng.random() < 0.5 else room.x1 - width - 0.08
            spot = (x, x + width, z, z + depth)
            if not room.free(spot, margin):
                continue
            room.placed.append(spot)
            middle = (x + width / 2, 0.0, z + depth / 2)
            match name:
                case "table":
                    furniture.table(kit, x, z, width, depth)
                case "lamp":
                    furniture.lamp(kit, middle, height, 0.2)
                case "plant":
                    furniture.plant(kit, middle, height)
            break


def _pictures(kit: Kit, walls: list[Wall], number: int, height: float) -> None:
    """Paintings on what is left of the walls; every painting hangs once."""
    rng = kit.rng
    hung = rng.permutation(30)[:16] if number == 0 else rng.permutation(30)
    for index in hung[:16]:
        wall = walls[int(rng.integers(4))]
        width, tall = rng.uniform([0.45, 0.4], [1.1, 0.85])
        if wall.length < width + 0.3:
            continue
        s = float(rng.uniform(0.15, wall.length - width - 0.15))
        bottom = float(rng.uniform(1.15, max(1.2, min(1.5, height - tall - 0.2))))
        if not wall.free(s, s + width, bottom - 0.1):
            continue
        label = kit.builder.new("picture")
        paint = kit.picture("paintings", int(index), texture_atlas.PAINTINGS)
        wall.box(
            kit.builder,
            (s, bottom, 0),
            (s + width, bottom + tall, 0.025),
            kit.paint("wood", 3.0),
            label,
            paint,
        )
        wall.taken.append((s, s + width, 9.0))
