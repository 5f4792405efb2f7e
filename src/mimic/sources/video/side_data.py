"""What a decoded frame says beside its pixels, and how it is to be turned to be upright."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType

from mimic.sources.base import Image


def of(frame: av.VideoFrame) -> dict[SideDataType, SideData]:
    """By kind. Where FFmpeg knows a kind that PyAV does not, such as EXIF, PyAV shows none."""
    try:
        return {data.type: data for data in iter(frame.side_data) if isinstance(data, SideData)}
    except ValueError:
        return {}


# Where the four corners of a picture lie after each of EXIF's orientations, row by row.
CORNERS = (
    *([1, 2, 3, 4], [2, 1, 4, 3], [4, 3, 2, 1], [3, 4, 1, 2]),
    *([1, 3, 2, 4], [3, 1, 4, 2], [4, 2, 3, 1], [2, 4, 1, 3]),
)


def upright(frame: av.VideoFrame) -> Callable[[Image], Image]:
    """What makes the pixels of a frame upright: its display matrix (which the decoder has not
    applied).

    Of a video the first frame alone is asked: a frame that was asked holds itself, and its pixels,
    in memory until Python looks for cycles, which with large frames is gigabytes later.
    """
    matrix = of(frame).get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        turns = round(frame.rotation / 90) % 4  # counter-clockwise, where only that is shown
        return lambda image: np.ascontiguousarray(np.rot90(image, turns))
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32, 5))
    return lambda image: turned(image, a, b, c, d)


def orientation(frame: av.VideoFrame) -> int:
    """How a frame is to be turned, in EXIF's numbers; 1 = not at all."""
    corner = np.array([[[1], [2]], [[3], [4]]], np.uint8)  # its corners, wherever they come to lie
    return CORNERS.index(upright(frame)(corner).ravel().tolist()) + 1


def turned(image: Image, a: int, b: int, c: int, d: int) -> Image:
    """The picture after sending its column p, row q to column a p + c q, row b p + d q: quarter
    turns and mirrors, to which anything else is rounded."""
    if abs(a) + abs(d) < abs(b) + abs(c):
        image = image.transpose(1, 0, 2)
        a = c
        d = b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
