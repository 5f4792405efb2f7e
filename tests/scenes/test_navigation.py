from __future__ import annotations

import numpy as np
import pytest

from mimic.scenes import walker
from mimic.scenes.base import Unwalkable, heading
from mimic.scenes.embree import Embree
from mimic.scenes.navigation import RADIUS_M
from mimic.synthetic.builder import Builder, Paint
from tests.support.boxes import BOX, built, room

PAINT = Paint(0)


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
