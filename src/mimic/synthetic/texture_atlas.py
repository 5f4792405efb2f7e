"""Textures that are sheets of many single things: paintings, rugs, windows, doors, and a wall of
books."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from mimic.synthetic.builder import Window
from mimic.synthetic.textures import (
    LETTERS,
    Colour,
    Picture,
    ground,
    palette,
    places,
    shapes,
    sprigs,
    wood,
)

PAINTINGS = (6, 5)  # columns, rows of each sheet
RUGS = (2, 2)
VIEWS = (3, 2)
JOINERY = (4, 2)
SHELF_ROW_M = 0.3  # books: one row of the texture
SHELF_ROWS = 26


def cell(index: int, layout: tuple[int, int]) -> Window:
    """Where picture number `index` of a sheet lies."""
    columns, rows = layout
    column = index % columns
    row = index // columns % rows
    inset = 0.002  # keeps the neighbour out of the coarser mip levels
    return Window(
        column / columns + inset,
        row / rows + inset,
        (column + 1) / columns - inset,
        (row + 1) / rows - inset,
    )


def paintings(rng: np.random.Generator, side_px: int) -> Picture:
    """Framed pictures: landscapes, abstracts, still lifes, posters with text."""
    return _sheet(rng, side_px, PAINTINGS, _painting)


def rugs(rng: np.random.Generator, side_px: int) -> Picture:
    return _sheet(rng, side_px, RUGS, _rug)


def views(rng: np.random.Generator, side_px: int) -> Picture:
    """Windows, with the world outside."""
    return _sheet(rng, side_px, VIEWS, _view)


def joinery(rng: np.random.Generator, side_px: int) -> Picture:
    """Doors (first row) and cabinet fronts (second)."""
    sheet = wood(rng, side_px)
    columns, rows = JOINERY
    width = side_px // columns
    height = side_px // rows
    for column in range(columns):
        tint = np.array(palette(rng, 1, (0.05, 0.5), (0.55, 1.0))[0]) / 255
        for row in range(rows):
            part = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
            part[:] = np.clip(part * (0.35 + 0.65 * tint) * 1.25, 0, 255).astype(np.uint8)
            _door(part) if row == 0 else _front(rng, part)
    return sheet


def books(rng: np.random.Generator, side_px: int) -> Picture:
    """Rows of books, standing on boards; SHELF_ROWS rows over the height."""
    picture = np.full((side_px, side_px, 3), 34, np.uint8)
    edges = np.rint(np.linspace(0, side_px, SHELF_ROWS + 1)).astype(int).tolist()
    for top, bottom in pairwise(edges):
        count = 260
        foot = bottom - 4
        widths = np.maximum(2, rng.integers(5, 12, count) * side_px // 1024)
        right = np.cumsum(widths + 1) - 2
        heights = (rng.uniform(0.62, 0.97, count) * (foot - top)).astype(int)
        bands = (rng.uniform(0.3, 0.85, count) * heights).astype(int)
        gap = rng.random(count) < 0.06
        hsv = rng.uniform([0, 0.2, 0.2], [1, 0.85, 0.95], (count, 2, 3)) * [179, 255, 255]
        colours = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).tolist()
        for k in np.flatnonzero(~gap & (right - widths < side_px)).tolist():
            left = int(right[k] - widths[k]) + 1
            end = int(right[k])
            picture[foot - heights[k] : foot, left:end] = colours[k][0]
            picture[foot - bands[k] : foot - bands[k] + max(1, int(heights[k]) // 7), left:end] = (
                colours[k][1]
            )
        picture[foot:bottom] = (120, 86, 54)
    return picture


def _sheet(
    rng: np.random.Generator,
    side_px: int,
    layout: tuple[int, int],
    draw: Callable[[np.random.Generator, Picture], None],
) -> Picture:
    sheet = np.zeros((side_px, side_px, 3), np.uint8)
    columns, rows = layout
    x, y = (np.rint(np.linspace(0, side_px, count + 1)).astype(int) for count in (columns, rows))
    for column in range(columns):
        for row in range(rows):
            part = np.ascontiguousarray(sheet[y[row] : y[row + 1], x[column] : x[column + 1]])
            draw(rng, part)
            sheet[y[row] : y[row + 1], x[column] : x[column + 1]] = part
    return sheet


def _painting(rng: np.random.Generator, part: Picture) -> None:
    height, width = part.shape[:2]
    frame = [(38, 28, 22), (166, 128, 62), (232, 228, 220), (92, 60, 36)][int(rng.integers(4))]
    part[:] = frame
    edge = max(3, width // 24)
    inner = np.ascontiguousarray(part[edge : height - edge, edge : width - edge])
    colours = palette(rng, 6, (0.3, 0.85), (0.2, 0.95))
    inner[:] = colours[0]
    size = inner.shape[1]
    match int(rng.integers(4)):
        case 0:
            _landscape(rng, inner)
        case 1:
            shapes(rng, inner, places(rng, inner, 40), (size * 0.04, size * 0.22), colours[1:])
        case 2:
            inner[:] = palette(rng, 1, (0.05, 0.3), (0.75, 0.95))[0]
            sprigs(rng, inner, places(rng, inner, 22), (size * 0.1, size * 0.35), colours[1:])
        case _:
            _poster(rng, inner, colours)
    part[edge : height - edge, edge : width - edge] = inner


def _poster(rng: np.random.Generator, inner: Picture, colours: list[Colour]) -> None:
    height, width = inner.shape[:2]
    shapes(rng, inner, places(rng, inner, 8), (width * 0.1, width * 0.3), colours[1:])
    for share in np.arange(0.15, 1.0, 0.14):
        text = "".join(rng.choice(LETTERS, int(rng.integers(4, 9))))
        cv2.putText(
            inner,
            text,
            (width // 12, int(height * share)),
            cv2.FONT_HERSHEY_DUPLEX,
            width / 190,
            colours[2],
            max(1, width // 90),
            cv2.LINE_AA,
        )


def _landscape(rng: np.random.Generator, inner: Picture) -> None:
    """Sky, sun, three ranges of hills, trees or houses."""
    height, width = inner.shape[:2]
    sky = np.linspace(0, 1, height)[:, None, None]
    inner[:] = (
        (
            (1 - sky) * np.array([70, 120, 190])
            + sky * np.array([235, 215, 190])
            + rng.normal(0, 14, 3)
        )
        .clip(0, 255)
        .astype(np.uint8)
    )
    cv2.circle(
        inner,
        (int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.35) * height)),
        width // 14,
        (250, 240, 205),
        -1,
        cv2.LINE_AA,
    )
    for depth in range(3):
        line = height * (0.42 + 0.17 * depth) + height * 0.1 * np.cumsum(rng.normal(0, 0.35, 13))
        outline = np.column_stack([np.linspace(0, width, 13), line])
        hill = np.array([[120, 140, 160], [86, 128, 88], [64, 92, 48]][depth]) + rng.normal(
            0, 16, 3
        )
        polygon = np.vstack([outline, [width, height], [0, height]]).astype(np.int32)
        cv2.fillPoly(inner, [polygon], tuple(int(c) for c in hill.clip(0, 255)), cv2.LINE_AA)
        for _ in range(5 + 3 * depth):
            x = int(rng.uniform(0, width))
            y = int(np.interp(x, outline[:, 0], outline[:, 1]) + height * rng.uniform(0, 0.12))
            tree = height * rng.uniform(0.04, 0.09) * (1 + depth)
            dark = tuple(int(c) for c in (hill * rng.uniform(0.35, 0.7)).clip(0, 255))
            if rng.random() < 0.6:
                cv2.fillPoly(
                    inner,
                    [
                        np.array([[x - tree * 0.4, y], [x + tree * 0.4, y], [x, y - tree]]).astype(
                            np.int32
                        )
                    ],
                    dark,
                    cv2.LINE_AA,
                )
            else:
                wall = palette(rng, 1, (0.1, 0.5), (0.6, 0.95))[0]
                cv2.rectangle(inner, (x, int(y - tree * 0.5)), (int(x + tree * 0.6), y), wall, -1)
                roof = np.array(
                    [
                        [x, y - tree * 0.5],
                        [x + tree * 0.6, y - tree * 0.5],
                        [x + tree * 0.3, y - tree * 0.8],
                    ]
                ).astype(np.int32)
                cv2.fillPoly(inner, [roof], (150, 66, 48), cv2.LINE_AA)


def _view(rng: np.random.Generator, part: Picture) -> None:
    height, width = part.shape[:2]
    _landscape(rng, part)
    bar = max(3, width // 28)
    panes = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    for x in np.linspace(0, width, panes[0] + 1):
        cv2.rectangle(part, (int(x) - bar, 0), (int(x) + bar, height), (228, 226, 218), -1)
    for y in np.linspace(0, height, panes[1] + 1):
        cv2.rectangle(part, (0, int(y) - bar), (width, int(y) + bar), (228, 226, 218), -1)
    cv2.rectangle(part, (0, 0), (width - 1, height - 1), (150, 146, 138), max(1, bar // 2))


def _rug(rng: np.random.Generator, part: Picture) -> None:
    """Borders within borders, a medallion, and scattered figures."""
    side = part.shape[0]
    colours = palette(rng, 6, (0.4, 0.85), (0.2, 0.85))
    part[:] = ground(rng, side, colours[0], 12, 0.95)[:, : part.shape[1]]
    shapes(rng, part, places(rng, part, 230), (side * 0.008, side * 0.03), colours[1:])
    for depth, colour in ((0.0, colours[1]), (0.05, colours[2]), (0.13, colours[3])):
        inset = int(depth * side)
        cv2.rectangle(
            part,
            (inset, inset),
            (side - 1 - inset, side - 1 - inset),
            colour,
            max(2, int(side * 0.025)),
        )
    for radius in np.linspace(0.27, 0.06, 5):
        corners = max(4, int(rng.integers(4, 13)))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        star = side / 2 + radius * side * np.column_stack(
            [np.cos(angles), np.sin(angles)]
        ) * rng.uniform(0.75, 1.1, (corners, 1))
        cv2.fillPoly(part, [star.astype(np.int32)], colours[int(rng.integers(6))], cv2.LINE_AA)


def _door(part: Picture) -> None:
    height, width = part.shape[:2]
    cv2.rectangle(part, (0, 0), (width - 1, height - 1), (60, 46, 34), max(2, width // 30))
    for top, bottom in ((0.06, 0.42), (0.5, 0.92)):
        for left, right in ((0.12, 0.46), (0.54, 0.88)):
            box = (int(left * width), int(top * height)), (int(right * width), int(bottom * height))
            cv2.rectangle(part, *box, (70, 54, 40), max(1, width // 40))
    cv2.circle(
        part,
        (int(0.9 * width), int(0.5 * height)),
        max(2, width // 22),
        (214, 184, 96),
        -1,
        cv2.LINE_AA,
    )


def _front(rng: np.random.Generator, part: Picture) -> None:
    height, width = part.shape[:2]
    columns = int(rng.integers(1, 4))
    rows = int(rng.integers(2, 5))
    for x in range(columns):
        for y in range(rows):
            low = int(x * width / columns) + 2, int(y * height / rows) + 2
            high = int((x + 1) * width / columns) - 3, int((y + 1) * height / rows) - 3
            cv2.rectangle(part, low, high, (66, 50, 36), max(1, width // 60))
            knob = (
                int((low[0] + high[0]) / 2),
                int(low[1] + (high[1] - low[1]) * rng.uniform(0.25, 0.5)),
            )
            cv2.circle(part, knob, max(2, width // 26), (220, 210, 190), -1, cv2.LINE_AA)
