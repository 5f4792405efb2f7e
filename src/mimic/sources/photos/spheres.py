"""Photographs of the whole sphere, as 360-degree cameras and phones write them: a picture that
looks like any other, and whose XMP says how it is to be wrapped (Google's Photo Sphere
metadata)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mimic.sources.photos import pictures
from mimic.sources.video.tracks import SPHERE

# GPano:ProjectionType="equirectangular", or as an element
PROJECTION = re.compile(rb"GPano:ProjectionType\s*(?:=\s*[\"']|>)\s*equirectangular")
TIFF_XMP = 700  # tag
NUMBER = re.compile(r"\d+")
SAMPLES = 16  # of the files whose names differ by numbers alone, as one camera writes them


def remark(files: Iterable[Path]) -> str | None:
    """What is said of photographs among which spheres are; None where none is seen among some of
    each form of name."""
    forms = defaultdict(list)
    for file in files:
        forms[NUMBER.sub("0", file.name)].append(file)
    looked_at = [file for alike in forms.values() for file in alike[:: -(-len(alike) // SAMPLES)]]
    spheres = [file for file in looked_at if is_sphere(file)]
    if not spheres:
        return None
    return f"{spheres[0].name}, as {len(spheres)} of {len(looked_at)} images looked at: {SPHERE}"


def is_sphere(file: Path) -> bool:
    """Whether its metadata say so; of a file that cannot be read they say nothing."""
    try:
        with pictures.opened(file) as picture:
            xmp = picture.info.get("xmp") or getattr(picture, "tag_v2", {}).get(TIFF_XMP)
    except Exception:  # a picture that cannot be read is named when it is read
        return False
    # a damaged TIFF may hold numbers there
    return isinstance(xmp, bytes) and PROJECTION.search(xmp) is not None
