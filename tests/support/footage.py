"""Small raw data made on the spot: a camera that pans over a textured plane, as videos and as image
folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from mimic import config
from mimic.params import Params

SIDE_PX = 224


def plane(seed: int, width_px: int = 1600) -> np.ndarray:
    """A wide picture with detail at every scale, RGB."""
    rng = np.random.default_rng(seed)
    total = np.zeros((SIDE_PX, width_px, 3), np.float32)
    for cell in (4, 8, 16, 32):
        noise = rng.normal(size=(SIDE_PX // cell + 2, width_px // cell + 2, 3)).astype(np.float32)
        total += cell**0.5 * cv2.resize(noise, (width_px, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 18 * total, 0, 255).astype(np.uint8)


def pan(seed: int, frames: int, step_px: int) -> list[np.ndarray]:
    """Square views that move right by step_px each: the overlap of two is 1 - distance * step_px /
    SIDE_PX."""
    wide = plane(seed, SIDE_PX + frames * step_px)
    return [
        np.ascontiguousarray(wide[:, step_px * number : step_px * number + SIDE_PX])
        for number in range(frames)
    ]


def video(path: Path, images: list[np.ndarray], fps: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def folder(
    path: Path,
    images: list[np.ndarray],
    name: str = "frame{:06}.png",
    numbers: list[int] | None = None,
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number, image in zip(numbers or range(len(images)), images, strict=True):
        cv2.imwrite(str(path / name.format(number)), image[..., ::-1])
    return path


def videos_section(params: Params, root: Path, **change: Any) -> config.Videos:
    section = params.sources["phone"]
    assert isinstance(section, config.Videos)
    return section.model_copy(update={"root": root, "tracked_by": root, **change})


def images_section(params: Params, root: Path, **change: Any) -> config.Images:
    section = params.sources["frames"]
    assert isinstance(section, config.Images)
    return section.model_copy(update={"root": root, "tracked_by": root, **change})
