"""The floor is looked for where it can be, whatever else a file holds and wherever it lies."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.scenes import walker
from mimic.scenes.base import Unwalkable
from mimic.scenes.embree import Embree
from mimic.scenes.floor_plan import CELLS_MAX, plan
from mimic.scenes.mesh import Mesh
from mimic.synthetic.builder import Builder, Paint
from tests.support.boxes import engine_of

FLAT = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0]], float)  # a level triangle
UPRIGHT = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0]], float)
SLIVER = np.array(
    [[1, 1, 1], [1, 1.01, 1], [3000, 5, 2000]], float
)  # a corner of the room, torn away


def with_more(mesh: Mesh, corners: np.ndarray) -> Mesh:
    """The scene and one more triangle, that looks like its first."""
    faces = np.concatenate([mesh.faces, np.array([[0, 1, 2]], np.int32) + len(mesh.vertices)])
    by_corner: dict[str, Any] = {
        name: np.concatenate([getattr(mesh, name), getattr(mesh, name)[:3]])
        for name in ("uv", "light")
    }
    by_face: dict[str, Any] = {
        name: np.concatenate([getattr(mesh, name), getattr(mesh, name)[:1]])
        for name in ("texture", "class_id", "instance")
    }
    vertices = np.concatenate([mesh.vertices, corners.astype(np.float32)])
    return replace(mesh, vertices=vertices, faces=faces, **by_corner, **by_face)


@pytest.mark.parametrize(
    "stray",
    [
        FLAT + [3000, 0, 3000],
        FLAT + [-3000, 0, -20],
        FLAT * 500 + [9000, -7, 0],
        FLAT * 500 + [0, 3000, 0],
        UPRIGHT + [0, -2000, 0],
        UPRIGHT * 80 + [0, 0, -5e6],
    ],
    ids=["level", "beside", "larger than the flat", "above", "below", "upright and very far"],
)
def test_a_scene_with_a_stray_triangle_is_walked_as_without_it(
    flat: Embree, stray: np.ndarray
) -> None:
    engine = engine_of(with_more(flat.mesh, stray))
    np.testing.assert_array_equal(engine.floor.height, flat.floor.height)
    np.testing.assert_array_equal(engine.floor.island, flat.floor.island)
    draws = [
        [walker.start(one, rng, 2.0) for _ in range(20)]
        for one, rng in ((one, np.random.default_rng(3)) for one in (engine, flat))
    ]
    np.testing.assert_array_equal(draws[0], draws[1])


def test_a_torn_triangle_does_not_hide_the_floor(flat: Embree) -> None:
    """It joins the walls to what lies far away, but the floor lies where it lay."""
    engine = engine_of(with_more(flat.mesh, SLIVER))
    assert (
        engine.floor.height.shape[1] * engine.floor.height.shape[2]
        < 1.2 * flat.floor.height[0].size
    )
    assert len(engine.floor.cells) == pytest.approx(len(flat.floor.cells), rel=0.03)
    assert walker.start(engine, np.random.default_rng(0), 2.0) is not None


def test_furniture_in_centimetres_is_no_landscape() -> None:
    """Tables of 1.8 x 0.9 m, a step apart and without a floor, would each fit."""
    builder = Builder(np.random.default_rng(0))
    for x, height in ((0, 0.71), (3, 0.45), (6, 0.8)):
        builder.box((x, 0, 0), (x + 1.8, height, 0.9), Paint(0), builder.new("table"))
        builder.box((x, 0, 4), (x + 1.8, height, 4.9), Paint(0), builder.new("table"))
    metres = builder.mesh((np.zeros((2, 2, 3), np.uint8),), None)
    with pytest.raises(Unwalkable, match="is its unit the metre"):
        plan(replace(metres, vertices=metres.vertices * 100))


def test_of_two_houses_that_are_too_far_apart_none_is_left_out_unsaid(flat: Embree) -> None:
    shifted = [
        replace(flat.mesh, vertices=flat.mesh.vertices + np.array([shift, 0, 0], np.float32))
        for shift in (0, 20_000)
    ]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in shifted])
        for name in ("vertices", "uv", "light")
    }
    arrays |= {
        name: np.concatenate([getattr(one, name) for one in shifted])
        for name in ("texture", "class_id", "instance")
    }
    faces = np.concatenate([flat.mesh.faces, flat.mesh.faces + len(flat.mesh.vertices)])
    with pytest.raises(Unwalkable, match="must be cut into several files"):
        plan(replace(flat.mesh, faces=faces, **arrays))


def test_an_ordinary_scene_is_looked_at_whole(flat: Embree) -> None:
    """Even what lies apart: an agent may start there."""
    mesh = with_more(flat.mesh, FLAT + [60, 0, 60])
    np.testing.assert_array_equal(plan(mesh), mesh.bounds())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda vertices: vertices * 30_000,
            r"^the scene measures 2\.7\d+e\+05 x .* m \(x, y up, z\).*units_to_meters",
        ),
        (
            lambda vertices: vertices * 100,
            r"^the scene measures 903\.2 x 260 x 700 m .*is its unit the metre\?",
        ),
        (lambda vertices: np.where(vertices > 5, np.inf, vertices), "corners that are no numbers"),
    ],
    ids=["of the whole range of 16 bits", "in centimetres", "infinite"],
)
def test_a_scene_that_is_too_large_is_one_line_with_its_extents(
    flat: Embree, change: Callable[..., Any], message: str
) -> None:
    mesh = replace(flat.mesh, vertices=change(flat.mesh.vertices).astype(np.float32))
    with pytest.raises(Unwalkable, match=message):
        plan(mesh)


LARGEST = """
import sys
import numpy as np
from tests.support.boxes import built, room
side = float(sys.argv[1])
engine = built(lambda builder: room(builder, (side, 3.0, side)))
engine.random_point(np.random.default_rng(0))
print(len(engine.floor.cells))
"""


def test_the_largest_floor_that_is_looked_at_takes_a_bounded_memory(repository: Path) -> None:
    """In a process of its own, which has 1.5 GB of data (not of addresses: libraries reserve what
    they never use)."""
    side = 0.9 * 0.1 * CELLS_MAX**0.5
    limit = 1_500_000_000
    done = subprocess.run(
        [sys.executable, "-c", LARGEST, f"{side}"],
        capture_output=True,
        text=True,
        timeout=600,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(repository),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0.95 * (side / 0.1 - 4) ** 2
