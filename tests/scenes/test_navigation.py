from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

from mimic.scenes import walker
from mimic.scenes.base import Unwalkable, heading
from mimic.scenes.embree import Embree
from mimic.scenes.navigation import RADIUS_M
from mimic.synthetic.builder import Builder, Paint
from tests.support.boxes import BOX, built, room

PAINT = Paint(0)
Side = Callable[..., None]


def partition(builder: Builder, door: bool) -> None:
    """A wall without thickness at x = 2.5, with an opening of 1 m or without."""
    label = builder.new("wall")
    for low, high in ((0.0, 1.5), (2.5, 4.0)) if door else ((0.0, 4.0),):
        builder.quad((2.5, 0, high), (0, 0, low - high), (0, 3, 0), PAINT, label)


def table(builder: Builder) -> None:
    """A slab of 2 cm at a height that no round number meets, on no legs."""
    builder.box((1.5, 0.71, 1.2), (3.5, 0.73, 2.8), PAINT, builder.new("table"))


def test_the_floor_of_a_box_is_its_area_less_the_radius(box: Embree) -> None:
    width, _, depth = BOX
    area = len(box.floor.cells) * 0.01
    assert area == pytest.approx((width - 2 * RADIUS_M) * (depth - 2 * RADIUS_M), rel=0.06)
    corner = np.hypot(width / 2 - RADIUS_M, depth / 2 - RADIUS_M)
    assert box.island_radius(np.array([2.0, 0.0, 2.0])) == pytest.approx(corner, abs=0.1)
    assert box.island_radius(np.array([0.05, 0.0, 2.0])) == 0.0  # too near the wall to stand
    assert len(box.floor.radius) == 1  # neither the ceiling's back nor its front is a floor


@pytest.mark.parametrize(("door", "reached"), [(False, False), (True, True)])
def test_a_wall_without_thickness_parts_the_floor_unless_it_has_a_door(
    door: bool, reached: bool
) -> None:
    engine = built(room, lambda builder: partition(builder, door))
    here, there = np.array([1.0, 0.0, 2.0]), np.array([4.0, 0.0, 2.0])
    assert (np.abs(engine.try_step(here, there) - there).max() < 0.05) == reached
    assert (
        engine.floor.island[engine.floor._locate(here)]
        == engine.floor.island[engine.floor._locate(there)]
    ) == reached


def test_a_table_stops_the_agent_and_its_top_is_an_island_of_its_own() -> None:
    engine = built(room, table)
    end = engine.try_step(np.array([0.5, 0.0, 2.0]), np.array([2.5, 0.0, 2.0]))
    assert (
        end[0] < 1.5 - RADIUS_M + 0.11
    )  # the slab is met although it is thinner than the rays' spacing
    assert (
        0
        < engine.island_radius(np.array([2.5, 0.73, 2.0]))
        < 1.5
        < engine.island_radius(np.array([0.5, 0.0, 2.0]))
    )


def test_the_guard_keeps_the_radius_from_what_the_grid_missed() -> None:
    """A pole of 2 cm, on the border between cells: no ray of the grid meets it, and the walk still
    stops short."""
    engine = built(
        room,
        lambda builder: builder.box((2.49, 0, 2.09), (2.51, 3, 2.11), PAINT, builder.new("lamp")),
    )
    assert engine.island_radius(np.array([2.5, 0.0, 2.1])) > 2
    end = engine.floor._walk(np.array([0.5, 0.0, 2.1]), np.array([4.5, 0.0, 2.1]))
    assert 2.49 - RADIUS_M - 0.06 < end[0] <= 2.49 - RADIUS_M


def slab(builder: Builder, low: tuple[float, float], high: tuple[float, float], y: float) -> None:
    """A floor without a thickness, seen from above."""
    (x, z), (x_end, z_end) = low, high
    label = builder.new("floor")
    builder.quad((x, y, z_end), (x_end - x, 0, 0), (0, 0, z - z_end), PAINT, label)


def ceiling(
    builder: Builder, low: tuple[float, float], high: tuple[float, float], y: float
) -> None:
    """The same, seen from below."""
    (x, z), (x_end, z_end) = low, high
    builder.quad((x, y, z), (x_end - x, 0, 0), (0, 0, z_end - z), PAINT, builder.new("ceiling"))


def ground(engine: Embree) -> list[float]:
    """Radii of the islands below one metre."""
    cells = tuple(engine.floor.cells[engine.floor._centre(engine.floor.cells)[:, 1] < 1.0].T)
    return [float(engine.floor.radius[label]) for label in np.unique(engine.floor.island[cells])]


