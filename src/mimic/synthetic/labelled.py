"""Writing a labelled depth set in the layout of NYU Depth v2: nyu_depth_v2_labeled.mat and
splits.mat.

The first is MATLAB 7.3: HDF5 behind a 512-byte block, axes reversed, cells as object references.
Keys, shapes and types of n images: images (n,3,w,h) u8, depths and rawDepths (n,w,h) f32 metres
(raw: 0 = missing), labels (n,w,h) u16 (0 = unlabelled, else an index into names, from 1), instances
(n,w,h) u8, accelData (4,n), names (1,classes), scenes, sceneTypes, rawRgbFilenames,
rawDepthFilenames (1,n). The second is MATLAB 5: trainNdxs, testNdxs (k,1) u16, counted from 1.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import scipy.io
from jaxtyping import Float32, UInt8, UInt16

from mimic.scenes.base import Rendering
from mimic.scenes.mesh import CLASSES

USER_BLOCK = 512
HEADER = (
    b"MATLAB 7.3 MAT-file, Platform: GLNXA64, "
    b"Created on: Thu Jan  1 00:00:00 1970 HDF5 schema 1.00 ."
)
HEADER_5 = b"MATLAB 5.0 MAT-file Platform: posix, Created on: Thu Jan  1 00:00:00 1970"
DEPTH_MAX_M = 9.99  # the real set ends at 10 m
JUMP_M = 0.12  # a depth sensor sees nothing where depth jumps by more


@dataclass(frozen=True, eq=False)
class Labelled:
    """One image with its labels, upright."""

    image: UInt8[np.ndarray, "height width 3"]
    depth_m: Float32[np.ndarray, "height width"]
    raw_depth_m: Float32[np.ndarray, "height width"]
    labels: UInt16[np.ndarray, "height width"]
    instances: UInt8[np.ndarray, "height width"]
    scene: str


def label(rendering: Rendering, scene: str, rng: np.random.Generator) -> Labelled:
    """A rendering as the set would hold it: depth to the millimetre, raw depth with a sensor's
    holes, instances counted per class."""
    assert rendering.class_id is not None
    assert rendering.instance is not None
    depth = np.minimum(np.round(rendering.depth_m, 3), DEPTH_MAX_M).astype(np.float32)
    instances = np.zeros(depth.shape, np.uint8)
    for number in np.unique(rendering.class_id):
        mine = rendering.class_id == number
        instances[mine] = (
            1 + np.unique(rendering.instance[mine], return_inverse=True)[1].reshape(-1) % 255
        )
    raw = np.where(_holes(depth, rng), np.float32(0), depth)
    return Labelled(
        rendering.rgb, depth, raw, rendering.class_id.astype(np.uint16), instances, scene
    )


def write(path: Path, images: Iterable[Labelled], count: int) -> None:
    """Write nyu_depth_v2_labeled.mat, one image at a time."""
    with h5py.File(path, "w", userblock_size=USER_BLOCK, libver="earliest") as file:
        scenes = []
        for index, item in enumerate(images):
            if index == 0:
                _create(file, count, *item.depth_m.shape)
            file["images"][index] = item.image.transpose(2, 1, 0)
            for key, array in (
                ("depths", item.depth_m),
                ("rawDepths", item.raw_depth_m),
                ("labels", item.labels),
            ):
                file[key][index] = array.T
            file["instances"][index] = item.instances.T
            scenes.append(item.scene)
        assert len(scenes) == count, f"{len(scenes)} images came, {count} were announced"
        _dataset(file, "accelData", np.zeros((4, count), np.float32), b"single")
        _cells(file, "names", list(CLASSES[1:]))
        _cells(file, "scenes", scenes)
        _cells(file, "sceneTypes", ["living_room"] * count)
        _cells(
            file,
            "rawRgbFilenames",
            [f"{scene}/r-{index:06d}.ppm" for index, scene in enumerate(scenes)],
        )
        _cells(
            file,
            "rawDepthFilenames",
            [f"{scene}/d-{index:06d}.pgm" for index, scene in enumerate(scenes)],
        )
    with path.open("r+b") as file:
        file.write(HEADER.ljust(116) + bytes(8) + b"\x00\x02IM")


def splits(train: list[int], test: list[int]) -> bytes:
    """splits.mat: image numbers, counted from 0 here and from 1 in the file."""
    columns = {
        key: np.array(numbers, np.uint16)[:, None] + np.uint16(1)
        for key, numbers in (("trainNdxs", train), ("testNdxs", test))
    }
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, columns)
    return HEADER_5.ljust(116) + buffer.getvalue()[116:]  # scipy writes the time of day there


def _holes(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where a structured-light sensor fails: beside edges, at the frame's border, in some spots,
    and beyond its reach."""
    spread = cv2.dilate(depth, np.ones((3, 3))) - cv2.erode(depth, np.ones((3, 3)))
    edges = cv2.dilate((spread > JUMP_M).astype(np.uint8), np.ones((3, 5))) > 0
    rows, columns = depth.shape
    spots = (
        cv2.resize(
            rng.standard_normal((max(2, rows // 24), max(2, columns // 24)), np.float32),
            (columns, rows),
        )
        > 1.9
    )
    border = np.ones(depth.shape, bool)
    border[rows // 60 : -rows // 60, columns // 60 : -columns // 60] = False
    return edges | spots | border | (depth <= 0)


def _create(file: h5py.File, count: int, height: int, width: int) -> None:
    kinds = (
        ("depths", "<f4", b"single"),
        ("rawDepths", "<f4", b"single"),
        ("labels", "<u2", b"uint16"),
        ("instances", "u1", b"uint8"),
    )
    for key, dtype, name in kinds:
        _empty(file, key, (count, width, height), dtype, name)
    _empty(file, "images", (count, 3, width, height), "u1", b"uint8")


def _empty(
    file: h5py.File, key: str, shape: tuple[int, ...], dtype: str, matlab_class: bytes
) -> None:
    data = file.create_dataset(
        key,
        shape,
        dtype,
        chunks=(1, *shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=dtype[-1] != "1",
        track_times=False,
    )
    data.attrs["MATLAB_class"] = np.bytes_(matlab_class)


def _dataset(file: h5py.File, key: str, array: np.ndarray, matlab_class: bytes) -> h5py.Dataset:
    data = file.create_dataset(key, data=array, track_times=False)
    data.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    return data


def _cells(file: h5py.File, key: str, texts: list[str]) -> None:
    """A cell array of strings: references to (length, 1) arrays of UTF-16 code units."""
    references = np.empty((1, len(texts)), h5py.ref_dtype)
    for index, text in enumerate(texts):
        characters = np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None]
        references[0, index] = _dataset(file, f"#refs#/{key}.{index}", characters, b"char").ref
    _dataset(file, key, references, b"cell")
