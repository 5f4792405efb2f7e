"""Pictures as arrays: matched patches in matching colours, and the figure that introduces the
project.

Patches are numbered in raster order; a correspondence map gives the patch of b for each patch of a,
-1 = none.
"""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from mimic.errors import BadInput

DIMMED = 0.35  # brightness left to patches without a match
TINT = 0.38
LABEL = "#808791"  # readable on white and on black
PANEL_PX = 280
GAP_PX = 12
LABEL_PX = 30


def patch_colours(side: int) -> np.ndarray:
    """A colour for each patch of a grid, uint8 [side * side, 3] RGB: hue runs from left to right,
    lightness from top to bottom."""
    share = np.linspace(0, 1, side)
    table = [
        colorsys.hls_to_rgb(0.02 + 0.82 * x, 0.68 - 0.26 * y, 0.8) for y in share for x in share
    ]
    return np.round(255 * np.array(table)).astype(np.uint8)


def matched_patches(
    a: np.ndarray, b: np.ndarray, correspondences: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both views with each pair of matched patches tinted in one colour, everything else dimmed.

    Args:
        a, b: square uint8 [size, size, 3] RGB.
        correspondences: integers [n] for a grid of sqrt(n) x sqrt(n) patches.
    """
    side = round(len(correspondences) ** 0.5)
    colours = patch_colours(side)
    matched = np.flatnonzero(correspondences >= 0)
    return _tinted(a, matched, colours[matched], side), _tinted(
        b, correspondences[matched], colours[matched], side
    )


def _tinted(image: np.ndarray, patches: np.ndarray, colours: np.ndarray, side: int) -> np.ndarray:
    size = image.shape[0]
    patch = image.shape[0] / side
    canvas = image * DIMMED
    for index, colour in zip(patches, colours, strict=True):
        top = index // side * patch
        left = index % side * patch
        area = np.s_[round(top) : round(top + patch), round(left) : round(left + patch)]
        canvas[area] = (1 - TINT) * image[area] + TINT * colour
    for line in range(1, side):  # a hairline between patches, so that single ones can be told apart
        at = min(round(line * patch), size - 1)
        canvas[at] *= 0.86
        canvas[:, at] *= 0.86
    return np.round(canvas).astype(np.uint8)


def figure(panels: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """Labelled pictures in a row, as a PNG without background, so that it sits well on light and
    dark pages.

    Args:
        panels: label and square uint8 [size, size, 3] RGB, any size.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = len(panels) * (PANEL_PX + GAP_PX) - GAP_PX
    height = PANEL_PX + LABEL_PX
    drawing = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(drawing)
    drawing.patch.set_alpha(0)
    for index, (label, image) in enumerate(panels):
        left = index * (PANEL_PX + GAP_PX)
        axes = drawing.add_axes(
            (left / width, LABEL_PX / height, PANEL_PX / width, PANEL_PX / height)
        )
        axes.imshow(_enlarged(image), interpolation="none", aspect="auto")
        axes.set_axis_off()
        drawing.text(
            (left + PANEL_PX / 2) / width,
            0.3 * LABEL_PX / height,
            label,
            color=LABEL,
            fontsize=9.5,
            ha="center",
            va="baseline",
        )
    out = io.BytesIO()
    metadata: dict[str, Any] = {
        "Software": None
    }  # no version in the file: equal pictures are equal bytes
    drawing.savefig(out, format="png", transparent=True, metadata=metadata)
    return out.getvalue()


def _enlarged(image: np.ndarray) -> np.ndarray:
    """The picture at panel size; small ones keep their edges (their pixels are what the model
    sees)."""
    method = cv2.INTER_AREA if image.shape[0] > PANEL_PX else cv2.INTER_CUBIC
    return cv2.resize(image, (PANEL_PX, PANEL_PX), interpolation=method)


def smaller(data: bytes, quality: int) -> tuple[str, bytes]:
    """MIME type and bytes of a PNG: itself, or as a JPEG where that is smaller; photographs shrink
    five-fold, flat drawings stay."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not a picture")
    good, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return ("image/jpeg", jpeg.tobytes()) if good and len(jpeg) < len(data) else ("image/png", data)


def at_most(jpeg: bytes, side_px: int, quality: int) -> bytes:
    """A JPEG as it is, or scaled down where a side is longer.

    Raises:
        BadInput: it is no picture.
    """
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise BadInput("a stored view is no picture; mine the data again")
    scale = side_px / max(image.shape[:2])
    if scale >= 1:
        return jpeg
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(data.tobytes())