def test_a_floor_goes_on_below_a_gallery() -> None:
    """Where one begins overhead, the floor below is no longer the first from the top."""
    whole = np.hypot(5 - RADIUS_M, 5 - RADIUS_M)
    gallery = built(
        lambda builder: slab(builder, (0, 0), (10, 10), 0),
        lambda builder: slab(builder, (0, 0), (5, 10), 3),
    )
    assert ground(gallery) == [pytest.approx(whole, abs=0.1)]
    upstairs = built(
        lambda builder: slab(builder, (0, 0), (10, 10), 0),
        lambda builder: ceiling(builder, (0, 0), (10, 10), 2.9),
        lambda builder: slab(builder, (0, 0), (10, 10), 3),
        lambda builder: builder.box((4, 3, 4), (6, 4, 6), PAINT, builder.new("cabinet")),
    )
    assert ground(upstairs) == [pytest.approx(whole, abs=0.1)]
    walked = gallery.try_step(np.array([5.4, 0, 5]), np.array([4.6, 0, 5]))
    assert walked == pytest.approx([4.6, 0, 5], abs=1e-3)


@pytest.mark.parametrize("sides", [(slab,), (slab, ceiling), (ceiling, slab)])
def test_a_floor_that_is_seen_from_both_sides_is_whole(sides: tuple[Side, ...]) -> None:
    """Two triangles of both windings in one place: which is met first is their order in the
    file."""
    engine = built(
        *(functools.partial(side, low=(0, 0), high=(10, 10), y=0.0) for side in sides),
        lambda builder: ceiling(builder, (0, 0), (10, 10), 3),
    )
    assert engine.floor.height.shape == (1, 100, 100)
    assert not np.isnan(engine.floor.height).any()
    assert ground(engine) == [pytest.approx(np.hypot(4.8, 4.8), abs=0.1)]


def test_a_low_ceiling_leaves_no_room_to_stand() -> None:
    for height, expected in ((1.79, 0), (1.81, 1)):
        engine = built(
            lambda builder: slab(builder, (0, 0), (4, 4), 0),
            functools.partial(ceiling, low=(0, 0), high=(4, 4), y=height),
        )
        assert len(ground(engine)) == expected


@pytest.mark.parametrize("rise", [0.05, 0.12, 0.18, 0.2])
@pytest.mark.parametrize("edge", [2.4, 2.42, 2.44, 2.46])
def test_a_sill_is_stepped_over(rise: float, edge: float) -> None:
    """Wherever it crosses a cell, as a bar and as the border of a platform, up and down."""
    for width in (0.1, edge):

        def sill(builder: Builder, low: float = edge - width) -> None:
            builder.box((low, 0, 0), (edge, rise, 4), PAINT, builder.new("wall"))

        engine = built(room, sill)
        one = np.array([1.9, rise if width == edge else 0, 2.0])
        other = np.array([2.8, 0, 2.1])
        for start, end in ((one, other), (other, one)):
            assert engine.floor._walk(start, end) == pytest.approx(end, abs=1e-3)


@pytest.mark.parametrize("angle_deg", [5, 10, 20, 45])
def test_a_sill_is_stepped_over_at_a_grazing_angle(angle_deg: float) -> None:
    engine = built(
        room, lambda builder: builder.box((0, 0, 2.26), (5, 0.18, 4), PAINT, builder.new("wall"))
    )
    way = np.array([np.cos(np.radians(angle_deg)), 0, np.sin(np.radians(angle_deg))])
    low = np.array([1.0, 0, 2.1])
    high = low + 2.6 * way if angle_deg < 20 else low + way
    high[1] = 0.18 if high[2] > 2.26 else 0.0
    for start, end in ((low, high), (high, low)):
        assert engine.floor._walk(start, end)[[0, 2]] == pytest.approx(end[[0, 2]], abs=1e-3)


@pytest.mark.parametrize("slope_deg", [10, 15, 20, 30, 40, 45])
@pytest.mark.parametrize("up", [True, False])
def test_a_ramp_is_walked_up_and_down(slope_deg: float, up: bool) -> None:
    """Below a ceiling that rises with it, too."""
    slope = float(np.tan(np.radians(slope_deg)))

    def ramp(builder: Builder) -> None:
        slab(builder, (0, 0), (2, 4), 0)
        builder.quad((2, 0, 4), (3, 3 * slope, 0), (0, 0, -4), PAINT, builder.new("floor"))
        slab(builder, (5, 0), (7, 4), 3 * slope)

    def soffit(builder: Builder) -> None:
        label = builder.new("ceiling")
        builder.quad((2, 1.9, 0), (3, 3 * slope, 0), (0, 0, 4), PAINT, label)

    for parts in ((ramp,), (ramp, soffit)):
        engine = built(*parts)
        assert len(engine.floor.radius) == 1
        for x in (1.5, 2.9, 4.7) if soffit not in parts else (2.4, 2.9, 3.7):
            ends = (x, x + 0.8) if up else (x + 0.8, x)
            start, end = (np.array([x, slope * np.clip(x - 2, 0, 3), 2.0]) for x in ends)
            reached = engine.floor._walk(start, end)
            assert reached[[0, 2]] == pytest.approx(end[[0, 2]], abs=1e-3)
            assert reached[1] == pytest.approx(end[1], abs=0.06)


