"""Geometry of charts: numbers in, coordinates out. The page draws them as inline SVG, so text stays
text and colours follow the theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

POINTS_MAX = 300  # a longer line is averaged down to this; more would not be seen


@dataclass(frozen=True)
class Tick:
    position: float
    label: str


@dataclass(frozen=True)
class Line:
    """A curve: SVG path data, and where its label stands (its end, moved where labels would
    touch)."""

    name: str
    path: str
    end: tuple[float, float]
    label_y: float
    label: str


@dataclass(frozen=True)
class LineChart:
    width: int
    height: int
    left: int  # the plot area begins here and ends at `right`, `bottom`
    right: int
    bottom: int
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Histogram:
    width: int
    height: int
    bottom: int
    bars: list[Bar]
    x_ticks: list[Tick]
    tallest: int


@dataclass(frozen=True)
class Dot:
    """A value and the interval around it (None: unknown), at height y."""

    name: str
    y: float
    x: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DotChart:
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    dots: list[Dot]
    floors: list[Tick]
    x_ticks: list[Tick]


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], width: int = 460, height: int = 260
) -> LineChart | None:
    """Curves over a common pair of axes; the y axis covers the data, not zero. None where no curve
    has two points."""
    curves = {
        name: _thin([point for point in points if all(map(math.isfinite, point))])
        for name, points in series.items()
    }
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    left = 46
    right = width - 112
    top = 14
    bottom = height - 34
    everything = [point for points in curves.values() for point in points]
    longest = max(x for x, _ in everything)
    low = min(y for _, y in everything)
    high = max(y for _, y in everything)
    pad = 0.06 * (high - low) or 0.01 * (abs(high) or 1)
    to_x = _scale(0, longest, left, right)
    to_y = _scale(low - pad, high + pad, bottom, top)
    placed = {
        name: [(round(to_x(x), 1), round(to_y(y), 1)) for x, y in points]
        for name, points in curves.items()
    }
    labels = spread({name: points[-1][1] for name, points in placed.items()}, 15, top, bottom)
    return LineChart(
        width=width,
        height=height,
        left=left,
        right=right,
        bottom=bottom,
        x_ticks=[Tick(round(to_x(x), 1), f"{x:,g}") for x in ticks(0, longest, 5)],
        y_ticks=[Tick(round(to_y(y), 1), f"{y:g}") for y in ticks(low - pad, high + pad, 4)],
        lines=[
            Line(
                name,
                "M" + "L".join(f"{x:g} {y:g}" for x, y in points),
                points[-1],
                labels[name],
                f"{name} {curves[name][-1][1]:.3f}",
            )
            for name, points in placed.items()
        ],
    )


def histogram(
    edges: Sequence[float], counts: Sequence[int], width: int = 300, height: int = 120
) -> Histogram | None:
    """Bars over bins [edges[i], edges[i + 1]); None where nothing was counted."""
    if not counts or not any(counts):
        return None
    bottom = height - 24
    top = 16
    to_x = _scale(edges[0], edges[-1], 4, width - 4)
    tallest = max(counts)
    bars = []
    for (low, high), count in zip(pairwise(edges), counts, strict=True):
        tall = (bottom - top) * count / tallest
        bars.append(
            Bar(
                round(to_x(low) + 0.5, 1),
                round(bottom - tall, 1),
                round(to_x(high) - to_x(low) - 1, 1),
                round(tall, 1),
                low,
                high,
                count,
            )
        )
    return Histogram(
        width,
        height,
        bottom,
        bars,
        [Tick(round(to_x(x), 1), f"{x:g}") for x in ticks(edges[0], edges[-1], 4)],
        tallest,
    )


def dot_chart(
    values: Sequence[tuple[str, float, float | None]], floors: Mapping[str, float], width: int = 360
) -> DotChart | None:
    """Values (name, value, standard error) on one axis, each with two standard errors to both
    sides; None without values."""
    if not values:
        return None
    reach = [(value - 2 * (error or 0), value + 2 * (error or 0)) for _, value, error in values]
    low = min([start for start, _ in reach] + list(floors.values()))
    high = max([end for _, end in reach] + list(floors.values()))
    pad = 0.04 * (high - low) or 0.01
    left = 92
    right = width - 14
    top = 18 if floors else 6
    step = 24
    bottom = top + step * len(values)
    to_x = _scale(low - pad, high + pad, left, right)
    dots = [
        Dot(
            name,
            top + step * (index + 0.5),
            round(to_x(value), 1),
            *((round(to_x(end), 1) for end in ends) if error is not None else (None, None)),
        )
        for index, ((name, value, error), ends) in enumerate(zip(values, reach, strict=True))
    ]
    marks = [
        Tick(round(to_x(value), 1), name)
        for name, value in sorted(floors.items(), key=lambda floor: floor[1])
    ]
    return DotChart(
        width,
        bottom + 24,
        left,
        right,
        top,
        bottom,
        dots,
        marks,
        [Tick(round(to_x(x), 1), f"{x:g}") for x in ticks(low - pad, high + pad, 5)],
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers inside [low, high], about that many: steps of 1, 2 or 5 times a power of
    ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def spread(wanted: Mapping[str, float], gap: float, low: float, high: float) -> dict[str, float]:
    """Label heights at least `gap` apart, near where they are wanted, inside [low, high] as far as
    they fit."""
    placed: dict[str, float] = {}
    edge = -math.inf
    for name in sorted(wanted, key=lambda name: wanted[name]):
        placed[name] = edge = max(wanted[name], edge + gap, low)
    edge = high + gap
    for name in sorted(placed, key=lambda name: -placed[name]):
        placed[name] = edge = min(placed[name], edge - gap)
    return {name: round(y, 1) for name, y in placed.items()}


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS_MAX points: means of equal stretches; the last x is kept."""
    if len(points) <= POINTS_MAX:
        return list(points)
    cuts = [round(index * len(points) / POINTS_MAX) for index in range(POINTS_MAX + 1)]
    parts = [points[start:end] for start, end in pairwise(cuts)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]
