"""What training sees of a pair of views with true motion: a crop of the input's size, augmented as
the task says.

`flip` mirrors. `peer` is CroCo v2's, which differs between flow and stereo; its odd corners are
kept and said where they stand. Every number below is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image
from torchvision.transforms import functional as pil

from mimic.tasks.engine.dense_transforms import FLIP_SHARE
from mimic.tasks.flow_stereo.config import FlowTask, StereoTask
from mimic.tasks.flow_stereo.files import Motion

Task = FlowTask | StereoTask
Rng = np.random.Generator
UPSIDE_DOWN = {"flow": 0.1, "stereo": 0.5}
MARGIN_PX = 8  # an image that is scaled stays so much larger than the crop

# share; powers of two
FLOW_SCALED = 0.8
FLOW_SCALE = (-0.2, 0.5)
# share of the scaled ones; each side for itself
FLOW_STRETCHED = 0.8
FLOW_STRETCH = (-0.2, 0.2)
FLOW_ASYMMETRIC = 0.2
FLOW_HUE = 0.5 / 3.14

# below so many pixels (smaller side) an image is only enlarged
STEREO_SCALED = 0.5
STEREO_LOW_PX = 800
STEREO_SCALE_LOW = (0.0, 1.0)
STEREO_SCALE_HIGH = (-0.2, 0.4)
STEREO_SHAKEN = 0.5
SHAKE_DEG = 0.1
SHAKE_PX = 2.0
STEREO_SINGLE = 0.5
STEREO_SHARE = 0.5
STEREO_ASYMMETRIC = 0.5
STEREO_COLOURS: tuple[
    tuple[Callable[..., Image.Image], tuple[float, float], tuple[float, float]], ...
] = (
    (pil.adjust_contrast, (0.8, 1.2), (0.8, 1.2)),
    (pil.adjust_gamma, (0.7, 1.5), (0.7, 1.5)),
    (pil.adjust_brightness, (0.5, 2.0), (0.5, 2.0)),
    (pil.adjust_hue, (-0.1, 0.1), (-0.1, 0.1)),
    (
        pil.adjust_saturation,
        (0.8, 1.2),
        (-0.8, 1.2),
    ),  # the right view's own: negative, as published
)


def random_crop(task: Task, item: Motion, rng: Rng) -> Motion:
    """A crop of the input's size. An image too small for one is enlarged first, in every recipe."""
    if task.augment != "peer":
        item = _enlarged(task, item)
        item = _mirrored(item, task.task, rng) if task.augment == "flip" else item
        return _random_window(task, item, rng, last=True)
    return _peer_flow(task, item, rng) if task.task == "flow" else _peer_stereo(task, item, rng)


def _peer_flow(task: Task, item: Motion, rng: Rng) -> Motion:
    if rng.random() < FLOW_SCALED:
        height, width = item.valid.shape
        least = max((task.size_px + MARGIN_PX) / height, (task.width_px + MARGIN_PX) / width)
        across = down = 2 ** rng.uniform(*FLOW_SCALE)
        if rng.random() < FLOW_STRETCHED:
            across *= 2 ** rng.uniform(*FLOW_STRETCH)
            down *= 2 ** rng.uniform(*FLOW_STRETCH)
        item = _scaled_flow(item, max(across, least), max(down, least))
    item = _mirrored(_enlarged(task, item), "flow", rng)
    item = _random_window(task, item, rng, last=False)
    if rng.random() < FLOW_ASYMMETRIC:
        return replace(item, a=_jittered(item.a, rng), b=_jittered(item.b, rng))
    a, b = np.split(_jittered(np.concatenate([item.a, item.b]), rng), 2)
    return replace(item, a=a, b=b)


def _peer_stereo(task: Task, item: Motion, rng: Rng) -> Motion:
    height, width = item.valid.shape
    least = (task.width_px + MARGIN_PX) / width
    scale = max(1.0, least)
    if rng.random() < STEREO_SCALED:
        bounds = STEREO_SCALE_LOW if min(height, width) < STEREO_LOW_PX else STEREO_SCALE_HIGH
        scale = max(2 ** rng.uniform(*bounds), least)
    if scale != 1:
        item = _stretched(item, scale, 1.0)
    item = _random_window(task, _enlarged(task, item), rng, last=True)
    item = _mirrored(item, "stereo", rng)
    b = _shaken(item.b, rng) if rng.random() < STEREO_SHAKEN else item.b
    a, b = _stereo_colours(item.a, b, rng)
    return replace(item, a=a, b=b)


# ---------------------------------------------------------------------------- places and sizes


def _enlarged(task: Task, item: Motion) -> Motion:
    """At least as large as the crop, each side for itself."""
    height, width = item.valid.shape
    size = (max(height, task.size_px), max(width, task.width_px))
    return item if size == (height, width) else resized(item, size)


