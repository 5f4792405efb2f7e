"""Trilinear texture look-up: all mip levels of all textures in one picture, read by cv2.remap."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from mimic.errors import BadInput

PICTURE_MAX_PX = 32766  # cv2.remap addresses no more
BORDER_PX = 1  # each level carries its own opposite edge, so that textures repeat without a seam


class Mipmaps:
    """Sampler over several textures of any size."""

    def __init__(self, textures: tuple[UInt8[np.ndarray, "height width 3"], ...]) -> None:
        self.levels = max(max(texture.shape[:2]) for texture in textures).bit_length()
        pictures = [level for texture in textures for level in _pyramid(texture, self.levels)]
        sizes = np.array([picture.shape[:2] for picture in pictures])
        corners, width, height = _pack(sizes + 2 * BORDER_PX)
        self.picture = np.zeros((height, width, 3), np.uint8)
        for picture, (y, x) in zip(pictures, corners, strict=True):
            padded = cv2.copyMakeBorder(picture, *(BORDER_PX,) * 4, cv2.BORDER_WRAP)
            self.picture[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
        # Per texture and level: where texel (0, 0)'s outer corner lies, and the level's size; -0.5 because texel centres are integers.
        self.places = np.column_stack([corners[:, ::-1] + BORDER_PX - 0.5, sizes[:, ::-1]]).astype(np.float32)

    def sample(
        self,
        texture: Int32[np.ndarray, "height width"],
        lod: Float32[np.ndarray, "height width"],
        u: Float32[np.ndarray, "height width"],
        v: Float32[np.ndarray, "height width"],
    ) -> Float32[np.ndarray, "height width 3"]:
        """Colours 0..255. lod 0 is the full resolution, each further level half of it."""
        u, v = u - np.floor(u), v - np.floor(v)
        lod = np.clip(lod, 0, self.levels - 1)
        fine = lod.astype(np.int32)
        share = (lod - fine)[..., None]
        first = texture * self.levels
        below = self._bilinear(first + fine, u, v).astype(np.float32)
        above = self._bilinear(first + np.minimum(fine + 1, self.levels - 1), u, v)
        return below + share * (above - below)

    def _bilinear(self, index: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        place = np.take(self.places, index, axis=0)
        return cv2.remap(self.picture, place[..., 0] + u * place[..., 2], place[..., 1] + v * place[..., 3], cv2.INTER_LINEAR)


def _pyramid(texture: np.ndarray, levels: int) -> list[np.ndarray]:
    """Box-filtered halvings; a small texture repeats its last level so that all have the same number."""
    pyramid = [texture]
    while len(pyramid) < levels:
        height, width = (max(1, side // 2) for side in pyramid[-1].shape[:2])
        pyramid.append(cv2.resize(pyramid[-1], (width, height), interpolation=cv2.INTER_AREA))
    return pyramid


def _pack(sizes: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Shelves, tallest first: corners (y, x) of every rectangle, and the width and height of the whole."""
    width = int(min(PICTURE_MAX_PX, max(sizes[:, 1].max(), np.sqrt(sizes.prod(axis=1).sum()) * 1.1)))
    corners = np.zeros_like(sizes)
    y = x = shelf = 0
    for index in np.lexsort((-sizes[:, 1], -sizes[:, 0])):
        rows, columns = sizes[index]
        if x + columns > width:
            y, x, shelf = y + shelf, 0, 0
        corners[index] = y, x
        x, shelf = x + columns, max(shelf, rows)
    if y + shelf > PICTURE_MAX_PX:
        raise BadInput(f"the scene's textures fill {width} x {y + shelf} px, more than can be sampled; lower texture_max_px")
    return corners, width, int(y + shelf)
