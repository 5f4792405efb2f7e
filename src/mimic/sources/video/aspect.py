"""Pixels that are not square, as of DVDs, DV and HDV: frames are stretched to what a player shows.

FFmpeg knows two shapes of a pixel (width over height, its "sample aspect ratio"): the container's,
and the codec's, which may change with each picture, as of a channel between two programmes. Players
take the container's where it states one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np

from mimic.sources.base import Image

SQUARE = Fraction(1)
TOLERANCE = Fraction(1, 100)  # rounded somewhere on the way: not worth new pixels
LONGEST = 4  # width over height, or height over width; beyond it, the statement is a mistake


def pixel_aspects(stream: av.VideoStream) -> Callable[[], Fraction]:
    """What tells the shape of the pixels that the stream gave last; square where nothing does."""
    decoder = stream.codec_context
    fixed = stream.sample_aspect_ratio  # the container's, or else what the codec says at its start
    if fixed and fixed != decoder.sample_aspect_ratio:
        return lambda: fixed
    return lambda: decoder.sample_aspect_ratio or SQUARE


def is_square(pixel_aspect: Fraction) -> bool:
    """Whether frames are left as they are stored."""
    return _is_mistake(pixel_aspect) or abs(pixel_aspect - 1) <= TOLERANCE


def _is_mistake(pixel_aspect: Fraction) -> bool:
    return not Fraction(1, LONGEST) <= pixel_aspect <= LONGEST


def shown_size(height: int, width: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Height and width of a frame in square pixels: the shorter way is stretched, so that nothing
    is lost."""
    if is_square(pixel_aspect):
        return height, width
    if pixel_aspect > 1:
        return height, round(width * pixel_aspect)
    return round(height / pixel_aspect), width


def squared(image: Image, pixel_aspect: Fraction) -> Image:
    """A frame, not turned yet, in square pixels."""
    if is_square(pixel_aspect):
        return image
    height, width = shown_size(image.shape[0], image.shape[1], pixel_aspect)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))


def remarks(frame: av.VideoFrame, pixel_aspect: Fraction) -> Iterator[str]:
    """What is done to the frame's shape, if anything is."""
    shape = f"its pixels are {pixel_aspect.numerator}:{pixel_aspect.denominator}"
    if _is_mistake(pixel_aspect):
        yield f"{shape}, which is taken for a mistake: mined as stored"
    elif not is_square(pixel_aspect):
        height, width = shown_size(frame.height, frame.width, pixel_aspect)
        yield f"{shape}, not square: stretched to {width} x {height}"
