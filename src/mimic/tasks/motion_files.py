"""Files of true motion, and where the official sets keep them. Flow is x, y in pixels; disparity is how far left a point moves in view b.

Layouts of flow, below the set's folder:
    sintel          training/{clean,final}/<scene>/frame_0001.png, training/flow/<scene>/frame_0001.flo, training/invalid (255: unknown)
    flying_chairs   data/00001_{img1.ppm,img2.ppm,flow.flo}; FlyingChairs_train_val.txt (1 and 2) beside it names the scenes train and val
    flying_things   frames_cleanpass/TRAIN/A/0000/left/0006.png, optical_flow/.../into_future/left/OpticalFlowIntoFuture_0006_L.pfm
    kitti           training/image_2/000000_{10,11}.png, training/flow_occ/000000_10.png
    middlebury      other-data/<scene>/frame{10,11}.png, other-gt-flow/<scene>/flow10.flo
and of stereo:
    middlebury      <scene>/im{0,1}.png, disp0.pfm or disp0GT.pfm, mask0nocc.png (255: scored); ETH3D unpacks to the same
    middlebury_2003 <scene>/im{2,6}.png, disp2.png in quarter pixels (tsukuba: sixteenths)
    kitti           training/image_{2,3}/000000_10.png, training/disp_occ_0/000000_10.png
    sceneflow       frames_cleanpass/TRAIN/A/0000/{left,right}/0006.png, disparity/TRAIN/A/0000/left/0006.pfm
    crestereo       <group>/<name>_{left,right}.jpg, <name>_left.disp.png in 1/32 pixels
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mimic.errors import BadInput
from mimic.tasks.files import REMEDY, read_labels, read_photo

FLO_MAGIC, FLO_UNKNOWN = 202021.25, 1e9
LARGEST = 4.0  # motion beyond so many widths is in another unit
Truth = tuple[np.ndarray, np.ndarray]  # motion float32[h, w, c], valid bool[h, w]


@dataclass(frozen=True)
class MotionPair:
    """Two images and the truth: `reader` says how the file is read; `mask` holds `mask_valid` where the truth counts."""

    scene: str
    name: str
    a: Path
    b: Path
    truth: Path
    reader: Callable[[Path], Truth]
    mask: Path | None = None
    mask_valid: int = 255


@dataclass(frozen=True)
class Motion:
    """a, b uint8[h, w, 3]; motion float32[h, w, c]; valid bool[h, w]."""

    a: np.ndarray
    b: np.ndarray
    motion: np.ndarray
    valid: np.ndarray


def read(pair: MotionPair) -> Motion:
    """
    Raises:
        BadInput: a file is missing or damaged, sizes differ, or the motion is not in pixels.
    """
    a, b = read_photo(pair.a), read_photo(pair.b)
    motion, valid = pair.reader(pair.truth)
    if pair.mask is not None:
        mask = read_labels(pair.mask)
        if mask.shape[:2] != valid.shape:
            raise BadInput(f"{pair.mask}: {mask.shape[1]} x {mask.shape[0]}, the motion is {valid.shape[1]} x {valid.shape[0]}; {REMEDY}")
        valid = valid & ((mask if mask.ndim == 2 else mask[..., 0]) == pair.mask_valid)
    for path, found in ((pair.b, b.shape[:2]), (pair.truth, valid.shape)):
        if found != a.shape[:2]:
            raise BadInput(f"{path}: {found[1]} x {found[0]}, {pair.a.name} is {a.shape[1]} x {a.shape[0]}; they are not of one pair")
    if valid.any() and np.abs(motion[valid]).max() > LARGEST * max(valid.shape):
        raise BadInput(f"{pair.truth}: motion up to {np.abs(motion[valid]).max():.0f} in an image {a.shape[1]} wide; is it in pixels?")
    if motion.shape[2] == 1 and valid.any() and motion[valid].min() < 0:
        raise BadInput(f"{pair.truth}: negative disparity; is it flow, or of the right view?")
    return Motion(a, b, motion, valid)


def list_pairs(task: str, layout: str, folder: Path) -> list[MotionPair]:
    """The pairs of a set, in the order of their names.

    Raises:
        BadInput: none is there.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; {REMEDY}")
    pairs = LAYOUTS[task, layout](folder)
    if not pairs:
        raise BadInput(f"{folder}: no pair in the layout {layout} of {task}; is it the folder that the archive unpacks to?")
    return pairs


# ---------------------------------------------------------------------------- files


