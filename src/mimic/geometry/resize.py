"""The square that is mined; the aspect is not kept, as in the published sets."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8


def to_square(
    image: UInt8[np.ndarray, "height width channels"],
    size_px: int,
    mode: Literal["symmetric", "reference"],
) -> UInt8[np.ndarray, "size size channels"]:
    """The image, squashed to size_px x size_px.

    `reference` interpolates between the four nearest pixels, as the published scripts do (MIMIC,
    section 3): most pixels of a large image are never looked at, and what is left flickers.
    `symmetric` averages all pixels that a side shrinks over; a side that grows is interpolated in
    both modes.
    """
    square = (size_px, size_px)
    if mode == "reference":
        return cv2.resize(image, square, interpolation=cv2.INTER_LINEAR)
    height, width = image.shape[:2]
    smaller = (min(width, size_px), min(height, size_px))
    if smaller != (width, height):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    if smaller != square:
        image = cv2.resize(image, square, interpolation=cv2.INTER_LINEAR)
    return image
