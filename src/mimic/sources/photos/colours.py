"""Colours of photographs as a standard screen shows them: values that a file's colour profile
(ICC.1:2022) gives another meaning, such as Display P3 of phones, grey of another gamma, or inks,
become sRGB."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image as pillow
from PIL import ImageCms

from mimic.sources.base import Image

SAME = 2  # of 255: profiles that differ less are sRGB written down by another program
STEPS = 9  # of each channel, where a profile is compared with sRGB
KEPT = 32  # transforms, of a few hundred kilobytes each; a folder's pictures share their profiles
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # what a profile is of
COLOURED = frozenset({"RGB", "RGBA", "L", "LA", "P", "PA"})  # what may have a profile of RGB


def srgb(picture: pillow.Image) -> pillow.Image:
    """A picture with sRGB values, as RGB or RGBA; itself where it has no profile, one of sRGB, or
    one that cannot be used (damaged, or of other channels than the picture's)."""
    profile = picture.info.get("icc_profile")
    known = _transform(profile) if profile else None
    if known is None:
        return picture
    mode, transform = known
    if picture.mode not in {"RGB": COLOURED, "L": {"L", "LA"}, "CMYK": {"CMYK"}}[mode]:
        return picture
    alpha = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
    converted = ImageCms.applyTransform(picture.convert(mode), transform)
    if converted is None:
        return picture
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def srgb_pixels(pixels: Image, profile: bytes | None) -> Image:
    """uint8[h, w, 3] of a picture that another decoder read: with sRGB values.

    Args:
        profile: of the file; None = it has none.
    """
    known = _transform(profile) if profile else None
    if known is None or known[0] == "CMYK":
        return pixels
    mode, transform = known
    if mode == "L" and not (pixels == pixels[..., :1]).all():
        return pixels
    picture = pillow.fromarray(pixels if mode == "RGB" else np.ascontiguousarray(pixels[..., 0]))
    converted = ImageCms.applyTransform(picture, transform)
    return pixels if converted is None else np.asarray(converted)


@functools.lru_cache(KEPT)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """The mode of the pictures that a profile is of, and the way to sRGB, relative to white; None
    where there is nothing to convert."""
    try:
        described = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODES.get(described.profile.xcolor_space.strip())
        if mode is None:
            return None
        transform = ImageCms.buildTransform(
            described,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return None if mode != "CMYK" and _is_like_srgb(mode, transform) else (mode, transform)


def _is_like_srgb(mode: str, transform: ImageCms.ImageCmsTransform) -> bool:
    ramp = np.linspace(0, 255, STEPS).astype(np.uint8)
    if mode == "RGB":
        cube = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(STEPS, -1, 3)
        shown = ImageCms.applyTransform(pillow.fromarray(cube), transform)
    else:
        cube = ramp[None, :, None].repeat(3, axis=2)
        shown = ImageCms.applyTransform(pillow.fromarray(ramp[None]), transform)
    return bool(np.abs(np.asarray(shown).astype(int) - cube).max() <= SAME)
