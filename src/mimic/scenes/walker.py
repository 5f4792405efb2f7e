"""How an agent moves and where it looks, whatever the engine: rings of views for mining, and a
stroll for videos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mimic.scenes.base import Engine, Point, Rotation, Unwalkable, heading

POINT_TRIES = 200  # random points drawn until one lies on an island that is large enough
LOOK_AHEAD_M = 1.1  # the stroller turns away from what is nearer
TURN_DEG_PER_M = 42.0  # how much it looks around as it walks


@dataclass(frozen=True)
class Camera:
    """Where a view is taken from."""

    position: Point  # of the camera, metres
    rotation: Rotation  # camera to world


@dataclass(frozen=True)
class Walk:
    """The agent's rule; params.yaml holds the numbers."""

    headings: int  # views per place, equally spaced over 360 degrees, turning right
    turn_deg: float  # turns are multiples of it
    step_m: tuple[float, float]
    island_radius_min_m: float


def start(engine: Engine, rng: np.random.Generator, island_radius_min_m: float) -> Point:
    """A random place on floor that is large enough (not a table top); Unwalkable when none is
    found."""
    largest = 0.0
    for _ in range(POINT_TRIES):
        point = engine.random_point(rng)
        radius = engine.island_radius(point)
        if radius >= island_radius_min_m:
            return point
        largest = max(largest, radius)
    raise Unwalkable(
        f"no walkable floor of radius {island_radius_min_m} m or more (largest found: "
        f"{largest:.1f} m); lower island_radius_min_m"
    )


def three_rings(
    engine: Engine, rng: np.random.Generator, walk: Walk, height_m: float
) -> list[list[Camera]]:
    """Rings of views at three places: a first, then turn and step, then turn (or not) and step
    again (MIMIC, appendix A).

    The first turn never looks straight on or back, the second never back, so that views differ and
    still overlap.
    """
    floor = start(engine, rng, walk.island_radius_min_m)
    yaw_deg = 0.0
    rings = [_ring(floor, yaw_deg, walk.headings, height_m)]
    for first in (True, False):
        yaw_deg -= float(rng.choice(_turns(walk.turn_deg, first))) * walk.turn_deg
        floor = engine.try_step(floor, floor - heading(yaw_deg)[:, 2] * rng.uniform(*walk.step_m))
        rings.append(_ring(floor, yaw_deg, walk.headings, height_m))
    return rings


def random_walk(
    engine: Engine,
    rng: np.random.Generator,
    frames: int,
    step_m: float,
    height_m: float,
    island_radius_min_m: float,
) -> list[Camera]:
    """A hand-held camera carried around: one view every step_m on the way, turning smoothly, never
    into a wall."""
    floor = start(engine, rng, island_radius_min_m)
    yaw_deg = _most_open(engine, floor)
    sway = _smooth(rng, (frames, 5), window=7)
    wish = _smooth(rng, (frames, 1), window=max(9, int(0.8 / step_m)))[:, 0]
    turn = 0.0
    avoiding = 0
    cameras = []
    for frame in range(frames):
        forward = -heading(yaw_deg)[:, 2]
        ahead = float((engine.try_step(floor, floor + LOOK_AHEAD_M * forward) - floor) @ forward)
        side = avoiding or (1 if wish[frame] > 0 else -1)  # keeps turning the way it began to
        avoiding = side if ahead < 0.9 * LOOK_AHEAD_M else 0
        target = TURN_DEG_PER_M * step_m * (avoiding * 1.2 if avoiding else wish[frame])
        turn += 0.25 * (target - turn)  # a wrist does not jerk
        yaw_deg += turn
        if ahead > 0.35:
            floor = engine.try_step(floor, floor + step_m * forward)
        shake = sway[frame]
        position = floor + [0.008 * shake[0], height_m + 0.012 * shake[1], 0.008 * shake[2]]
        cameras.append(
            Camera(
                position,
                heading(yaw_deg + 0.5 * shake[3]) @ _tilt(-6.0 + 1.6 * shake[3], 0.9 * shake[4]),
            )
        )
    return cameras


def open_heading(engine: Engine, rng: np.random.Generator, floor: Point) -> float:
    """Degrees to turn left so as to look into the room, not at a wall: the clearest of three random
    directions."""
    yaws = rng.uniform(0, 360, 3)
    clear = [
        np.linalg.norm(engine.try_step(floor, floor - LOOK_AHEAD_M * heading(yaw)[:, 2]) - floor)
        for yaw in yaws
    ]
    return float(yaws[int(np.argmax(clear))])


def look(position: Point, yaw_deg: float, pitch_deg: float) -> Camera:
    """A level camera turned left by yaw_deg and up by pitch_deg."""
    return Camera(position, heading(yaw_deg) @ _tilt(pitch_deg, 0.0))


def _ring(floor: Point, yaw_deg: float, headings: int, height_m: float) -> list[Camera]:
    return [
        Camera(floor + [0.0, height_m, 0.0], heading(yaw_deg - 360.0 / headings * k))
        for k in range(headings)
    ]


def _turns(turn_deg: float, first: bool) -> list[int]:
    """Multiples of the turn within a circle, without looking back; the first also not straight
    on."""
    circle = max(1, round(360.0 / turn_deg))
    return [k for k in range(circle) if 2 * k != circle and not (first and k == 0)] or [0]


def _most_open(engine: Engine, floor: Point) -> float:
    reach = [
        np.linalg.norm(engine.try_step(floor, floor - 3.0 * heading(yaw)[:, 2]) - floor)
        for yaw in range(0, 360, 30)
    ]
    return 30.0 * int(np.argmax(reach))


def _tilt(pitch_deg: float, roll_deg: float) -> Rotation:
    pitch, roll = np.radians([pitch_deg, roll_deg])
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_z = np.array(
        [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    )
    return about_x @ about_z


def _smooth(rng: np.random.Generator, shape: tuple[int, int], window: int) -> np.ndarray:
    """White noise averaged over a bell of about `window` samples, deviation 1."""
    bell = np.hanning(2 * window + 1)
    bell /= np.sqrt((bell**2).sum())
    white = rng.standard_normal((shape[0] + 2 * window, shape[1]))
    return np.column_stack([np.convolve(column, bell, mode="valid") for column in white.T])
