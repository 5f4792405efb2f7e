"""Sections of `sources`: where raw data lies, and the candidate rule of each reader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimic.config.base import Count, Fraction, Positive, Section


class SourceBase(Section):
    root: Path  # folder that holds the raw data; never written to
    tracked_by: Path  # DVC ingests again when this changes: the root itself, or any small file beside terabytes
    licence: str  # carried into every manifest
    sharpness_min: float  # variance of the Laplacian (8-bit grey); views below it are BLURRED; 0 = off
    limit_clips: Count | None  # mine only the first clips, in order; null = all


class Videos(SourceBase):
    """Video files: frames at a fixed spacing, each paired with the next (MIMIC, appendix A)."""

    reader: Literal["videos"]
    spacing_s: Annotated[float, Field(gt=0)]
    retry_spacing_s: Annotated[float, Field(gt=0)] | None  # tried when the pair is TOO_SIMILAR
    crop_bottom: Fraction  # share of the height cut off below (captions)


class Images(SourceBase):
    """Folders of images: numbered frames (`neighbours`) or an unordered set (`all`)."""

    reader: Literal["images"]
    pairing: Literal["neighbours", "all"]
    glob: str  # which files of a folder are views, such as *.color.jpg
    stride: Positive  # neighbours: distance between the two frames of a pair
    retry_strides: tuple[Positive, ...]  # distances tried, all together, when the pair is TOO_SIMILAR
    advance: Positive  # neighbours: distance between the first frames of two pairs
    group_max: Positive  # all: a folder with more images than this is refused, its pairs would be too many


class Scenes(SourceBase):
    """Textured .glb scenes that an agent walks through (MIMIC, section 3 and appendix A)."""

    reader: Literal["scenes"]
    engine: Literal["embree"]
    up: Literal["y", "z", "auto"]  # auto: z, Habitat's rule for bare .glb, unless a stage_config.json beside it says otherwise
    positions: Positive  # tries per scene
    headings: Positive  # views per position, equally spaced over 360 degrees
    render_px: Positive  # rendered square; the centre mine.size_px of it is kept
    hfov_deg: Annotated[float, Field(gt=0, lt=180)]
    height_m: tuple[float, float]  # camera height, drawn once per scene
    step_m: tuple[float, float]  # length of each of the two steps
    turn_deg: Annotated[float, Field(gt=0)]  # turns are multiples of it
    island_radius_min_m: float  # smaller walkable islands (table tops) are skipped
    texture_max_px: Positive
    lod_bias: float  # mip level offset; negative is sharper


Source = Annotated[Videos | Images | Scenes, Field(discriminator="reader")]
