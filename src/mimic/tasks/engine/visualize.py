"""Pictures of dense labels for the report: masks over the image with a legend, maps side by
side."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from mimic.tasks.api import Figure

HEIGHT_PX = 192
# width of the legend and height of its rows
LEGEND_PX = 150
ROW_PX = 16
LEGEND_ROWS = HEIGHT_PX // ROW_PX
OPACITY = 0.6
GOLDEN = 0.618034  # turns of hue between neighbouring classes: no two of a few are alike


def palette(classes: int) -> np.ndarray:
    """uint8[classes, 3] RGB; a class has the same colour in every picture."""
    colours = [
        colorsys.hsv_to_rgb(
            index * GOLDEN % 1, 0.55 + 0.45 * (index % 3) / 2, 0.65 + 0.35 * (index // 3 % 2)
        )
        for index in range(classes)
    ]
    return np.round(np.array(colours) * 255).astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray, shown: np.ndarray, classes: int) -> np.ndarray:
    """uint8[h, w, 3]: classes tint the image; pixels not `shown` are dark."""
    tint = palette(classes)[np.minimum(labels, classes - 1)]
    mixed = (1 - OPACITY) * image + OPACITY * tint
    return np.where(shown[..., None], mixed, 0.25 * image).round().astype(np.uint8)


def labelled_picture(
    name: str,
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    valid: np.ndarray,
    names: Sequence[str],
) -> Figure:
    """Image, truth, prediction and a legend of the classes that cover most of the two."""
    parts = [
        image,
        overlay(image, truth, valid, len(names)),
        overlay(image, prediction, np.ones_like(valid), len(names)),
    ]
    pixels = np.bincount(truth[valid], minlength=len(names)) + np.bincount(
        prediction[valid], minlength=len(names)
    )
    common = [
        int(number) for number in np.argsort(-pixels, kind="stable")[:LEGEND_ROWS] if pixels[number]
    ]
    right = f"{(truth[valid] == prediction[valid]).mean():.0%}" if valid.any() else "none"
    strip = np.concatenate([*(scaled(part) for part in parts), _legend(common, names)], axis=1)
    return Figure(
        name,
        strip,
        f"{name}: image, truth, prediction; {right} of the labelled pixels right; unlabelled is "
        "dark",
    )


def scaled(image: np.ndarray) -> np.ndarray:
    """At the pictures' height."""
    width = round(HEIGHT_PX * image.shape[1] / image.shape[0])
    shrinks = image.shape[0] > HEIGHT_PX
    return cv2.resize(
        image, (width, HEIGHT_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    )


def _legend(numbers: Sequence[int], names: Sequence[str]) -> np.ndarray:
    board = np.full((HEIGHT_PX, LEGEND_PX, 3), 255, np.uint8)
    colours = palette(len(names))
    for row, number in enumerate(numbers):
        y = row * ROW_PX
        board[y + 3 : y + 13, 6:20] = colours[number]
        cv2.putText(
            board,
            names[number][:18],
            (26, y + 12),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.36,
            (30, 30, 30),
            1,
            cv2.LINE_AA,
        )
    return board


def cameras(known: np.ndarray, true: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """uint8[h, h, 3]: cameras (poses [n, 4, 4], camera to world) in the plane they spread in most;
    dots with a stroke where they look.

    Args:
        known: drawn in grey.
        true, estimated: one pose each, in green and in red; what lies far outside is drawn at the
            edge.
    """
    centre = known[:, :3, 3].mean(axis=0)
    axes = np.linalg.svd(known[:, :3, 3] - centre, full_matrices=False)[2][:2]
    shown = np.concatenate([known, true[None]])[:, :3, 3]
    reach = max(float(np.abs((shown - centre) @ axes.T).max()), 1e-3) * 1.25
    board = np.full((HEIGHT_PX, HEIGHT_PX, 3), 255, np.uint8)

    def dot(pose: np.ndarray, colour: tuple[int, int, int], radius: int) -> None:
        position = np.clip((pose[:3, 3] - centre) @ axes.T / reach, -1, 1)
        towards = position + 0.12 * (axes @ pose[:3, 2])
        start, end = (
            np.round((np.array(point) + 1) / 2 * (HEIGHT_PX - 1)).astype(int).tolist()
            for point in (position, towards)
        )
        cv2.line(board, start, end, colour, 1, cv2.LINE_AA)
        cv2.circle(board, start, radius, colour, -1, cv2.LINE_AA)

    for pose in known:
        dot(pose, (170, 170, 170), 1)
    dot(true, (0, 150, 0), 4)
    dot(estimated, (210, 0, 0), 3)
    return board
