"""Sections `mine` and `datasets`: the rule, and recipes over what it kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mimic.config.base import Count, Fraction, Positive, Section, Seed
from mimic.config.licences import Wishing


class Privacy(Section):
    """What is taken out of pictures before anything is written (docs/datasets.md)."""

    blur_faces: bool
    face_model: (
        Path | None
    )  # OpenCV's YuNet detector, face_detection_yunet_*.onnx, relative to the workspace
    face_score_min: Fraction
    face_margin: Annotated[float, Field(ge=0)]  # blurred around a face, as a share of its size
    nsfw_command: (
        tuple[str, ...] | None
    )  # a program that scores pictures (mining/privacy.py); null = off
    nsfw_score_max: Fraction  # pairs with a picture above are WITHHELD

    @model_validator(mode="after")
    def _model_is_named(self) -> Privacy:
        if self.blur_faces and self.face_model is None:
            raise ValueError(
                "blur_faces is on, but face_model names no detector; without one no face can be "
                "blurred"
            )
        return self


class Mine(Section):
    """The mining rule (MIMIC, section 3; see docs/mining.md for the two modes)."""

    seed: Seed
    mode: Literal["symmetric", "reference"]
    size_px: Positive
    patch_px: Positive
    ratio: Annotated[float, Field(gt=0, le=1)]  # Lowe's ratio test
    matches_min: Positive
    ransac_px: Annotated[float, Field(gt=0)]
    votes_per_patch: (
        Positive  # reference mode: pixels drawn per patch; symmetric mode uses all pixels
    )
    overlap_min: Fraction
    overlap_max: Fraction
    inliers_min: Count  # symmetric mode: fewer is DEGENERATE
    inlier_share_min: Fraction  # symmetric mode: inliers / matches
    area_ratio_max: Annotated[
        float, Field(ge=1)
    ]  # symmetric mode: largest change of area a homography may make
    still_px: Annotated[
        float, Field(ge=0)
    ]  # symmetric mode: less is no move, in pixels of the square; 0 = off
    # symmetric mode: a still scene reaches so much of what the views show; less is STATIC
    still_spread_min: Fraction
    clips_per_shard: Positive
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    privacy: Privacy

    @model_validator(mode="after")
    def _consistent(self) -> Mine:
        if self.size_px % self.patch_px:
            raise ValueError(f"patch_px {self.patch_px} does not divide size_px {self.size_px}")
        if self.overlap_min >= self.overlap_max:
            raise ValueError("overlap_min must be below overlap_max")
        return self


class TestPairs(Section):
    """Pairs that are only measured on: of scenes in no train and no validation split."""

    sources: dict[
        str, Count
    ]  # test pairs of each source that has scenes set aside; a dataset without the source has none
    clips: Fraction  # share of the clips (scenes, videos) of these sources that is set aside


class Dataset(Wishing):
    """A recipe: how many pairs of which source. A manifest, never a copy."""

    UNSAID: ClassVar[tuple[str, ...]] = (*Wishing.UNSAID, "places")

    sources: dict[str, Count | None]  # pairs of each source; null = all there are
    contains: str | None  # a smaller dataset whose rows are all in this one
    # share of the places not held out that pairs come from, at least one of each source; all of a
    # smaller share are in a larger one; null, or no such line = all of them
    places: Annotated[float, Field(gt=0, le=1)] | None
    validation: Fraction  # share of the clips (scenes, videos) held out; same rule in every dataset
    test: TestPairs  # the same in every dataset
    near_duplicate_bits: (
        Annotated[int, Field(ge=0, le=8)] | None
    )  # of the 128 of both views' hashes; null = only exact duplicates go
    allow_short: (
        bool  # a source with fewer pairs than wanted gives what it has; false = that is an error
    )
    seed: Seed
