"""Furniture along the walls and in the middle of a room, out of boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mimic.synthetic import texture_atlas
from mimic.synthetic.builder import Builder, Paint, Vector, Window

Rectangle = tuple[float, float, float, float]  # x from, x to, z from, z to
GAP_M = 0.06


@dataclass
class Wall:
    """One wall seen from inside its room, in its own frame: s along it to the right, y up, d into
    the room."""

    origin: tuple[float, float]  # x, z of its left foot
    right: tuple[int, int]
    length: float
    taken: list[tuple[float, float, float]] = field(
        default_factory=list
    )  # from s, to s, up to height

    @property
    def inward(self) -> tuple[int, int]:
        return -self.right[1], self.right[0]

    def at(self, s: float, y: float, d: float) -> Vector:
        return (
            self.origin[0] + s * self.right[0] + d * self.inward[0],
            y,
            self.origin[1] + s * self.right[1] + d * self.inward[1],
        )

    def along(self, length: float) -> Vector:
        return (length * self.right[0], 0.0, length * self.right[1])

    def rectangle(self, s0: float, s1: float, depth: float) -> Rectangle:
        (x0, _, z0) = self.at(s0, 0, 0)
        (x1, _, z1) = self.at(s1, 0, depth)
        return min(x0, x1), max(x0, x1), min(z0, z1), max(z0, z1)

    def free(self, s0: float, s1: float, bottom: float) -> bool:
        """Whether nothing that reaches above `bottom` stands between s0 and s1."""
        return all(
            s1 + GAP_M < low or s0 - GAP_M > high or top <= bottom for low, high, top in self.taken
        )

    def box(
        self,
        builder: Builder,
        low: Vector,
        high: Vector,
        paint: Paint,
        label: tuple[int, int],
        front: Paint | None = None,
    ) -> None:
        """A box given by its (s, y, d) corners; `front` paints the side that faces the room."""
        corners = np.array([self.at(*low), self.at(*high)])
        side = {(1, 0): "+x", (-1, 0): "-x", (0, 1): "+z", (0, -1): "-z"}[self.inward]
        first = corners.min(axis=0)
        last = corners.max(axis=0)
        builder.box(
            (first[0], first[1], first[2]),
            (last[0], last[1], last[2]),
            paint,
            label,
            faces=None if front is None else {side: front},
            without=("-y",) if first[1] == 0 else (),
        )


@dataclass(frozen=True)
class Kit:
    """A builder with the scene's materials."""

    builder: Builder
    rng: np.random.Generator
    materials: dict[str, int]

    def paint(self, name: str, span_m: float = 8.0, glows: bool = False) -> Paint:
        return Paint(self.materials[name], span_m, glows=glows)

    def picture(self, name: str, index: int, layout: tuple[int, int], glows: bool = False) -> Paint:
        return Paint(self.materials[name], window=texture_atlas.cell(index, layout), glows=glows)


def shelf(kit: Kit, wall: Wall, s: float, width: float, depth: float) -> float:
    """A bookcase; returns its height."""
    label = kit.builder.new("shelf")
    rows = int(kit.rng.integers(4, 8))
    height = rows * texture_atlas.SHELF_ROW_M + 0.08
    wall.box(kit.builder, (s, 0, 0), (s + width, height, depth), kit.paint("wood", 3.0), label)
    first = int(kit.rng.integers(0, texture_atlas.SHELF_ROWS - rows))
    left = float(kit.rng.uniform(0, 1 - width / 8))
    window = Window(
        left,
        first / texture_atlas.SHELF_ROWS,
        left + width / 8,
        (first + rows) / texture_atlas.SHELF_ROWS,
    )
    corner = wall.at(s + 0.03, 0.05, depth + 0.004)
    paint = Paint(kit.materials["books"], window=window)
    kit.builder.quad(
        corner, wall.along(width - 0.06), (0, rows * texture_atlas.SHELF_ROW_M, 0), paint, label
    )
    return height


def cabinet(kit: Kit, wall: Wall, s: float, width: float, depth: float) -> float:
    label = kit.builder.new("cabinet")
    height = float(kit.rng.uniform(0.75, 1.15))
    number = int(kit.rng.integers(4))
    front = kit.picture("joinery", texture_atlas.JOINERY[0] + number, texture_atlas.JOINERY)
    wall.box(
        kit.builder, (s, 0, 0), (s + width, height, depth), kit.paint("wood", 3.0), label, front
    )
    clutter(
        kit,
        [wall.at(s + share * width, height, depth / 2) for share in kit.rng.uniform(0.15, 0.85, 3)],
    )
    return height


