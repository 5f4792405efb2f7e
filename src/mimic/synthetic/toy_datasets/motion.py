"""Flow and stereo of generated flats, exact from depth and pose, in official layouts.

flow: sintel/ to train on, kitti/ to test; stereo: middlebury/ to train on, kitti/ to test. KITTI's
truth is sparse, as a laser's is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mimic.config import MotionSet
from mimic.geometry.motion import flow
from mimic.infra.writing import write_picture
from mimic.scenes.base import Rotation, heading, pose
from mimic.synthetic.toy_datasets.views import engine, intrinsics, render

HFOV_DEG = 70.0
BASELINE_M = 0.12
STEP_M = 0.12
TURN_DEG = 4.0
MEASURED = 0.4  # share of KITTI's pixels


def write_flow(section: MotionSet, folder: Path) -> None:
    base = folder / "sintel/training"
    for index, (a, b, motion, valid) in enumerate(_pairs(section, 0, section.train, stereo=False)):
        scene = f"room_{index:03d}"
        for kind in ("clean", "flow", "invalid"):
            (base / kind / scene).mkdir(parents=True)
        _png(base / f"clean/{scene}/frame_0001.png", a)
        _png(base / f"clean/{scene}/frame_0002.png", b)
        header = np.float32(202021.25).tobytes() + np.array(valid.shape[::-1], "<i4").tobytes()
        (base / f"flow/{scene}/frame_0001.flo").write_bytes(header + motion.astype("<f4").tobytes())
        write_picture(
            base / f"invalid/{scene}/frame_0001.png", np.where(valid, 0, 255).astype(np.uint8)
        )
    base = folder / "kitti/training"
    for kind in ("image_2", "flow_occ"):
        (base / kind).mkdir(parents=True)
    rng = np.random.default_rng([section.first_seed, 9])
    for index, (a, b, motion, valid) in enumerate(_pairs(section, 1, section.test, stereo=False)):
        _png(base / f"image_2/{index:06d}_10.png", a)
        _png(base / f"image_2/{index:06d}_11.png", b)
        seen = valid & (rng.random(valid.shape) < MEASURED) & (np.abs(motion).max(axis=-1) < 500)
        values = np.where(seen[..., None], np.round(motion * 64 + 2**15), 0).astype(np.uint16)
        write_picture(
            base / f"flow_occ/{index:06d}_10.png",
            np.dstack([seen.astype(np.uint16), values[..., 1], values[..., 0]]),
        )


def write_stereo(section: MotionSet, folder: Path) -> None:
    for index, (a, b, motion, valid) in enumerate(_pairs(section, 0, section.train, stereo=True)):
        scene = folder / f"middlebury/room_{index:03d}"
        scene.mkdir(parents=True)
        _png(scene / "im0.png", a)
        _png(scene / "im1.png", b)
        disparity = np.where(valid, -motion[..., 0], np.inf).astype("<f4")
        (scene / "disp0.pfm").write_bytes(
            b"Pf\n%d %d\n-1.0\n" % disparity.shape[::-1] + disparity[::-1].tobytes()
        )
    base = folder / "kitti/training"
    for kind in ("image_2", "image_3", "disp_occ_0"):
        (base / kind).mkdir(parents=True)
    rng = np.random.default_rng([section.first_seed, 10])
    for index, (a, b, motion, valid) in enumerate(_pairs(section, 1, section.test, stereo=True)):
        _png(base / f"image_2/{index:06d}_10.png", a)
        _png(base / f"image_3/{index:06d}_10.png", b)
        seen = valid & (rng.random(valid.shape) < MEASURED)
        values = np.where(seen, np.maximum(1, np.round(-motion[..., 0] * 256)), 0).astype(np.uint16)
        write_picture(base / f"disp_occ_0/{index:06d}_10.png", values)


def _pairs(
    section: MotionSet, scene: int, count: int, stereo: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Views a and b, motion float64[h, w, 2] and where it is known."""
    rng = np.random.default_rng([section.first_seed + scene, 8])
    size = (section.width_px, section.height_px)
    matrix = intrinsics(*size, HFOV_DEG)
    world = engine(section, scene)
    for camera, a in render(section, scene, count, HFOV_DEG):
        move = np.array([BASELINE_M, 0, 0]) if stereo else rng.uniform(-STEP_M, STEP_M, 3)
        turn: Rotation = np.eye(3) if stereo else heading(float(rng.uniform(-TURN_DEG, TURN_DEG)))
        position = camera.position + camera.rotation @ move
        rotation = camera.rotation @ turn
        b = world.render(position, rotation, size, HFOV_DEG)
        b_from_a = np.linalg.inv(pose(position, rotation)) @ pose(camera.position, camera.rotation)
        motion, valid = flow(a.depth_m.astype(np.float64), matrix, b_from_a)
        yield a.rgb, b.rgb, motion, valid


def _png(path: Path, image: np.ndarray) -> None:
    write_picture(path, np.ascontiguousarray(image[:, :, ::-1]))
