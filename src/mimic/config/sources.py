"""Sections of `sources`: where raw data lies, and the candidate rule of each reader.

`mimic.sources.READERS` says which reader has which. A reader may take a section that stands here,
or one in its own file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mimic.config.base import (
    Count,
    Fraction,
    LengthRange,
    NotNegative,
    Positive,
    Section,
)

SCANNET = re.compile(r"(scene\d{4})_\d{2}")  # building and room, then the number of the scan
COUNTED = re.compile(r"(?:[-_.~:]+\d+)+$")  # frame numbers at the end of a sequence's name


class SourceBase(Section):
    model_config = ConfigDict(allow_inf_nan=False)
    decodes_video: ClassVar[bool] = False  # needs PyAV
    if TYPE_CHECKING:
        reader: str  # each section states which, the first of its own fields

    root: Path  # folder that holds the raw data; never written to
    # DVC ingests again when this changes: the root itself, or any small file beside terabytes
    tracked_by: Path
    licence: str  # carried into every manifest
    sharpness_min: (
        NotNegative  # variance of the Laplacian (8-bit grey); views below it are BLURRED; 0 = off
    )
    limit_clips: Count | None  # mine only the first clips, in order; null = all

    def scene_group(self, clip: str) -> str:
        """What a clip shows, told from its name: clips of one group lie on one side of a split.

        A clip is the reader's own unit (a scan, a folder, a scene of an .h5 file), and several may
        show one room. Without a rule of the reader each clip is a group of its own. What a name
        does not tell is not told here: converted DeMoN folders have lost the sequence they came
        from, ARKitScenes' visits stand in its metadata alone, and MannequinChallenge's clips of
        one video in their files.
        """
        return clip


class Videos(SourceBase):
    """Video files: frames at a fixed spacing, each paired with the next (MIMIC, appendix A)."""

    decodes_video: ClassVar[bool] = True
    reader: Literal["videos"]
    spacing_s: Annotated[float, Field(gt=0)]
    retry_spacing_s: Annotated[float, Field(gt=0)] | None  # tried when the pair is TOO_SIMILAR
    crop_bottom: Annotated[float, Field(ge=0, lt=1)]  # share of the height cut off below (captions)


class Images(SourceBase):
    """Folders of images: numbered frames (`neighbours`) or an unordered set (`all`)."""

    reader: Literal["images"]
    pairing: Literal["neighbours", "all"]
    glob: str  # which files of a folder are views, such as *.color.jpg
    stride: Positive  # neighbours: distance between the two frames of a pair
    retry_strides: tuple[
        Positive, ...
    ]  # distances tried, all together, when the pair is TOO_SIMILAR
    advance: Positive  # neighbours: distance between the first frames of two pairs
    # all: of a larger folder only so many pairs are tried as one of this size has, neighbours in
    # time or name
    group_max: Positive


class Demon(SourceBase):
    """DeMoN: every pair of a scene's views, the least overlapping kept."""

    reader: Literal["demon"]
    views_max: Positive  # a scene with more views is refused, its pairs would be too many

    def scene_group(self, clip: str) -> str:
        """`<file>.h5/<sequence>-<frame numbers>`: one sequence is cut into many scenes, and into
        files by their baselines."""
        _, separator, scene = clip.rpartition(".h5/")
        if not separator:
            return clip
        return COUNTED.sub("", scene) or clip


class ScanNet(SourceBase):
    """ScanNet v2: in every window of frames, the first ones against later ones, the least
    overlapping pair kept."""

    reader: Literal["scannet"]
    window: Positive  # frames; windows do not overlap
    edge: Positive  # frames on either side: edge x edge candidates
    second_edge: Positive  # where the second side starts, counted from the window's first frame

    @model_validator(mode="after")
    def _consistent(self) -> ScanNet:
        if not self.edge <= self.second_edge <= self.window - self.edge:
            raise ValueError(
                f"second_edge {self.second_edge} must lie in [edge, window - edge] = [{self.edge}, "
                f"{self.window - self.edge}]"
            )
        return self

    def scene_group(self, clip: str) -> str:
        """Scans of one room."""
        return scanned_room(clip)


class PhoneVideos(SourceBase):
    """ARKitScenes and Objectron: phone videos, sampled as `videos` are."""

    decodes_video: ClassVar[bool] = True
    reader: Literal["arkitscenes", "objectron"]
    spacing_s: Annotated[float, Field(gt=0)]
    retry_spacing_s: Annotated[float, Field(gt=0)] | None
    seconds_min: Annotated[float, Field(ge=0)]  # shorter videos are refused


class Mannequin(SourceBase):
    """MannequinChallenge: clips of videos, cut by timestamps."""

    decodes_video: ClassVar[bool] = True
    reader: Literal["mannequin"]
    videos: Path  # folder of downloaded videos, <youtube id>.<extension>; relative to root
    spacing_s: Annotated[float, Field(gt=0)]
    retry_spacing_s: Annotated[float, Field(gt=0)] | None
    seconds_min: Annotated[float, Field(ge=0)]
    crop_bottom: Annotated[float, Field(ge=0, lt=1)]

    def scene_group(self, clip: str) -> str:
        """`<folder>/trims/<file>`: clips cut from one video."""
        if "/trims/" not in f"/{clip}":
            return clip
        return clip.rpartition("trims/")[0] or clip