def read_flo(path: Path) -> Truth:
    """Middlebury's .flo: a float that spells PIEH, width, height, then x and y row by row; beyond 1e9 unknown."""
    data = _bytes(path)
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(FLO_MAGIC):
        raise BadInput(f"{path}: not a .flo file; {REMEDY}")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, 4))
    if not (0 < width < 1 << 16 and 0 < height < 1 << 16) or len(data) < 12 + 8 * width * height:
        raise BadInput(f"{path}: {len(data)} bytes do not hold {width} x {height} vectors; the file is truncated, {REMEDY}")
    motion = np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2)
    valid = np.isfinite(motion).all(axis=-1) & (np.abs(motion) < FLO_UNKNOWN).all(axis=-1)
    return np.where(valid[..., None], motion, 0), valid


def read_pfm(path: Path) -> np.ndarray:
    """A .pfm image, float32[h, w] or [h, w, 3], upright."""
    data = _bytes(path)
    head = re.match(rb"(P[Ff])\s+(\d+)\s+(\d+)\s+(-?[\d.eE+-]+)\s", data)
    if head is None:
        raise BadInput(f"{path}: not a .pfm file; {REMEDY}")
    width, height, channels = int(head[2]), int(head[3]), 3 if head[1] == b"PF" else 1
    if len(data) - head.end() < 4 * width * height * channels:
        raise BadInput(f"{path}: {len(data)} bytes do not hold {width} x {height} pixels; the file is truncated, {REMEDY}")
    values = np.frombuffer(data, "<f4" if float(head[4]) < 0 else ">f4", width * height * channels, head.end())
    image = values.reshape(height, width, channels)[::-1].astype(np.float32)
    return image[..., 0] if channels == 1 else image


def read_pfm_disparity(path: Path) -> Truth:
    disparity = read_pfm(path)
    if disparity.ndim != 2:
        raise BadInput(f"{path}: three channels, a disparity has one")
    valid = np.isfinite(disparity)
    return np.where(valid, np.abs(disparity), 0)[..., None], valid


def read_pfm_flow(path: Path) -> Truth:
    flow = read_pfm(path)
    if flow.ndim != 3:
        raise BadInput(f"{path}: one channel, flow has x, y and an empty third")
    valid = np.isfinite(flow[..., :2]).all(axis=-1)
    return np.where(valid[..., None], flow[..., :2], 0), valid


def read_kitti_flow(path: Path) -> Truth:
    """16-bit PNG: (x, y, valid), motion = (value - 2^15) / 64."""
    values = _png(path)
    if values.ndim != 3 or values.dtype != np.uint16:
        raise BadInput(f"{path}: {values.dtype} {list(values.shape)}, KITTI's flow has three channels of 16 bits; is it a picture of flow?")
    x, y, valid = values[..., 2], values[..., 1], values[..., 0] > 0  # OpenCV turns the channels around
    motion = (np.stack([x, y], axis=-1).astype(np.float32) - 2**15) / 64
    return np.where(valid[..., None], motion, 0), valid


def read_png_disparity(divisor: float, dtype: type) -> Callable[[Path], Truth]:
    """A reader of PNG disparities: value / divisor, 0 = unknown."""

    def reader(path: Path) -> Truth:
        values = _png(path)
        values = values[..., 0] if values.ndim == 3 and dtype == np.uint8 else values
        if values.ndim != 2 or values.dtype != dtype:
            wanted = f"one channel of {8 * np.dtype(dtype).itemsize} bits"
            raise BadInput(f"{path}: {values.dtype} {list(values.shape)}, expected {wanted}; is it the disparity?")
        return (values / divisor).astype(np.float32)[..., None], values > 0

    return reader


def _png(path: Path) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise BadInput(f"{path}: damaged, or not an image; {REMEDY}")
    return values


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {REMEDY}") from None
    if not data:
        raise BadInput(f"{path}: empty; {REMEDY}")
    return data


# ---------------------------------------------------------------------------- layouts


def _sintel(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("training/flow/*/frame_*.flo")):
        scene, number = truth.parent.name, int(truth.stem[6:])
        mask = folder / f"training/invalid/{scene}/{truth.stem}.png"
        for kind in ("clean", "final"):
            images = folder / "training" / kind
            if images.is_dir():
                a, b = (images / scene / f"frame_{frame:04d}.png" for frame in (number, number + 1))
                where = mask if mask.exists() else None
                pairs.append(MotionPair(scene, f"{kind}-{scene}-{number:04d}", a, b, truth, read_flo, where, mask_valid=0))
    return pairs


