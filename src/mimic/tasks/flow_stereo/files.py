"""Files of true motion: flow is x, y in pixels; a disparity is how far left a point moves in view
b."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mimic.errors import BadInput
from mimic.tasks.engine.image_io import REMEDY, opened, read_labels, read_photo

FLO_MAGIC = 202021.25
FLO_UNKNOWN = 1e9
# Kind, width, height and scale, with comments between them; pixels begin behind one end of a line.
PFM = re.compile(
    rb"(P[Ff]){0}(\d+){0}(\d+){0}(-?[\d.eE+-]+)(?:\r\n|\s)".replace(
        b"{0}", rb"(?:\s|#[^\r\n]*[\r\n])+"
    )
)
LARGEST = 4.0  # where half of the motion is beyond so many widths, it is in another unit
Truth = tuple[np.ndarray, np.ndarray]  # motion float32[h, w, c], valid bool[h, w]


@dataclass(frozen=True)
class MotionPair:
    """Two images and the truth: `reader` says how the file is read.

    `labels` are what parts of a set are chosen by: scene, split, pass, direction. `mask` is what
    the set says of its own truth: pixels of another value than `mask_valid` are not to be scored.
    """

    labels: tuple[str, ...]
    name: str
    a: Path
    b: Path
    truth: Path
    reader: Callable[[Path], Truth]
    mask: Path | None = None
    mask_valid: int = 255

    def folders(self) -> set[Path]:
        return {self.a.parent, self.b.parent, self.truth.parent}


@dataclass(frozen=True)
class Motion:
    """a, b uint8[h, w, 3]; motion float32[h, w, c]; valid bool[h, w]."""

    a: np.ndarray
    b: np.ndarray
    motion: np.ndarray
    valid: np.ndarray


def read(pair: MotionPair, *, masks: bool) -> Motion:
    """
    Args:
        masks: leave out what the set's own mask excludes, too.

    Raises:
        BadInput: a file is missing or damaged, sizes differ, or the motion is not in pixels.
    """
    a = read_photo(pair.a)
    b = read_photo(pair.b)
    motion, valid = pair.reader(pair.truth)
    for path, shape in ((pair.b, b.shape[:2]), (pair.truth, valid.shape)):
        if shape != a.shape[:2]:
            size = f"{shape[1]} x {shape[0]}, {pair.a.name} is {a.shape[1]} x {a.shape[0]}"
            raise BadInput(f"{path}: {size}; they are not of one pair")
    if masks and pair.mask is not None:
        valid = valid & _scored(pair.mask, pair.mask_valid, valid.shape)
    # A few vectors of any length are no fault: they are not trained on, and must not end a
    # training.
    if valid.any() and (typical := float(np.median(np.abs(motion[valid])))) > LARGEST * a.shape[1]:
        size = f"of {typical:.0f} and more in an image {a.shape[1]} wide"
        raise BadInput(f"{pair.truth}: half of the motion is {size}; is it in pixels?")
    return Motion(a, b, motion, valid)


def _scored(path: Path, value: int, shape: tuple[int, ...]) -> np.ndarray:
    mask = read_labels(path)
    if mask.shape[:2] != shape:
        size = f"{mask.shape[1]} x {mask.shape[0]}, the motion is {shape[1]} x {shape[0]}"
        raise BadInput(f"{path}: {size}; {REMEDY}")
    return np.asarray((mask if mask.ndim == 2 else mask[..., 0]) == value)


# ---------------------------------------------------------------------------- files


def read_flo(path: Path) -> Truth:
    """Middlebury's .flo: a float that spells PIEH, width, height, then x and y row by row; beyond
    1e9 unknown.

    Raises:
        BadInput: it is none, or truncated.
    """
    data = _bytes(path)
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(FLO_MAGIC):
        raise BadInput(f"{path}: not a .flo file; {REMEDY}")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, 4))
    if not (0 < width < 1 << 16 and 0 < height < 1 << 16) or len(data) < 12 + 8 * width * height:
        raise BadInput(
            f"{path}: {len(data)} bytes do not hold {width} x {height} vectors; the file is "
            f"truncated, {REMEDY}"
        )
    motion = np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2)
    valid = np.isfinite(motion).all(axis=-1) & (np.abs(motion) < FLO_UNKNOWN).all(axis=-1)
    return np.where(valid[..., None], motion, 0), valid


def read_pfm(path: Path) -> np.ndarray:
    """A .pfm image, float32[h, w] or [h, w, 3], upright.

    Raises:
        BadInput: it is none, or truncated.
    """
    data = _bytes(path)
    head = PFM.match(data)
    if head is None:
        raise BadInput(f"{path}: not a .pfm file; {REMEDY}")
    width = int(head[2])
    height = int(head[3])
    channels = 3 if head[1] == b"PF" else 1
    if len(data) - head.end() < 4 * width * height * channels:
        raise BadInput(
            f"{path}: {len(data)} bytes do not hold {width} x {height} pixels; the file is "
            f"truncated, {REMEDY}"
        )
    values = np.frombuffer(
        data, "<f4" if float(head[4]) < 0 else ">f4", width * height * channels, head.end()
    )
    image = values.reshape(height, width, channels)[::-1].astype(np.float32)
    return image[..., 0] if channels == 1 else image


def read_pfm_disparity(path: Path) -> Truth:
    """What is not above 0 is unknown, as in Middlebury's Shopvac-imperfect (CroCo v2 reads it so).

    Raises:
        BadInput: three channels, or only negative numbers.
    """
    disparity = read_pfm(path)
    if disparity.ndim != 2:
        raise BadInput(f"{path}: three channels, a disparity has one")
    return _positive(disparity, path)


def read_npy_disparity(path: Path) -> Truth:
    """Booster's: float[h, w], 0 = unknown.

    Raises:
        BadInput: it is no plane, or holds only negative numbers.
    """
    disparity = _npy(path)
    if disparity.ndim != 2:
        raise BadInput(f"{path}: {list(disparity.shape)}, a disparity is a plane; {REMEDY}")
    return _positive(disparity.astype(np.float32), path)


def _positive(disparity: np.ndarray, path: Path) -> Truth:
    valid = np.isfinite(disparity) & (disparity > 0)
    if not valid.any() and (disparity < 0).any():
        raise BadInput(f"{path}: negative disparities only; is it flow, or of the right view?")
    return np.where(valid, disparity, 0)[..., None], valid


def read_npy_flow(path: Path) -> Truth:
    """TartanAir's: float32[h, w, 2].

    Raises:
        BadInput: it has not two channels.
    """
    flow = _npy(path)
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise BadInput(f"{path}: {list(flow.shape)}, flow is [height, width, 2]; {REMEDY}")
    valid = np.isfinite(flow).all(axis=-1)
    return np.where(valid[..., None], flow, 0).astype(np.float32), valid


def read_pfm_flow(path: Path) -> Truth:
    """SceneFlow's: x, y and an empty third channel, in pixels.

    Raises:
        BadInput: it has one channel.
    """
    flow = read_pfm(path)
    if flow.ndim != 3:
        raise BadInput(f"{path}: one channel, flow has x, y and an empty third")
    valid = np.isfinite(flow[..., :2]).all(axis=-1)
    return np.where(valid[..., None], flow[..., :2], 0), valid


def read_kitti_flow(path: Path) -> Truth:
    """16-bit PNG: (x, y, valid), motion = (value - 2^15) / 64.

    Raises:
        BadInput: it has not three channels of 16 bits.
    """
    values = _png(path)
    if values.ndim != 3 or values.dtype != np.uint16:
        raise BadInput(
            f"{path}: {values.dtype} {list(values.shape)}, KITTI's flow has three channels of 16 "
            "bits; is it a picture of flow?"
        )
    # OpenCV turns the channels around
    x = values[..., 2]
    y = values[..., 1]
    valid = values[..., 0] > 0
    motion = (np.stack([x, y], axis=-1).astype(np.float32) - 2**15) / 64
    return np.where(valid[..., None], motion, 0), valid


def read_png_disparity(
    divisor: float | Callable[[int], float], dtype: type
) -> Callable[[Path], Truth]:
    """A reader of PNG disparities: value / divisor, 0 = unknown; `divisor` may depend on the
    width.

    Raises:
        BadInput: (by the reader) it has other channels or bits.
    """

    def reader(path: Path) -> Truth:
        values = _png(path)
        values = values[..., 0] if values.ndim == 3 and dtype == np.uint8 else values
        if values.ndim != 2 or values.dtype != dtype:
            wanted = f"one channel of {8 * np.dtype(dtype).itemsize} bits"
            raise BadInput(
                f"{path}: {values.dtype} {list(values.shape)}, expected {wanted}; is it the "
                "disparity?"
            )
        scale = divisor(values.shape[1]) if callable(divisor) else divisor
        return (values / scale).astype(np.float32)[..., None], values > 0

    return reader


def _png(path: Path) -> np.ndarray:
    content = _bytes(path)
    with opened(path):  # bounds its size; Pillow would cut 16 bits of three channels down to 8
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise BadInput(f"{path}: damaged, or not an image; {REMEDY}")
    return values


def _npy(path: Path) -> np.ndarray:
    try:
        values = np.load(io.BytesIO(_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadInput(f"{path}: not a whole .npy file ({error}); {REMEDY}") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        raise BadInput(f"{path}: not a .npy array of floating point numbers; {REMEDY}")
    return values


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {REMEDY}") from None
    if not data:
        raise BadInput(f"{path}: empty; {REMEDY}")
    return data
