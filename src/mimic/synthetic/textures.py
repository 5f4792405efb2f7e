"""Textures drawn from a seed: believable, rich in corners, and nowhere repeating.

One texture spans 8 m; tiling would repeat features within a view, and Lowe's ratio test then
rejects them. Details are 5 to 30 cm, so that they survive at a few metres' distance in a 256-px
view.
"""

from __future__ import annotations

import cv2
import numpy as np

Picture = np.ndarray  # [height, width, 3] uint8 RGB
Colour = tuple[int, ...]
LETTERS = np.array(list("ABCDEFGHKLMNPRSTUVXYZ23456789"))


def noise(rng: np.random.Generator, side_px: int, roughness: float, stretch: int = 1) -> np.ndarray:
    """Smooth random relief [side, side], mean 0, deviation 1; roughness is the weight of each finer
    octave against the last.

    `stretch` draws it out along the height, as grain runs in wood.
    """
    total = np.zeros((side_px // 2, side_px // 2), np.float32)
    cells = 4
    weight = 1.0
    while cells <= side_px // 2:
        octave = rng.standard_normal((max(2, cells // stretch), cells), np.float32)
        total += weight * cv2.resize(
            octave, total.shape, interpolation=cv2.INTER_CUBIC if cells <= 64 else cv2.INTER_LINEAR
        )
        cells = cells * 2
        weight = weight * roughness
    total = (total - total.mean()) / total.std()
    return cv2.resize(total, (side_px, side_px), interpolation=cv2.INTER_LINEAR)


def palette(
    rng: np.random.Generator,
    count: int,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> list[Colour]:
    """Colours that go together: one hue, its neighbours and its complement, in several
    brightnesses."""
    hues = (rng.uniform(0, 1) + rng.choice([0, 0, 0.07, -0.07, 0.5], count)) % 1
    hsv = np.column_stack(
        [hues * 179, rng.uniform(*saturation, count) * 255, rng.uniform(*value, count) * 255]
    )
    return [
        tuple(colour)
        for colour in cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0].tolist()
    ]


def ground(
    rng: np.random.Generator, side_px: int, colour: Colour, contrast: float, roughness: float = 0.75
) -> Picture:
    """A plain colour with grain."""
    relief = noise(rng, side_px, roughness)
    return cv2.merge(
        [cv2.convertScaleAbs(relief, alpha=contrast, beta=float(channel)) for channel in colour]
    )


def tints(
    rng: np.random.Generator, colours: list[Colour], shape: tuple[int, ...], spread: float
) -> list:
    """Nested lists [*shape] of random colours of the palette, each a little lighter or darker."""
    chosen = np.array(colours, float)[rng.integers(0, len(colours), shape)] + rng.normal(
        0, spread, (*shape, 1)
    )
    return np.clip(chosen, 0, 255).astype(int).tolist()


def places(rng: np.random.Generator, picture: Picture, count: int) -> np.ndarray:
    """Random points [count, 2] within a picture, x and y."""
    height, width = picture.shape[:2]
    return rng.uniform(0, 1, (count, 2)) * [width, height]


def sprigs(
    rng: np.random.Generator,
    picture: Picture,
    at: np.ndarray,
    sizes: tuple[float, float],
    colours: list[Colour],
) -> Picture:
    """Twigs with leaves and a blossom, at the points given; returns the same picture."""
    count = len(at)
    size = rng.uniform(*sizes, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    tip = at + (size * [np.cos(angle), np.sin(angle)]).T
    share = np.sort(rng.uniform(0.15, 0.9, (count, 4)), axis=1)
    side = angle[:, None] + rng.choice([-1, 1], (count, 4)) * rng.uniform(0.6, 1.2, (count, 4))
    leaf = (
        at[:, None]
        + share[..., None] * (tip - at)[:, None]
        + 0.28 * size[:, None, None] * np.stack([np.cos(side), np.sin(side)], axis=-1)
    )
    leaves = rng.integers(2, 5, count).tolist()
    rounded = (np.rint(points).astype(int).tolist() for points in (at, tip, leaf))
    for start, end, ends, sides, number, length, (green, bloom, dark) in zip(
        *rounded,
        np.degrees(side).tolist(),
        leaves,
        size.tolist(),
        tints(rng, colours, (count, 3), 18),
        strict=True,
    ):
        cv2.line(picture, start, end, dark, max(1, int(length / 9)), cv2.LINE_AA)
        axes = (max(2, int(length * 0.28)), max(1, int(length * 0.11)))
        for k in range(number):
            cv2.ellipse(picture, ends[k], axes, sides[k], 0, 360, green, -1, cv2.LINE_AA)
        cv2.circle(picture, end, max(2, int(length * 0.24)), bloom, -1, cv2.LINE_AA)
        cv2.circle(picture, end, max(1, int(length * 0.1)), dark, -1, cv2.LINE_AA)
    return picture


def shapes(
    rng: np.random.Generator,
    picture: Picture,
    at: np.ndarray,
    sizes: tuple[float, float],
    colours: list[Colour],
) -> Picture:
    """Discs, rings, lenses, polygons, strokes and letters at the points given; returns the same
    picture."""
    count = len(at)
    size = np.maximum(rng.uniform(*sizes, count), 2)
    corners = np.rint(at[:, None] + rng.uniform(-1, 1, (count, 5, 2)) * size[:, None, None]).astype(
        np.int32
    )
    number = rng.integers(3, 6, count).tolist()
    words = rng.choice(LETTERS, (count, 3))
    end = np.rint(at + rng.uniform(-2.5, 2.5, (count, 2)) * size[:, None]).astype(int).tolist()
    kind = rng.integers(0, 6, count).tolist()
    turn = rng.uniform(0, 180, count).tolist()
    points = np.rint(at).astype(int).tolist()
    radii = size.astype(int).tolist()
    for k, colour in enumerate(tints(rng, colours, (count,), 12)):
        point = points[k]
        side = radii[k]
        match kind[k]:
            case 0:
                cv2.circle(picture, point, side, colour, -1, cv2.LINE_AA)
            case 1:
                cv2.circle(picture, point, side, colour, max(1, side // 3), cv2.LINE_AA)
            case 2:
                cv2.ellipse(
                    picture,
                    point,
                    (side, max(2, side // 3)),
                    turn[k],
                    0,
                    360,
                    colour,
                    -1,
                    cv2.LINE_AA,
                )
            case 3:
                cv2.fillPoly(picture, [corners[k, : number[k]]], colour, cv2.LINE_AA)
            case 4:
                cv2.line(picture, point, end[k], colour, max(1, side // 4), cv2.LINE_AA)
            case _:
                word = "".join(words[k, : number[k] - 2])
                cv2.putText(
                    picture,
                    word,
                    point,
                    cv2.FONT_HERSHEY_SIMPLEX,
                    side / 16,
                    colour,
                    max(1, side // 6),
                    cv2.LINE_AA,
                )
    return picture


def wallpaper(rng: np.random.Generator, side_px: int) -> Picture:
    """Sprigs on a light ground."""
    unit = side_px / 1024
    picture = ground(rng, side_px, palette(rng, 1, (0.06, 0.3), (0.72, 0.95))[0], 9)
    return sprigs(
        rng,
        picture,
        places(rng, picture, 1500),
        (9 * unit, 26 * unit),
        palette(rng, 5, (0.25, 0.75), (0.2, 0.7)),
    )


def cells(side_px: int, width: int, height: int, staggered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bricks or tiles: the number of each pixel's cell [side, side], and whether it is joint (its
    first two rows and columns)."""
    y = np.arange(side_px)[:, None]
    x = np.arange(side_px)[None]
    row = y // height
    x = (
        x + np.where(row % 2, width // 2, 0)
        if staggered
        else np.broadcast_to(x, (side_px, side_px))
    )
    return row * (side_px // width + 2) + x // width, (x % width < 2) | (y % height < 2)


def brick(rng: np.random.Generator, side_px: int) -> Picture:
    """Bricks 27 x 9 cm, each burnt differently."""
    cell, joint = cells(side_px, max(8, side_px * 34 // 1024), max(4, side_px * 12 // 1024), True)
    count = int(cell.max()) + 1
    base = np.array([rng.uniform(135, 185), rng.uniform(80, 115), rng.uniform(60, 90)])
    tone = base * np.clip(rng.normal(1, 0.24, (count, 1)), 0.4, 1.5) + rng.normal(0, 9, (count, 3))
    return _toned(rng, tone, cell, 11, joint, 196)


def tiles(rng: np.random.Generator, side_px: int) -> Picture:
    """Painted cement tiles, 31 cm, every one with another figure."""
    size = side_px * 40 // 1024
    cell, joint = cells(side_px, size, size, False)
    tone = np.array(palette(rng, 1, (0.03, 0.2), (0.8, 0.95))[0]) + rng.normal(
        0, 14, (int(cell.max()) + 1, 1)
    )
    picture = _toned(rng, tone, cell, 7, joint, 92)
    corners = np.stack(
        np.meshgrid(np.arange(0, side_px, size), np.arange(0, side_px, size)), axis=-1
    ).reshape(-1, 2)
    corners = np.repeat(corners, rng.integers(1, 4, len(corners)), axis=0)
    at = corners + rng.uniform(0.25, 0.75, corners.shape) * size
    shapes(rng, picture, at, (0.12 * size, 0.34 * size), palette(rng, 4, (0.35, 0.8), (0.25, 0.7)))
    picture[joint] = 92
    return picture


def planks(rng: np.random.Generator, side_px: int) -> Picture:
    """A floor of boards 17 cm wide, each of its own tone, with grain and knots."""
    base = (rng.uniform(130, 195), rng.uniform(88, 135), rng.uniform(48, 88))
    board = max(6, side_px * 22 // 1024)
    tone = np.empty((side_px, side_px), np.float32)
    seams = np.zeros((side_px, side_px), bool)
    for x in range(0, side_px, board):
        y = -int(rng.integers(0, side_px // 6))
        while y < side_px:
            end = y + int(rng.integers(side_px // 11, side_px // 5))
            tone[max(y, 0) : end, x : x + board] = rng.uniform(0.62, 1.22)
            seams[max(y, 0) : max(y, 0) + 2, x : x + board] = True
            y = end
        seams[:, x : x + 2] = True
    grain = 13 * noise(rng, side_px, 0.85, stretch=8)
    picture = cv2.merge([cv2.convertScaleAbs(channel * tone + grain) for channel in base])
    _knots(rng, picture, 260, (2, 5), (62, 40, 24))
    picture[seams] = picture[seams] // 3
    return picture


def carpet(rng: np.random.Generator, side_px: int) -> Picture:
    """Wall-to-wall carpet with a scattered figure."""
    unit = side_px / 1024
    colours = palette(rng, 6, (0.2, 0.6), (0.2, 0.8))
    picture = ground(rng, side_px, colours[0], 20, 0.95)
    return shapes(rng, picture, places(rng, picture, 1500), (5 * unit, 17 * unit), colours[1:])


def plaster(rng: np.random.Generator, side_px: int) -> Picture:
    """Rough plaster for ceilings: trowel strokes and stains."""
    white = np.array(palette(rng, 1, (0.02, 0.1), (0.78, 0.92))[0])
    tones = [
        tuple(np.minimum(white * share, 255).astype(int).tolist())
        for share in (0.62, 0.74, 0.84, 1.08)
    ]
    picture = ground(rng, side_px, tuple(white.tolist()), 9, 0.95)
    at = places(rng, picture, 1700)
    unit = side_px / 1024
    length = rng.uniform(5 * unit, 18 * unit, len(at))
    start = rng.uniform(0, 360, len(at))
    turn = rng.uniform(0, 180, len(at))
    axes = (
        np.maximum(np.column_stack([length, length * rng.uniform(0.2, 0.5, len(at))]), 1)
        .astype(int)
        .tolist()
    )
    sweep = rng.uniform(90, 260, len(at))
    centres = np.rint(at).astype(int).tolist()
    for k, colour in enumerate(tints(rng, tones, (len(at),), 4)):
        cv2.ellipse(
            picture,
            centres[k],
            axes[k],
            turn[k],
            start[k],
            start[k] + sweep[k],
            colour,
            max(1, int(length[k] / 4)),
            cv2.LINE_AA,
        )
    return picture


def wood(rng: np.random.Generator, side_px: int) -> Picture:
    """Veneer: grain along the height, knots."""
    base = (rng.uniform(105, 190), rng.uniform(70, 130), rng.uniform(40, 85))
    relief = 20 * noise(rng, side_px, 0.8, stretch=10) + 9 * noise(rng, side_px, 0.95)
    picture = cv2.merge([cv2.convertScaleAbs(relief, beta=channel) for channel in base])
    return _knots(rng, picture, 700, (2, 6), tuple(int(0.45 * channel) for channel in base))


def fabric(rng: np.random.Generator, side_px: int) -> Picture:
    """Upholstery: sprigs, light and dark, on a strong colour."""
    unit = side_px / 1024
    picture = ground(rng, side_px, palette(rng, 1, (0.3, 0.7), (0.35, 0.75))[0], 14, 0.95)
    colours = [
        *palette(rng, 3, (0.1, 0.5), (0.7, 0.98)),
        *palette(rng, 2, (0.4, 0.8), (0.15, 0.35)),
    ]
    return sprigs(rng, picture, places(rng, picture, 1700), (8 * unit, 22 * unit), colours)


def leaves(rng: np.random.Generator, side_px: int) -> Picture:
    """Foliage."""
    unit = side_px / 1024
    greens: list[Colour] = [(30, 62, 26), (52, 98, 40), (84, 132, 58), (126, 160, 84), (38, 80, 48)]
    picture = ground(rng, side_px, greens[1], 16, 0.9)
    return sprigs(rng, picture, places(rng, picture, 600), (18 * unit, 50 * unit), greens)


def _toned(
    rng: np.random.Generator,
    tone: np.ndarray,
    cell: np.ndarray,
    grain: float,
    joint: np.ndarray,
    joint_grey: int,
) -> Picture:
    """Every cell in its own colour, with grain, and joints between."""
    relief = cv2.convertScaleAbs(noise(rng, len(cell), 0.9), alpha=grain, beta=64)
    picture = np.clip(tone - 64, 0, 191).astype(np.uint8)[cell]
    picture[joint] = joint_grey - 64
    return cv2.add(picture, cv2.merge([relief] * 3))


def _knots(
    rng: np.random.Generator, picture: Picture, count: int, widths: tuple[int, int], colour: Colour
) -> Picture:
    for (x, y), width in zip(
        np.rint(places(rng, picture, count)).astype(int).tolist(),
        rng.integers(*widths, count).tolist(),
        strict=True,
    ):
        cv2.ellipse(picture, (x, y), (width, int(width * 1.9)), 0, 0, 360, colour, -1)
    return picture