def _chairs(folder: Path) -> list[MotionPair]:
    places = [place / "FlyingChairs_train_val.txt" for place in (folder, folder.parent)]
    splits = next((path for path in places if path.exists()), None)
    numbers = [] if splits is None else splits.read_text().split()
    pairs = []
    for index, truth in enumerate(sorted(folder.glob("data/*_flow.flo"))):
        name = truth.name.removesuffix("_flow.flo")
        if splits is not None and index >= len(numbers):
            raise BadInput(f"{splits}: {len(numbers)} lines for more pairs; {REMEDY}")
        scene = "all" if splits is None else {"1": "train", "2": "val"}.get(numbers[index], "none")
        a, b = (truth.with_name(f"{name}_img{view}.ppm") for view in (1, 2))
        pairs.append(MotionPair(scene, name, a, b, truth, read_flo))
    return pairs


def _things(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("optical_flow/*/*/*/into_future/left/OpticalFlowIntoFuture_*_L.pfm")):
        split, letter, scene = truth.relative_to(folder / "optical_flow").parts[:3]
        number = int(truth.stem.split("_")[1])
        images = folder / "frames_cleanpass" / split / letter / scene / "left"
        a, b = (images / f"{frame:04d}.png" for frame in (number, number + 1))
        if b.exists() or not a.exists():  # the last frame of a scene has flow, and nowhere to go
            pairs.append(MotionPair(split, f"{letter}-{scene}-{number:04d}", a, b, truth, read_pfm_flow))
    return pairs


def _kitti_flow(folder: Path) -> list[MotionPair]:
    images, found = folder / "training/image_2", sorted(folder.glob("training/flow_occ/*_10.png"))
    return [MotionPair("all", path.stem, images / path.name, images / f"{path.stem[:-2]}11.png", path, read_kitti_flow) for path in found]


def _middlebury_flow(folder: Path) -> list[MotionPair]:
    found = []
    for truth in sorted(folder.glob("other-gt-flow/*/flow10.flo")):
        scene = truth.parent.name
        a, b = (folder / "other-data" / scene / f"frame{frame}.png" for frame in (10, 11))
        found.append(MotionPair(scene, scene, a, b, truth, read_flo))
    return found


def _middlebury(folder: Path) -> list[MotionPair]:
    pairs = []
    for a in sorted(folder.glob("*/im0.png")):
        truth = a.with_name("disp0.pfm" if a.with_name("disp0.pfm").exists() else "disp0GT.pfm")
        mask = a.with_name("mask0nocc.png")
        where = mask if mask.exists() else None
        pairs.append(MotionPair(a.parent.name, a.parent.name, a, a.with_name("im1.png"), truth, read_pfm_disparity, where))
    return pairs


def _middlebury_2003(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("*/disp2.png")):
        scene = truth.parent.name
        reader = read_png_disparity(16.0 if scene == "tsukuba" else 4.0, np.uint8)
        pairs.append(MotionPair(scene, scene, truth.with_name("im2.png"), truth.with_name("im6.png"), truth, reader))
    return pairs


def _kitti_stereo(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("training/disp_occ_0/*_10.png")):
        a, b = (folder / f"training/image_{camera}" / truth.name for camera in (2, 3))
        pairs.append(MotionPair("all", truth.stem, a, b, truth, read_png_disparity(256.0, np.uint16)))
    return pairs


def _sceneflow(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("disparity/*/*/*/left/*.pfm")):
        split, letter, scene = truth.relative_to(folder / "disparity").parts[:3]
        a, b = (folder / f"frames_cleanpass/{split}/{letter}/{scene}/{side}/{truth.stem}.png" for side in ("left", "right"))
        pairs.append(MotionPair(split, f"{letter}-{scene}-{truth.stem}", a, b, truth, read_pfm_disparity))
    return pairs


def _crestereo(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("*/*_left.disp.png")):
        name = truth.name.removesuffix("_left.disp.png")
        a, b = (truth.with_name(f"{name}_{side}.jpg") for side in ("left", "right"))
        pairs.append(MotionPair(truth.parent.name, name, a, b, truth, read_png_disparity(32.0, np.uint16)))
    return pairs


LAYOUTS: dict[tuple[str, str], Callable[[Path], list[MotionPair]]] = {
    ("flow", "sintel"): _sintel,
    ("flow", "flying_chairs"): _chairs,
    ("flow", "flying_things"): _things,
    ("flow", "kitti"): _kitti_flow,
    ("flow", "middlebury"): _middlebury_flow,
    ("stereo", "middlebury"): _middlebury,
    ("stereo", "middlebury_2003"): _middlebury_2003,
    ("stereo", "kitti"): _kitti_stereo,
    ("stereo", "sceneflow"): _sceneflow,
    ("stereo", "crestereo"): _crestereo,
}