def resized(item: Motion, size: tuple[int, int]) -> Motion:
    """To (height, width); motion in the new pixels, nearest, so that unknown pixels stay apart."""
    height, width = item.valid.shape
    a, b = (
        cv2.resize(view, size[::-1], interpolation=cv2.INTER_LINEAR) for view in (item.a, item.b)
    )
    scale = np.array([size[1] / width, size[0] / height], np.float32)[: item.motion.shape[2]]
    nearest = cv2.resize(item.motion, size[::-1], interpolation=cv2.INTER_NEAREST)
    valid = cv2.resize(item.valid.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return Motion(a, b, nearest.reshape(*size, -1) * scale, valid.astype(bool))


def _stretched(item: Motion, across: float, down: float) -> Motion:
    """Both sides scaled; motion nearest."""
    a, b = (_by(view, across, down, cv2.INTER_LINEAR) for view in (item.a, item.b))
    valid = _by(item.valid.astype(np.uint8), across, down, cv2.INTER_NEAREST).astype(bool)
    motion = _by(item.motion, across, down, cv2.INTER_NEAREST).reshape(*valid.shape, -1)
    return Motion(a, b, motion * np.array([across, down], np.float32)[: motion.shape[2]], valid)


def _scaled_flow(item: Motion, across: float, down: float) -> Motion:
    """Flow known everywhere is interpolated; of sparse flow each known pixel goes where it
    falls."""
    a, b = (_by(view, across, down, cv2.INTER_LINEAR) for view in (item.a, item.b))
    scale = np.array([across, down], np.float32)
    if item.valid.all():
        motion = _by(item.motion, across, down, cv2.INTER_LINEAR) * scale
        return Motion(a, b, motion, np.ones(motion.shape[:2], bool))
    rows, columns = np.nonzero(item.valid)
    ys = np.round(rows * down).astype(int)
    xs = np.round(columns * across).astype(int)
    inside = (
        (xs > 0) & (xs < a.shape[1]) & (ys > 0) & (ys < a.shape[0])
    )  # not the first row, column
    motion = np.zeros((*a.shape[:2], 2), np.float32)
    valid = np.zeros(a.shape[:2], bool)
    motion[ys[inside], xs[inside]] = item.motion[rows[inside], columns[inside]] * scale
    valid[ys[inside], xs[inside]] = True
    return Motion(a, b, motion, valid)


def _by(array: np.ndarray, across: float, down: float, how: int) -> np.ndarray:
    return cv2.resize(array, None, fx=across, fy=down, interpolation=how)


def _random_window(task: Task, item: Motion, rng: Rng, *, last: bool) -> Motion:
    """A crop anywhere; not at the very `last` place where one remains, as CroCo's flow has it."""
    spare = np.array(item.valid.shape) - (task.size_px, task.width_px)
    top, left = (int(rng.integers(0, room + 1 if last else max(1, room))) for room in spare)
    window = (slice(top, top + task.size_px), slice(left, left + task.width_px))
    motion = np.ascontiguousarray(item.motion[window].astype(np.float32))
    return Motion(item.a[window], item.b[window], motion, item.valid[window])


def _mirrored(item: Motion, task: str, rng: Rng) -> Motion:
    """Left to right (flow only: in stereo the sign would change) and top to bottom."""
    parts = [item.a, item.b, item.motion, item.valid]
    if task == "flow" and rng.random() < FLIP_SHARE:
        parts = [part[:, ::-1] for part in parts]
        parts[2] = parts[2] * np.array([-1, 1], np.float32)
    if rng.random() < UPSIDE_DOWN[task]:
        parts = [part[::-1] for part in parts]
        parts[2] = parts[2] * np.array([1, -1], np.float32)[: parts[2].shape[2]]
    return Motion(*parts)


def _shaken(view: np.ndarray, rng: Rng) -> np.ndarray:
    """Turned by up to a tenth of a degree, moved up or down by up to two pixels: a bad
    rectification.

    The centre's x is drawn from the height and its y from the width, as published.
    """
    height, width = view.shape[:2]
    shift = rng.uniform(-SHAKE_PX, SHAKE_PX)
    angle = rng.uniform(-SHAKE_DEG, SHAKE_DEG)
    centre = (rng.uniform(0, height), rng.uniform(0, width))
    turn = cv2.getRotationMatrix2D(centre, angle, 1.0)
    turned = cv2.warpAffine(view, turn, (width, height), flags=cv2.INTER_LINEAR)
    move = np.array([[1, 0, 0], [0, 1, shift]], np.float32)
    return cv2.warpAffine(turned, move, (width, height), flags=cv2.INTER_LINEAR)


# ---------------------------------------------------------------------------- colours


def _jittered(view: np.ndarray, rng: Rng) -> np.ndarray:
    """Brightness, contrast, saturation by 0.4 and hue, in random order, on Pillow's images."""
    image = Image.fromarray(np.ascontiguousarray(view))
    factors = (*rng.uniform(0.6, 1.4, 3).tolist(), float(rng.uniform(-FLOW_HUE, FLOW_HUE)))
    adjust: tuple[Callable[..., Image.Image], ...] = (
        pil.adjust_brightness,
        pil.adjust_contrast,
        pil.adjust_saturation,
        pil.adjust_hue,
    )
    for index in rng.permutation(len(adjust)).tolist():
        image = adjust[index](image, factors[index])
    return np.asarray(image)


def _stereo_colours(a: np.ndarray, b: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Half the time one of five changes, else all in random order; each is made half the time.

    View b takes the number of view a, or half the time one of its own.
    """
    views = [Image.fromarray(np.ascontiguousarray(view)) for view in (a, b)]
    order = rng.permutation(len(STEREO_COLOURS)).tolist()
    for index in order[:1] if rng.random() < STEREO_SINGLE else order:
        if rng.random() >= STEREO_SHARE:
            continue
        adjust, of_a, of_b = STEREO_COLOURS[index]
        first = float(rng.uniform(*of_a))
        second = float(rng.uniform(*of_b)) if rng.random() < STEREO_ASYMMETRIC else first
        views = [adjust(views[0], first), adjust(views[1], second)]
    return np.asarray(views[0]), np.asarray(views[1])