def sofa(kit: Kit, wall: Wall, s: float, width: float, depth: float) -> float:
    label = kit.builder.new("sofa")
    cloth = kit.paint("fabric", 4.0)
    dark = kit.paint("upholstery", 4.0)
    arm = 0.18
    wall.box(kit.builder, (s, 0.06, 0), (s + width, 0.4, depth), cloth, label)
    wall.box(kit.builder, (s, 0.4, 0), (s + width, 0.85, 0.2), cloth, label)
    wall.box(kit.builder, (s, 0.4, 0.2), (s + arm, 0.62, depth), cloth, label)
    wall.box(kit.builder, (s + width - arm, 0.4, 0.2), (s + width, 0.62, depth), cloth, label)
    seats = max(2, int(width / 0.75))
    step = (width - 2 * arm) / seats
    for k in range(seats):
        left = s + arm + k * step
        wall.box(
            kit.builder,
            (left + 0.01, 0.4, 0.2),
            (left + step - 0.01, 0.5, depth + 0.02),
            dark,
            label,
        )
        wall.box(
            kit.builder, (left + 0.06, 0.5, 0.2), (left + step - 0.06, 0.82, 0.33), dark, label
        )
    return 0.85


def bed(kit: Kit, wall: Wall, s: float, width: float, depth: float) -> float:
    label = kit.builder.new("bed")
    wall.box(kit.builder, (s, 0, 0), (s + width, 1.0, 0.07), kit.paint("wood", 3.0), label)
    wall.box(
        kit.builder,
        (s + 0.02, 0.05, 0.07),
        (s + width - 0.02, 0.32, depth),
        kit.paint("wood", 3.0),
        label,
    )
    wall.box(
        kit.builder,
        (s, 0.32, 0.07),
        (s + width, 0.52, depth + 0.02),
        kit.paint("fabric", 4.0),
        label,
    )
    for left in (s + 0.08, s + width / 2 + 0.04):
        wall.box(
            kit.builder,
            (left, 0.52, 0.1),
            (left + width / 2 - 0.12, 0.63, 0.5),
            kit.paint("upholstery", 3.0),
            label,
        )
    return 1.0


def desk(kit: Kit, wall: Wall, s: float, width: float, depth: float) -> float:
    label = kit.builder.new("table")
    height = 0.74
    wood = kit.paint("wood", 3.0)
    wall.box(kit.builder, (s, height - 0.04, 0), (s + width, height, depth), wood, label)
    wall.box(kit.builder, (s, 0, 0.02), (s + 0.05, height - 0.04, depth - 0.02), wood, label)
    wall.box(
        kit.builder,
        (s + width - 0.4, 0, 0.02),
        (s + width, height - 0.04, depth - 0.02),
        wood,
        label,
        kit.picture(
            "joinery", texture_atlas.JOINERY[0] + int(kit.rng.integers(4)), texture_atlas.JOINERY
        ),
    )
    screen = kit.builder.new("object")
    middle = s + width * 0.4
    black = Paint(kit.materials["books"], window=Window(0.0, 0.998, 0.002, 1.0))
    wall.box(
        kit.builder,
        (middle - 0.3, height + 0.1, 0.14),
        (middle + 0.3, height + 0.46, 0.18),
        black,
        screen,
        kit.picture("paintings", int(kit.rng.integers(30)), texture_atlas.PAINTINGS),
    )
    wall.box(
        kit.builder, (middle - 0.1, height, 0.12), (middle + 0.1, height + 0.1, 0.2), black, screen
    )
    clutter(kit, [wall.at(s + share * width, height, 0.45) for share in (0.1, 0.75, 0.9)])
    return height + 0.5


def table(kit: Kit, x: float, z: float, width: float, depth: float) -> None:
    """A table in the room, with chairs on its long sides and things on it."""
    label = kit.builder.new("table")
    height = float(kit.rng.uniform(0.7, 0.78))
    wood = kit.paint("wood", 3.0)
    kit.builder.box((x, height - 0.05, z), (x + width, height, z + depth), wood, label)
    for leg_x in (x + 0.04, x + width - 0.11):
        for leg_z in (z + 0.04, z + depth - 0.11):
            kit.builder.box(
                (leg_x, 0, leg_z),
                (leg_x + 0.07, height - 0.05, leg_z + 0.07),
                wood,
                label,
                without=("-y", "+y"),
            )
    places = zip(kit.rng.uniform(0.12, 0.88, 4), kit.rng.uniform(0.2, 0.8, 4), strict=True)
    clutter(kit, [(x + a * width, height, z + b * depth) for a, b in places])
    for share in (0.25, 0.75):
        for front in (-1, 1):
            if kit.rng.random() < 0.75:
                chair(kit, x + share * width, z + depth / 2 + front * (depth / 2 + 0.12), front)