class NumberedFrames(SourceBase):
    """Sequences of frames: a frame and the one `stride` later, every `advance` frames."""

    reader: str  # the readers that take these numbers: rows of `mimic.sources.READERS`
    stride: Positive
    retry_strides: tuple[Positive, ...]
    advance: Positive


class StreetView(SourceBase):
    """3DStreetView: images of one target, all pairs."""

    reader: Literal["streetview"]
    keep: Literal[
        "lowest", "all"
        # per target: the least overlapping pair (paper), or every pair within the band (published
        # script)
    ]
    views_max: Positive  # of a target with more images, the first so many are used

    def scene_group(self, clip: str) -> str:
        """dataset_aligned/0002 and dataset_unaligned/0002 are one region of a city."""
        return clip.rpartition("/")[2]


class GivenPairs(SourceBase):
    """Pairs that others chose, taken as they are."""

    @model_validator(mode="after")
    def _takes_all(self) -> Self:
        if self.sharpness_min > 0:
            raise ValueError("sharpness_min: given pairs are taken as they are; set 0")
        return self


class Released(GivenPairs):
    """The published MIMIC-1M and MIMIC-3M: pairs that were mined already, taken as they are."""

    reader: Literal["released"]
    index: (
        Path | None
        # a CSV with the columns path1, path2 and perhaps correspondence; relative to root; null =
        # every pair folder
    )

    def scene_group(self, clip: str) -> str:
        """Scans of one room."""
        return scanned_room(clip)


class Crops(GivenPairs):
    """CroCo's published lists: pairs that were chosen already, taken as they are."""

    reader: Literal["crops"]
    list: Path  # relative to root
    form: Literal[
        "pairs", "stems", "crops"
    ]  # two paths a line; a stem of <stem>_1.jpg and <stem>_2.jpg a line; crops of larger images
    images: Path  # what the paths in the list are relative to; itself relative to root


class SceneBase(SourceBase):
    """Textured .glb scenes, and how they are rendered."""

    engine: Literal[
        "embree", "habitat"
    ]  # embree: embedded, nothing to install; habitat: habitat-sim, started as `habitat.command`
    up: Literal[
        "y", "z", "auto"
        # auto: as a stage_config.json beside it says, else y (glTF 2.0), and z for hm3d, gibson,
        # matterport
    ]
    positions: Positive  # tries per scene
    render_px: Positive  # rendered square
    hfov_deg: Annotated[float, Field(gt=0, lt=180)]
    height_m: LengthRange  # camera height
    island_radius_min_m: Annotated[
        float, Field(ge=0)
    ]  # smaller walkable islands (table tops) are skipped
    texture_max_px: Positive  # embree
    lod_bias: float  # embree: mip level offset; negative is sharper


class SceneWalk(SceneBase):
    """Scenes that an agent walks through (MIMIC, section 3 and appendix A): height drawn once per
    scene, the centre of views is kept."""

    headings: Positive  # views per position, equally spaced over 360 degrees
    step_m: LengthRange  # length of each of the two steps
    turn_deg: Annotated[float, Field(gt=0)]  # turns are multiples of it


class Covisible(SceneBase):
    """Multiview-Habitat: random views of a scene that see much the same (CroCo, section 3); height
    and jitter drawn for every view."""

    reader: Literal["covisible"]
    layout: Literal[
        "scenes", "hm3d", "gibson", "matterport"
    ]  # which files are scenes: as the reader of that name finds them
    tries: Positive  # second views tried per position
    steps: Positive  # of the random walk to the second view
    step_sigma_m: Annotated[float, Field(gt=0)]  # of each coordinate of a step
    jitter_deg: tuple[
        NotNegative, NotNegative, NotNegative
    ]  # pan, tilt, roll: at most so much to either side
    valid_depth_min: Fraction  # of the pixels of each view
    overlap_min: Fraction  # of the 3-D points of either view, those that the other has as well
    point_distance_m: Annotated[float, Field(gt=0)]  # points nearer than this are the same
    patches: Positive  # per side of a view, for correspondences: mine.size_px / mine.patch_px
    depth_tolerance: (
        Fraction  # a pixel is seen by the other view where the depths agree within this share
    )

    def scene_group(self, clip: str) -> str:
        """Scans of one room."""
        return scanned_room(clip)


class Scenes(SceneWalk):
    """Any .glb files."""

    reader: Literal["scenes"]


class Scans(SceneWalk):
    """Scans of real buildings in their official layouts."""

    reader: Literal["hm3d", "gibson", "matterport"]


def scanned_room(clip: str) -> str:
    """`.../scene0000_00/...` and `_01` are scans of one room."""
    match = SCANNET.search(clip)
    return match[1] if match else clip
