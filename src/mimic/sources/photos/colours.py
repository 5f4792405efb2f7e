"""Colours of photographs as a standard screen shows them: RGB values that a file's colour profile
(ICC.1:2022) gives another meaning, such as Display P3 of phones, become sRGB."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image as pillow
from PIL import ImageCms

SAME = 2  # of 255: profiles that differ less are sRGB written down by another program
STEPS = 9  # of each channel, where a profile is compared with sRGB
KEPT = 32  # transforms, of a few hundred kilobytes each; a folder's pictures share their profiles


def srgb(picture: pillow.Image) -> pillow.Image:
    """An RGB or RGBA picture with sRGB values; itself where it has no profile, one of sRGB, or one
    that cannot be used (damaged, or not of RGB)."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "RGBA"):
        return picture
    transform = _transform(profile)
    if transform is None:
        return picture
    converted = ImageCms.applyTransform(picture.convert("RGB"), transform)
    if converted is None:
        return picture
    if picture.mode == "RGBA":
        converted.putalpha(picture.getchannel("A"))
    return converted


@functools.lru_cache(KEPT)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB, relative to white; None where there is nothing to convert."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    ramp = np.linspace(0, 255, STEPS).astype(np.uint8)
    cube = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(STEPS, -1, 3)
    shown = ImageCms.applyTransform(pillow.fromarray(cube), transform)
    distance = np.abs(np.asarray(shown).astype(int) - cube).max()
    return transform if distance > SAME else None
