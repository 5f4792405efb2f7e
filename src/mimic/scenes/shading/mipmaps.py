"""Trilinear texture look-up: all mip levels of all textures in one picture, read by cv2.remap."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from mimic.errors import BadInput
from mimic.scenes.mesh import Wrap

PICTURE_MAX_PX = 32766  # cv2.remap addresses no more
BORDER_PX = 1  # each level carries its own (opposite) edge, so that textures go on without a seam
REPEAT = 0
MIRROR = 2
MODES: dict[Wrap, int] = {"repeat": REPEAT, "clamp": 1, "mirror": MIRROR}


class Mipmaps:
    """Sampler over several textures of any size."""

    def __init__(
        self,
        textures: tuple[UInt8[np.ndarray, "height width 3"], ...],
        wraps: tuple[tuple[Wrap, Wrap], ...] = (),
        nearest: tuple[bool, ...] = (),
    ) -> None:
        wraps = wraps or (("repeat", "repeat"),) * len(textures)
        self._modes = np.array([[MODES[wrap] for wrap in pair] for pair in wraps])  # [texture, u v]
        self._nearest = np.array(nearest or (False,) * len(textures))
        self.levels = max(max(texture.shape[:2]) for texture in textures).bit_length()
        pictures = [level for texture in textures for level in _pyramid(texture, self.levels)]
        sizes = np.array([picture.shape[:2] for picture in pictures])
        corners, width, height = _pack(sizes + 2 * BORDER_PX)
        self.picture = np.zeros((height, width, 3), np.uint8)
        for index, (picture, (y, x)) in enumerate(zip(pictures, corners, strict=True)):
            padded = _padded(picture, self._modes[index // self.levels])
            self.picture[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
        # Per texture and level: where texel (0, 0)'s outer corner lies, and the level's size; -0.5
        # because texel centres are integers.
        self.places = np.column_stack([corners[:, ::-1] + BORDER_PX - 0.5, sizes[:, ::-1]]).astype(
            np.float32
        )

    def sample(
        self,
        texture: Int32[np.ndarray, "height width"],
        lod: Float32[np.ndarray, "height width"],
        u: Float32[np.ndarray, "height width"],
        v: Float32[np.ndarray, "height width"],
    ) -> Float32[np.ndarray, "height width 3"]:
        """Colours 0..255. lod 0 is the full resolution, each further level half of it."""
        u, v = (self._within(values, texture, axis) for axis, values in enumerate((u, v)))
        lod = np.clip(lod, 0, self.levels - 1)
        if self._nearest.any():
            u, v = self._in_the_middle(texture, lod, u, v)
        fine = lod.astype(np.int32)
        share = (lod - fine)[..., None]
        first = texture * self.levels
        below = self._bilinear(first + fine, u, v).astype(np.float32)
        above = self._bilinear(first + np.minimum(fine + 1, self.levels - 1), u, v)
        return below + share * (above - below)

    def _within(self, values: np.ndarray, texture: np.ndarray, axis: int) -> np.ndarray:
        """Coordinates brought into 0..1 as each texture goes on beyond its edge."""
        repeated = values - np.floor(values)
        if (self._modes[:, axis] == REPEAT).all():
            return repeated
        mode = self._modes[texture, axis]
        mirrored = 1 - np.abs(values - 2 * np.floor(values / 2) - 1)
        return np.select(
            [mode == REPEAT, mode == MIRROR], [repeated, mirrored], np.clip(values, 0, 1)
        ).astype(np.float32)

    def _in_the_middle(
        self, texture: np.ndarray, lod: np.ndarray, u: np.ndarray, v: np.ndarray
    ) -> list[np.ndarray]:
        """Coordinates moved to the middle of their texel where a texture is enlarged and not to be
        smoothed."""
        size = np.take(self.places[:, 2:], texture * self.levels, axis=0)
        still = self._nearest[texture] & (lod == 0)
        return [
            np.where(still, (np.minimum(np.floor(x * side), side - 1) + 0.5) / side, x).astype(
                np.float32
            )
            for x, side in ((u, size[..., 0]), (v, size[..., 1]))
        ]

    def _bilinear(self, index: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        rectangle = np.take(self.places, index, axis=0)
        return cv2.remap(
            self.picture,
            rectangle[..., 0] + u * rectangle[..., 2],
            rectangle[..., 1] + v * rectangle[..., 3],
            cv2.INTER_LINEAR,
        )


def _padded(picture: np.ndarray, modes: np.ndarray) -> np.ndarray:
    """With a border: the opposite edge where the texture repeats, the same edge where it does
    not."""
    borders = [cv2.BORDER_WRAP if mode == REPEAT else cv2.BORDER_REPLICATE for mode in modes]
    wide = cv2.copyMakeBorder(picture, 0, 0, BORDER_PX, BORDER_PX, borders[0])
    return cv2.copyMakeBorder(wide, BORDER_PX, BORDER_PX, 0, 0, borders[1])


def _pyramid(texture: np.ndarray, levels: int) -> list[np.ndarray]:
    """Box-filtered halvings; a small texture repeats its last level so that all have the same
    number."""
    pyramid = [texture]
    while len(pyramid) < levels:
        height, width = (max(1, side // 2) for side in pyramid[-1].shape[:2])
        pyramid.append(cv2.resize(pyramid[-1], (width, height), interpolation=cv2.INTER_AREA))
    return pyramid


def _pack(sizes: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Shelves, tallest first: corners (y, x) of every rectangle, and the width and height of the
    whole."""
    squarish = np.sqrt(sizes.prod(axis=1).sum()) * 1.1
    width = int(max(sizes[:, 1].max(), min(PICTURE_MAX_PX, squarish)))
    corners = np.zeros_like(sizes)
    y = x = shelf = 0
    for index in np.lexsort((-sizes[:, 1], -sizes[:, 0])):
        rows, columns = sizes[index]
        if x + columns > width:
            y = y + shelf
            x = 0
            shelf = 0
        corners[index] = y, x
        x = x + columns
        shelf = max(shelf, rows)
    if max(width, y + shelf) > PICTURE_MAX_PX:
        raise BadInput(
            f"the scene's textures fill {width} x {y + shelf} px, more than can be sampled; lower "
            "texture_max_px"
        )
    return corners, width, int(y + shelf)