def chair(kit: Kit, x: float, z: float, away: int) -> None:
    """A chair whose back is on the side `away` (-1 or 1) along z."""
    label = kit.builder.new("chair")
    wood = kit.paint("wood", 3.0)
    half = 0.21
    kit.builder.box(
        (x - half, 0.42, z - half), (x + half, 0.47, z + half), kit.paint("upholstery", 3.0), label
    )
    for leg_x in (x - half, x + half - 0.04):
        for leg_z in (z - half, z + half - 0.04):
            kit.builder.box(
                (leg_x, 0, leg_z),
                (leg_x + 0.04, 0.42, leg_z + 0.04),
                wood,
                label,
                without=("-y", "+y"),
            )
    back = z + away * half
    low, high = sorted((back, back - away * 0.04))
    kit.builder.box((x - half, 0.47, low), (x + half, 0.95, high), wood, label, without=("-y",))


def clutter(kit: Kit, places: list[Vector]) -> None:
    """Books, boxes, vases, table lamps and plants."""
    for x, y, z in places:
        match int(kit.rng.integers(5)):
            case 0 | 1:
                half_x, half_z, height = kit.rng.uniform([0.05, 0.05, 0.06], [0.11, 0.11, 0.26])
                cover = kit.picture("paintings", int(kit.rng.integers(30)), texture_atlas.PAINTINGS)
                label = kit.builder.new("object")
                kit.builder.box(
                    (x - half_x, y, z - half_z),
                    (x + half_x, y + height, z + half_z),
                    cover,
                    label,
                    without=("-y",),
                )
            case 2:
                radius = float(kit.rng.uniform(0.05, 0.09))
                height = float(kit.rng.uniform(0.16, 0.3))
                kit.builder.prism(
                    (x, y, z),
                    (radius * 0.7, radius),
                    height,
                    10,
                    kit.paint("tiles", 2.0),
                    kit.builder.new("object"),
                )
            case 3:
                lamp(kit, (x, y, z), 0.28, 0.11)
            case _:
                plant(kit, (x, y, z), 0.3)


def lamp(kit: Kit, foot: Vector, height: float, radius: float) -> None:
    """A stem with a shade."""
    label = kit.builder.new("lamp")
    x, y, z = foot
    kit.builder.prism(foot, (radius * 0.6, radius * 0.5), 0.03, 10, kit.paint("wood", 3.0), label)
    kit.builder.prism((x, y + 0.03, z), (0.012, 0.012), height, 6, kit.paint("wood", 3.0), label)
    kit.builder.prism(
        (x, y + height, z),
        (radius, radius * 0.65),
        radius * 1.4,
        12,
        kit.paint("plaster", 3.0, glows=True),
        label,
    )


def plant(kit: Kit, foot: Vector, height: float) -> None:
    """A pot with leaves."""
    label = kit.builder.new("plant")
    x, y, z = foot
    pot = height * 0.32
    kit.builder.prism(foot, (height * 0.12, height * 0.17), pot, 10, kit.paint("brick", 6.0), label)
    for angle in kit.rng.uniform(0, 2 * np.pi, 14):
        reach = min(kit.rng.uniform(0.18, 0.42) * height, 0.28)
        rise = kit.rng.uniform(0.35, 0.68) * height
        width = height * 0.07
        out = np.array([np.cos(angle), 0.0, np.sin(angle)])
        side = np.array([-out[2], 0.0, out[0]]) * width
        corner = np.array([x, y + pot * 0.9, z]) - side / 2 + 0.03 * out
        along = out * reach + [0, rise, 0]
        kit.builder.quad(tuple(corner), tuple(side), tuple(along), kit.paint("leaves", 2.0), label)


# Pieces that stand at a wall: how wide they may be, how deep they are.
Piece = Callable[[Kit, Wall, float, float, float], float]
AT_WALLS: dict[str, tuple[Piece, tuple[float, float], float]] = {
    "shelf": (shelf, (0.9, 1.7), 0.32),
    "cabinet": (cabinet, (0.7, 1.3), 0.46),
    "sofa": (sofa, (1.6, 2.2), 0.88),
    "bed": (bed, (1.5, 1.8), 2.0),
    "desk": (desk, (1.2, 1.6), 0.68),
}
