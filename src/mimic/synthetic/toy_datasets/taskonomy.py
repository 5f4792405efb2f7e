"""Views of generated flats in Taskonomy's tree, all eight targets and the split lists.

Normals and depth are exact. The others have the official encoding, and values from plain formulas
of their own (gradients, corner responses, shading): enough to read, train and score, not what
Taskonomy's tools would compute.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mimic.config import TaskonomySet
from mimic.infra.writing import write_picture
from mimic.scenes.base import Rendering
from mimic.synthetic.toy_datasets import views

HFOV_DEG = 75.0
DEPTH_UNIT_M = 1 / 512
JUMP_M = 0.15  # between neighbours, of an occlusion edge
BUILDINGS = ("ainaire", "bertha", "corvo")  # of flats of their own: train, val, test


def write(section: TaskonomySet, folder: Path) -> None:
    """<domain>/<building>/point_P_view_0_domain_D.png and splits/tiny_{train,val,test}.csv."""
    (folder / "splits").mkdir()
    counts = {"train": section.train, "val": section.validation, "test": section.test}
    for scene, (split, count) in enumerate(counts.items()):
        rows = ["building,point,view"]
        for point, (camera, rendering) in enumerate(views.render(section, scene, count, HFOV_DEG)):
            rows.append(f"{BUILDINGS[scene]},{point},0")
            for domain, values in domains(rendering, camera.rotation).items():
                named = "depth_zbuffer" if domain == "mask_valid" else domain
                path = (
                    folder / domain / BUILDINGS[scene] / f"point_{point}_view_0_domain_{named}.png"
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                write_picture(path, values[..., ::-1] if values.ndim == 3 else values)
        (folder / f"splits/tiny_{split}.csv").write_text("\n".join(rows) + "\n")


def domains(rendering: Rendering, world_from_camera: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 or uint16 images by domain, colours in RGB."""
    assert rendering.normal is not None
    seen = rendering.depth_m > 0
    normal = rendering.normal @ world_from_camera  # into the camera: x right, y up, z towards it
    grey = cv2.cvtColor(rendering.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    depth = rendering.depth_m.astype(np.float32)
    curvature = np.stack(
        [
            cv2.Sobel(normal[..., axis].astype(np.float32), cv2.CV_32F, 1 - axis, axis)
            for axis in (0, 1)
        ],
        axis=-1,
    )
    shading = np.clip(normal[..., 2], 0, 1)
    return {
        "rgb": rendering.rgb,
        "normal": _bits(np.where(seen[..., None], (normal + 1) / 2, 0.5), 8),
        "principal_curvature": _bits(
            np.concatenate([0.5 + curvature / 8, np.zeros((*grey.shape, 1))], axis=-1), 8
        ),
        "reshading": _bits(np.repeat(shading[..., None], 3, axis=-1), 8),
        "depth_zbuffer": np.where(seen, np.clip(depth / DEPTH_UNIT_M, 0, 65534), 65535).astype(
            np.uint16
        ),
        "edge_texture": _bits(_slope(grey) / 16, 16),
        "edge_occlusion": _bits((_slope(depth) > JUMP_M).astype(np.float32), 16),
        "keypoints2d": _bits(_corners(grey), 16),
        "keypoints3d": _bits(_corners(depth / max(float(depth.max()), 1e-6)), 16),
        "mask_valid": np.where(seen, 255, 0).astype(np.uint8),
    }


def _bits(values: np.ndarray, bits: int) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * (2**bits - 1)).astype(
        np.uint8 if bits == 8 else np.uint16
    )


def _slope(values: np.ndarray) -> np.ndarray:
    return np.asarray(
        np.hypot(cv2.Sobel(values, cv2.CV_32F, 1, 0), cv2.Sobel(values, cv2.CV_32F, 0, 1))
    )


def _corners(values: np.ndarray) -> np.ndarray:
    """Response of the Harris detector over its largest value."""
    response = np.maximum(cv2.cornerHarris(values.astype(np.float32), 3, 3, 0.04), 0)
    return np.asarray(response / max(float(response.max()), 1e-12))
