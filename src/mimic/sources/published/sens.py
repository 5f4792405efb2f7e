"""ScanNet's .sens stream, version 4, little endian, read by seeking: a file of gigabytes costs its
frame headers.

u32 version | u64 n, n bytes sensor name | 4 x float32[16] intrinsics and extrinsics | i32 colour,
i32 depth compression u32 colour width, height, depth width, height | f32 depth shift | u64 frames
frame: float32[16] camera to world | u64 colour time, depth time, colour bytes, depth bytes | colour
blob | depth blob
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mimic.sources.base import Image, Unreadable, View
from mimic.sources.images import read

VERSION = 4
NAME_MAX = 4096
RAW = 0
PNG = 1
JPEG = 2
CALIBRATION = struct.Struct("<64f2i4IfQ")
FRAME = struct.Struct("<16f4Q")


@dataclass(frozen=True)
class Header:
    compression: int
    width: int
    height: int
    frames: int  # as announced; a truncated file holds fewer
    first_frame: int  # byte offset


def read_header(path: Path) -> Header:
    """The stream's header.

    Raises:
        Unreadable: not a version 4 .sens file, or a damaged one.
    """
    with path.open("rb") as file:
        version, length = struct.unpack("<IQ", _exactly(file, 12))
        if version != VERSION:
            raise Unreadable(f"not a version {VERSION} .sens file (version {version})")
        if length > NAME_MAX:
            raise Unreadable(f"damaged .sens header: sensor name of {length} bytes")
        _exactly(file, length)
        numbers = CALIBRATION.unpack(_exactly(file, CALIBRATION.size))
        compression, _, width, height, _, _, _, frames = numbers[64:]
        if compression not in (RAW, PNG, JPEG):
            raise Unreadable(f"unknown colour compression {compression}")
        return Header(compression, width, height, frames, file.tell())


def views(path: Path) -> Iterator[View]:
    """Frames in order; the image is read when it is asked for. Lost tracking (-inf in the pose)
    leaves the pose out.

    Raises:
        Unreadable: a damaged header, or, after the frames before it, the place where the file
            breaks off.
    """
    header = read_header(path)
    size = path.stat().st_size
    offset = header.first_frame
    with path.open("rb") as file:
        for index in range(header.frames):
            file.seek(offset)
            fields = file.read(FRAME.size)
            if len(fields) < FRAME.size:
                raise Unreadable(f"breaks off at frame {index} of {header.frames}")
            *matrix, _, _, colour_bytes, depth_bytes = FRAME.unpack(fields)
            blob = offset + FRAME.size
            offset = blob + colour_bytes + depth_bytes
            if offset > size:
                raise Unreadable(f"breaks off at frame {index} of {header.frames}")
            pose = np.array(matrix, np.float64).reshape(4, 4)
            yield View(
                key=str(index),
                read=functools.partial(_colour, path, header, blob, colour_bytes),
                pose=pose if np.isfinite(pose).all() else None,
            )


def _colour(path: Path, header: Header, offset: int, length: int) -> Image:
    with path.open("rb") as file:
        file.seek(offset)
        data = _exactly(file, length)
    if header.compression != RAW:
        return read(io.BytesIO(data))
    if length != header.width * header.height * 3:
        raise Unreadable(f"raw frame of {length} bytes is not {header.width} x {header.height} RGB")
    return np.frombuffer(data, np.uint8).reshape(header.height, header.width, 3)


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise Unreadable("damaged .sens header: the file is too short")
    return data
