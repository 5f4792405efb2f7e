"""What stands and hangs in the rooms of a flat: furniture, lamps and paintings, where they fit."""

from __future__ import annotations

import numpy as np

from mimic.synthetic import furniture, lighting, texture_atlas
from mimic.synthetic.furniture import AT_WALLS, GAP_M, Kit, Wall
from mimic.synthetic.rooms import Room


def hang_lamp(kit: Kit, room: Room, height: float) -> lighting.Light:
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


def furnish(kit: Kit, room: Room, walls: list[Wall]) -> None:
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


def hang_pictures(kit: Kit, walls: list[Wall], number: int, height: float) -> None:
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