@pytest.mark.parametrize("rise", [0.14, 0.17, 0.2])
@pytest.mark.parametrize("start", [2.0, 2.03, 2.06])
def test_stairs_are_climbed_to_what_stands_on_them_and_left_again(
    rise: float, start: float
) -> None:
    tread = 0.28
    wall = start + 8 * tread + 1.0

    def stairs(builder: Builder) -> None:
        slab(builder, (0, 0), (start, 4), 0)
        for step in range(8):
            low = start + tread * step
            high = wall + 1 if step == 7 else low + tread
            builder.box((low, 0, 0), (high, rise * (step + 1), 4), PAINT, builder.new("wall"))
        builder.box((wall, 0, 0), (wall + 0.04, 4, 4), PAINT, builder.new("wall"))

    engine = built(stairs)
    place = np.array([1.2, 0.0, 2.0])
    for _ in range(8):
        place = engine.try_step(place, place + [0.8, 0, 0])
    assert place[0] == pytest.approx(wall - RADIUS_M - 0.07, abs=0.06)
    assert place[1] == pytest.approx(8 * rise, abs=1e-3)
    for _ in range(8):
        place = engine.try_step(place, place - [0.8, 0, 0])
    assert place[0] < 1.0
    assert place[1] == pytest.approx(0, abs=1e-3)


def test_a_post_on_a_ramp_stops_the_walk() -> None:
    """It is higher than the floor that rises ahead of the agent lets the rays overlook."""

    def ramp(builder: Builder) -> None:
        builder.quad((0, 0, 4), (6, 3, 0), (0, 0, -4), PAINT, builder.new("floor"))
        builder.box((2.99, 1, 2.09), (3.01, 2.1, 2.11), PAINT, builder.new("lamp"))

    engine = built(ramp)
    for x, end in ((2.2, 3.8), (3.8, 2.2)):
        start = np.array([x, x / 2, 2.1])
        reached = engine.floor._walk(start, np.array([end, end / 2, 2.1]))
        assert abs(reached[0] - 3.0) == pytest.approx(RADIUS_M + 0.03, abs=0.03)


def test_a_step_against_a_wall_slides_along_it(box: Embree) -> None:
    start = np.array([4.6, 0.0, 2.0])
    end = box.try_step(start, start + [0.7, 0.0, -0.7])
    assert end[2] == pytest.approx(1.3, abs=0.05)
    assert end[0] < BOX[0] - RADIUS_M + 0.05


def test_points_are_on_the_floor_and_the_seed_decides(box: Embree) -> None:
    draws = [
        [box.random_point(rng) for _ in range(50)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    ]
    assert np.array_equal(draws[0], draws[1])
    points = np.array(draws[0])
    assert np.allclose(points[:, 1], 0, atol=1e-5)
    assert (points[:, [0, 2]] > 0.1).all()
    assert (points < BOX).all()
    assert all(box.island_radius(point) > 2 for point in points)


def test_snap_finds_the_nearest_floor(box: Embree) -> None:
    snapped = box.snap(np.array([-1.0, 0.5, 2.0]))
    assert snapped is not None
    assert snapped == pytest.approx([0.25, 0.0, 2.0], abs=0.11)
    inside = box.snap(np.array([2.0, 0.1, 2.0]))
    assert inside is not None
    assert inside == pytest.approx([2.0, 0.0, 2.0], abs=1e-5)


def test_nowhere_to_stand_is_said() -> None:
    engine = built(
        lambda builder: builder.quad((0, 2, 0), (3, 0, 0), (0, 0, 3), PAINT, builder.new("ceiling"))
    )
    with pytest.raises(Unwalkable, match="no walkable floor"):
        engine.random_point(np.random.default_rng(0))
    assert engine.snap(np.zeros(3)) is None


def test_small_floors_are_named_with_their_size(box: Embree) -> None:
    with pytest.raises(Unwalkable, match=r"radius 9\.0 m or more \(largest found: 2\.[0-9] m\)"):
        walker.start(box, np.random.default_rng(0), 9.0)


def test_no_step_crosses_anything(flat: Embree) -> None:
    """Checked at other heights than the engine's own, knee to head."""
    rng = np.random.default_rng(11)
    heights = np.outer(np.arange(0.22, 1.79, 0.04), [0, 1, 0])
    place, moved = walker.start(flat, rng, 2.0), []
    for _ in range(300):
        end = flat.try_step(
            place, place - rng.uniform(0.5, 1.0) * heading(rng.uniform(0, 360))[:, 2]
        )
        moved.append(np.linalg.norm(end - place))
        place = end
    assert np.mean(np.array(moved) > 0.3) > 0.6  # it does get around
    # A slid step is not straight: check single straight walks, of which every step is made.
    crossed = 0
    for _ in range(300):
        begin = walker.start(flat, rng, 2.0)
        end = flat.floor._walk(
            begin, begin - rng.uniform(0.5, 1.0) * heading(rng.uniform(0, 360))[:, 2]
        )
        if np.linalg.norm(end - begin) > 1e-6:
            crossed += bool(
                flat.rays.blocked(begin + heights, np.tile(end - begin, (len(heights), 1))).any()
            )
    assert crossed == 0
