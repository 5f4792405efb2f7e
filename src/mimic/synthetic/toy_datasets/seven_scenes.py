"""Sequences of a camera carried about a spot in generated flats, poses and depth exact, in the
layout of 7-Scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mimic.config import SevenScenesSet
from mimic.infra.writing import write_picture
from mimic.scenes import walker
from mimic.scenes.base import Rendering, pose
from mimic.scenes.walker import Camera
from mimic.synthetic.toy_datasets.views import engine

HFOV_DEG = 57.4  # 640 px at a focal length of 585
ISLAND_RADIUS_MIN_M = 2.0
# of the camera about its spot
REACH_M = 0.5
RISE_M = 0.15
TURN_DEG = 25.0
TILT_DEG = 8.0
WAVES = 3
UNKNOWN = 65535  # in depth images, millimetres otherwise


def write(section: SevenScenesSet, folder: Path) -> None:
    """<folder>/flat-0/seq-01, seq-02 to train, seq-03 to test, and so on for each flat."""
    train = (section.train - section.train // 2, section.train // 2)
    for scene in range(section.scenes):
        base = folder / f"flat-{scene}"
        rng = np.random.default_rng([section.first_seed + scene, 11])
        base.mkdir()
        (base / "TrainSplit.txt").write_text("".join(f"sequence{number}\n" for number in (1, 2)))
        (base / "TestSplit.txt").write_text("sequence3\n")
        world = engine(section, scene)
        spot = walker.start(world, rng, ISLAND_RADIUS_MIN_M)
        yaw_deg = walker.open_heading(world, rng, spot)
        for number, frames in enumerate((*train, section.test), 1):
            sequence = base / f"seq-{number:02d}"
            sequence.mkdir()
            for frame, (x, z, rise, turn, tilt) in enumerate(_wander(rng, frames)):
                floor = world.try_step(spot, spot + np.array([x, 0.0, z]) * REACH_M)
                camera = walker.look(
                    floor + [0.0, 1.4 + rise * RISE_M, 0.0],
                    yaw_deg + turn * TURN_DEG,
                    -8 + tilt * TILT_DEG,
                )
                seen = world.render(
                    camera.position,
                    camera.rotation,
                    (section.width_px, section.height_px),
                    HFOV_DEG,
                )
                _write_frame(sequence, frame, seen, camera)


def _wander(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Five smooth courses between about -1 and 1, [frames, 5]."""
    time = np.linspace(0, 1, frames)[:, None, None]
    rates = rng.uniform(0.3, 2.0, (WAVES, 5))
    phases = rng.uniform(0, 2 * np.pi, (WAVES, 5))
    return np.asarray(np.sin(2 * np.pi * rates * time + phases).mean(axis=1))


def _write_frame(sequence: Path, frame: int, seen: Rendering, camera: Camera) -> None:
    stem = f"frame-{frame:06d}"
    write_picture(sequence / f"{stem}.color.png", np.ascontiguousarray(seen.rgb[:, :, ::-1]))
    depth_mm = np.where(
        seen.depth_m > 0, np.minimum(np.round(seen.depth_m * 1000), UNKNOWN), UNKNOWN
    ).astype(np.uint16)
    write_picture(sequence / f"{stem}.depth.png", depth_mm)
    lines = [
        "\t ".join(f"{value:.7e}" for value in row) + "\t \n"
        for row in pose(camera.position, camera.rotation)
    ]
    (sequence / f"{stem}.pose.txt").write_text("".join(lines))
