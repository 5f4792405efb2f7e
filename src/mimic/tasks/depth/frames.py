"""What the depth tasks train on and score of an image: its resized frame or a square of it, and the
pixels that count."""

from __future__ import annotations

import numpy as np

from mimic.errors import BadInput
from mimic.tasks.depth.config import DepthFields
from mimic.tasks.depth.nyu import DepthFrame
from mimic.tasks.depth.sets import DepthSet
from mimic.tasks.engine.dense_transforms import (
    Batch,
    center_crop,
    frame_size,
    resize_image,
    resize_labels,
)

EIGEN = (slice(45, 471), slice(41, 601))  # of 480 x 640
NATIVE = (480, 640)


def load(nyu: DepthSet, index: np.ndarray, task: DepthFields, patch_px: int) -> Batch:
    """Images, depth in metres and masks, at the size the encoder reads (frame whole) or the size
    squares are cut from (frame crop)."""
    return stacked([nyu.read(int(item)) for item in index], task, patch_px)


def stacked(frames: list[DepthFrame], task: DepthFields, patch_px: int) -> Batch:
    """Images of one shape as a batch; depth in metres, by the nearest pixel."""
    return Batch(
        *(
            np.stack(parts)
            for parts in zip(*(_resized(frame, task, patch_px) for frame in frames), strict=True)
        )
    )


def _resized(
    frame: DepthFrame, task: DepthFields, patch_px: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    height, width = frame.depth_m.shape
    size = frame_size(height, width, task.size_px, 1 if task.frame == "crop" else patch_px)
    valid = resize_labels(frame.valid & in_range(frame.depth_m, task), size).astype(bool)
    return (
        resize_image(frame.image, size, task.antialias),
        resize_labels(frame.depth_m, size),
        valid,
    )


def preprocess(task: DepthFields, batch: Batch) -> Batch:
    """What the model sees of a batch, without chance."""
    return center_crop(batch, task.size_px) if task.frame == "crop" else batch


def shape(task: DepthFields, frame: DepthFrame) -> tuple[int, int]:
    """Height and width once resized, but for rounding to patches."""
    height, width = frame.depth_m.shape
    return frame_size(height, width, task.size_px, 1)


def in_range(depth_m: np.ndarray, task: DepthFields) -> np.ndarray:
    low = 0.0 if task.depth_min_m is None else task.depth_min_m
    high = np.inf if task.depth_max_m is None else task.depth_max_m
    return (depth_m > low) & (depth_m < high)


def region(task: DepthFields, frame: DepthFrame) -> np.ndarray:
    """The pixels that the protocol scores.

    Raises:
        BadInput: Eigen's region is asked for of images of another size than NYUv2's.
    """
    region = np.ones(frame.valid.shape, bool)
    if task.score_region == "eigen" and frame.has_eigen:
        if frame.valid.shape != NATIVE:
            raise BadInput(
                "depth: score_region eigen is defined on images of 640 x 480, these are "
                f"{frame.valid.shape[1]} x {frame.valid.shape[0]}"
            )
        region[:] = False
        region[EIGEN] = True
    return region


def trained_on(task: DepthFields, frame: DepthFrame) -> tuple[np.ndarray, np.ndarray]:
    """Valid pixels, bool[h, w], and depth in metres, of what training can be shown of an image.

    A random square can be anywhere in the frame. Sides are not rounded to patches, for want of
    an encoder.
    """
    batch = stacked([frame], task, patch_px=1)
    shown = batch if task.augment == "peer" else preprocess(task, batch)
    return shown.valid[0], shown.target[0]


def scored(task: DepthFields, frame: DepthFrame) -> tuple[np.ndarray, np.ndarray]:
    """Valid pixels, bool[h, w], and depth in metres, of what is scored of an image."""
    if task.score_at == "input":
        shown = preprocess(task, stacked([frame], task, patch_px=1))
        return shown.valid[0], shown.target[0]
    return natively_scored(task, frame), frame.depth_m


def natively_scored(task: DepthFields, frame: DepthFrame) -> np.ndarray:
    """Pixels bool[h, w] of a whole frame."""
    return frame.valid & in_range(frame.depth_m, task) & region(task, frame)
