"""Captures of Record3D (record3d.app), unpacked: a .r3d file is a zip of them.

    metadata         JSON: w and h of the photographs, often dw and dh of the depth, K, fps, poses
    rgbd/0.jpg       held upright, as its depth is
    rgbd/0.depth     float32[dh, dw] metres, compressed by LZFSE; not finite or 0 where unknown
    rgbd/0.conf      uint8[dh, dw], 0 to 2 (ARKit), compressed by LZFSE; of a LiDAR only

Older captures state no dw and dh: depth has the photographs' aspect (256 x 192 of a LiDAR, 640 x
480 of a TrueDepth camera).
"""

from __future__ import annotations

import functools
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mimic.errors import BadInput
from mimic.infra.storage import read_json
from mimic.sources.base import Unreadable, files_in
from mimic.sources.photos.folders import walk
from mimic.sources.rgbd_layouts import Frame

PACKED = ".r3d"
METADATA = "metadata"
FRAMES = "rgbd"
DEPTH = ".depth"
CONFIDENCE = ".conf"
SIZES = ("w", "h", "dw", "dh")
HEADERS = 1 << 16  # bytes that blocks of LZFSE may add to what they cannot make smaller


def captures_below(root: Path) -> Iterator[str]:
    """Folders of unpacked captures, below the root."""
    for folder, folders, files in walk(root, {}):
        if METADATA in files and FRAMES in folders:
            yield Path(folder).as_posix()
            folders.clear()


def frames_of(capture: Path) -> list[Frame]:
    """A frame for each photograph; one without its file of depth has none."""
    frames = []
    for name in files_in(capture / FRAMES, frozenset({".jpg"}), each_path=True):
        photo = capture / FRAMES / name
        depth = photo.with_suffix(DEPTH)
        frames.append(Frame(photo, depth if depth.is_file() else None, None))
    return frames


def refuse_packed(folder: Path) -> None:
    """
    Raises:
        BadInput: a capture lies there that is not unpacked.
    """
    for where, _, files in walk(folder, {}):
        for name in files:
            path = folder / where / name
            if name.lower().endswith(PACKED) and zipfile.is_zipfile(path):
                raise BadInput(
                    f"{path}: a packed capture of Record3D; unpack it: unzip {path} -d "
                    f"{path.with_suffix('')}"
                )
            if name.endswith(DEPTH):
                raise BadInput(
                    f"{path}: of Record3D, and no {METADATA} lies beside {FRAMES}/; unpack the "
                    f"whole {PACKED} file"
                )


def read_depth(path: Path) -> np.ndarray:
    """float32[height, width] in metres, as stored.

    Raises:
        Unreadable: damaged, or the library that decodes it is not installed.
    """
    return _array(path, np.dtype("<f4"))


def read_confidence(path: Path) -> np.ndarray:
    """uint8[height, width]: 0, 1 or 2, a higher value is surer.

    Raises:
        Unreadable: as of `read_depth`.
    """
    return _array(path, np.dtype(np.uint8))


def _array(path: Path, kind: np.dtype[np.generic]) -> np.ndarray:
    try:
        import lzfse
    except ImportError:
        raise Unreadable("compressed by LZFSE, which `pip install lzfse` reads") from None
    metadata = _metadata(path.parent.parent / METADATA)
    largest = metadata["w"] * metadata["h"] * kind.itemsize
    if path.stat().st_size > largest + HEADERS:  # before anything is unpacked into memory
        raise Unreadable("larger than its photograph has pixels")
    try:
        values = np.frombuffer(lzfse.decompress(path.read_bytes()), kind)
    except (lzfse.error, ValueError) as error:
        raise Unreadable(f"damaged ({str(error) or 'no whole LZFSE'})") from None
    rows, columns = _size(metadata, len(values))
    return values.reshape(rows, columns)


@functools.lru_cache(maxsize=64)
def _metadata(path: Path) -> dict[str, int]:
    """The sizes that a capture states, in pixels."""
    try:
        stated = read_json(path) or {}
        sizes: dict[str, int] = {key: int(stated[key]) for key in SIZES if key in stated}
    except (BadInput, TypeError, ValueError) as error:
        raise Unreadable(f"{METADATA} is damaged ({error})") from None
    if not {"w", "h"} <= sizes.keys() or min(sizes.values()) < 1:
        raise Unreadable(f"{METADATA} states no w and h")
    return sizes


def _size(metadata: dict[str, int], count: int) -> tuple[int, int]:
    """Rows and columns of so many values."""
    rows = metadata.get("dh", 0)
    columns = metadata.get("dw", 0)
    if rows * columns != count:
        scale = math.sqrt(count / (metadata["w"] * metadata["h"]))
        rows = round(metadata["h"] * scale)
        columns = round(metadata["w"] * scale)
    if not count or rows * columns != count:
        raise Unreadable(
            f"{count} values are no image of the aspect {metadata['w']} x {metadata['h']}"
        )
    return rows, columns
