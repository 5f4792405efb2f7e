"""Folders of colour images with depth and camera poses: pairs are chosen by what both views truly
see.

Layouts, all accepted, at any depth below the root; a clip is a folder that holds one of them:

    rgb.txt depth.txt groundtruth.txt         TUM RGB-D: "time path" a line, and "time tx ty tz qx
                                              qy qz qw" of the camera in the world; "#" comments.
                                              Each colour image takes the depth and the pose
                                              nearest in time
    frame-000000.color.png                    7-Scenes, 3DMatch and ScanNet's C++ export (.jpg,
    frame-000000.depth.png                    .depth.pgm): whatever stands before ".color" is the
    frame-000000.pose.txt                     frame's name; the pose is 4 x 4, camera to world
    color/0.jpg depth/0.png pose/0.txt        ScanNet's Python export; rgb/, images/ and poses/ as
                                              well, and folders of scenes in each
    0_rgb.png 0_depth.png 0_rgb.txt           beside each other; or 0.jpg, 0.npy and 0.txt

Depth is a 16-bit image, an array or floats (`sources.depth_files`) of z in units of 1 /
`depth_per_m` metres (TUM: 5000, others: 1000), 0 and 65535 unknown,
registered to the colour image; the two may differ in size. K of the depth image lies
in intrinsic/intrinsic_depth.txt, camera-intrinsics.txt or intrinsics.txt (3 x 3, 4 x 4, or fx fy cx
cy), in the clip's folder or the nearest above it up to the root; else it is `intrinsics` (TUM
publishes K on its page only).

Who has depth and poses need not guess from key points which views overlap: bare walls and repeated
furniture, where features fail, are measured like everything else. So this source does judge, and
pairs are given to the miner with their patch correspondences. Overlap is the share of patches with
a true match, one to one, a point being seen where the depths agree (`geometry.covisibility`). Of
each first view, every `advance` frames, the later frame at most `reach` away that overlaps least
within the band makes the pair, the earlier view is a. Frames without depth or pose are left out and
counted in the clip's note; a depth image that cannot be read is an unreadable candidate, by name.

Folders without any pose: `reader: images` mines them. Record3D's .r3d and bags are not read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydantic import model_validator

from mimic.config.base import AboveZero, Fraction, Positive
from mimic.config.sources import SourceBase, scanned_room
from mimic.errors import BadInput
from mimic.geometry import covisibility
from mimic.sources import depth_files, images
from mimic.sources.base import (
    Correspondences,
    Description,
    Group,
    Image,
    NoCandidates,
    Unreadable,
    View,
    damage,
    digest_of_digests,
    digest_with,
    numeric_order,
    read_numbers,
    require_folder,
)
from mimic.sources.photos import pictures
from mimic.sources.rgbd_layouts import (
    Frame,
    camera_matrix,
    folders_below,
    frames_in,
    say_what_lacks,
)

K_FILES = ("intrinsic/intrinsic_depth.txt", "camera-intrinsics.txt", "intrinsics.txt")
PATCH_PX = 16  # of the square on which overlap is measured
MEDIAN_M = (0.05, 100.0)  # of a depth image; outside, the unit is another
REMEMBERED = 256  # depth images, 200 kB each at 14 x 14 patches


class RGBD(SourceBase):
    """Folders of colour images with depth and poses: of each first view, the later one that
    truly overlaps least within the band."""

    reader: Literal["rgbd"]
    depth_per_m: AboveZero  # units of a depth image that make a metre: TUM 5000, others 1000
    # fx, fy, cx, cy of the depth images in pixels, where no file says them; null = one does
    intrinsics: tuple[AboveZero, AboveZero, AboveZero, AboveZero] | None
    time_s: AboveZero  # TUM: at most between a colour image, its depth and its pose
    stride: Positive  # frames between the second views that are tried
    reach: Positive  # frames to the farthest second view
    advance: Positive  # frames between the first views of two pairs
    overlap_min: Fraction  # share of the patches with a true match
    overlap_max: Fraction
    patches: Positive  # per side of a view: mine.size_px / mine.patch_px
    depth_tolerance: Fraction  # a point is seen where the depths agree within this share

    def scene_group(self, clip: str) -> str:
        """7-Scenes: sequences of a scene; scans of a room are ScanNet's."""
        scene, _, last = clip.rpartition("/")
        return scene if scene and last.startswith("seq-") else scanned_room(clip)

    @model_validator(mode="after")
    def _consistent(self) -> RGBD:
        if self.overlap_min > self.overlap_max:
            raise ValueError(f"overlap_min {self.overlap_min} is above overlap_max")
        if self.reach < self.stride:
            raise ValueError(f"reach {self.reach} is nearer than the first stride {self.stride}")
        return self


class RGBDSource:
    """See `RGBD` for the numbers."""

    def __init__(self, name: str, section: RGBD, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}

    def clips(self) -> list[str]:
        root = require_folder(self.name, self.root)
        clips = list(folders_below(root, self.skipped))
        if not clips:
            raise BadInput(
                f"sources.{self.name}.root: no folder of colour images with depth below "
                f"{self.root} (rgb.txt and depth.txt, *.color.* files, or color/ and depth/)"
            )
        return sorted(clips, key=numeric_order)

    def describe(self, clip: str) -> Description:
        frames = self._frames(clip)
        named = [file for frame in frames for file in (frame.colour, frame.depth) if file]
        usable = sum(frame.is_whole for frame in frames)
        description = images.describe(named, None if usable else say_what_lacks(frames))
        description["frames"] = len(frames)
        poses = [
            (at.colour.name, "" if at.pose is None else at.pose.tobytes().hex()) for at in frames
        ]
        digest = digest_of_digests([("images", description["digest"]), *poses])
        stated = self._k_file(clip)
        description["digest"] = digest_with(digest, [] if stated is None else [stated[0]])
        description["note"] = say_what_lacks(frames) if 0 < usable < len(frames) else None
        return description

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002
        """At most one pair for each first view, by co-visibility.

        Raises:
            Unreadable: no frame has both a depth and a pose, or K is not known.
            NoCandidates: no two frames overlap within the band.
        """
        section = self._section
        everything = self._frames(clip)
        frames = [frame for frame in everything if frame.is_whole]
        if not frames:
            raise Unreadable(say_what_lacks(everything))
        depths = Depths(self._intrinsics(clip), section.depth_per_m, section.patches * PATCH_PX)
        names = images.view_names(self.root / clip, [frame.colour for frame in frames])
        pairs = 0
        for first in range(0, len(frames) - 1, section.advance):
            reached = frames[first + section.stride : first + section.reach + 1 : section.stride]
            later = [frame for frame in reached if frame.scene == frames[first].scene]
            pair = self._least_overlapping(frames[first], later, depths)
            yield from depths.unreadable()
            if pair is not None:
                pairs += 1
                views = tuple(
                    View(names[at.colour], functools.partial(_read_lying, at.colour), at.pose)
                    for at in (frames[first], pair[0])
                )
                correspondences = functools.partial(np.copy, pair[1])
                share = first / len(frames)
                yield Group(views=views, pairs=((0, 1),), precomputed=correspondences, share=share)
        if not pairs:
            band = f"{section.overlap_min:g} to {section.overlap_max:g}"
            raise NoCandidates(f"no two frames within {section.reach} overlap by {band}")

    def _least_overlapping(
        self, a: Frame, later: list[Frame], depths: Depths
    ) -> tuple[Frame, Correspondences] | None:
        """The later frame that overlaps least with a within the band, and the patch map."""
        best = None
        lowest = self._section.overlap_max
        for b in later:
            correspondences = self._map(a, b, depths)
            if correspondences is None:
                continue
            overlap = float((correspondences >= 0).mean())
            if self._section.overlap_min <= overlap <= lowest:
                lowest = overlap
                best = b, correspondences
        return best

    def _map(self, a: Frame, b: Frame, depths: Depths) -> Correspondences | None:
        """Patch of b for each of a; None where a depth image cannot be read."""
        depth_a = depths.square(a)
        depth_b = depths.square(b)
        if depth_a is None or depth_b is None:
            return None
        assert a.pose is not None
        assert b.pose is not None
        poses_and_rule = (a.pose, b.pose, self._section.patches, self._section.depth_tolerance)
        return covisibility.patch_map(depth_a, depth_b, depths.intrinsics, *poses_and_rule)

    def _frames(self, clip: str) -> list[Frame]:
        folder = self.root / clip
        return _each_once(folder, frames_in(folder, self._section.time_s))

    def _intrinsics(self, clip: str) -> np.ndarray:
        """K of the depth images."""
        if stated := self._k_file(clip):
            path, numbers = stated
            return camera_matrix(numbers, path)
        if self._section.intrinsics is None:
            raise Unreadable(
                f"K is not known: no {' or '.join(K_FILES)} here or above; set "
                f"sources.{self.name}.intrinsics to fx, fy, cx, cy of the depth images"
            )
        return camera_matrix(np.array([self._section.intrinsics]), Path("intrinsics"))

    def _k_file(self, clip: str) -> tuple[Path, np.ndarray] | None:
        """The file that says K, and its numbers."""
        folder = (self.root / clip).resolve()
        root = self.root.resolve()
        candidates = [folder, *(above for above in folder.parents if above.is_relative_to(root))]
        for path in (parent / name for parent in candidates for name in K_FILES):
            if (numbers := read_numbers(path)) is not None:
                return path, numbers
            if path.exists():
                raise Unreadable(
                    f"{path.name}: is there, and no table of numbers; write K as 3 x 3 or 4 x 4 "
                    "numbers, or as fx fy cx cy, with blanks between"
                )
        return None


class Depths:
    """Depth images of a clip with K `intrinsics` and `per_m` units a metre, squashed to the square
    that is mined, the last ones remembered."""

    def __init__(self, intrinsics: np.ndarray, per_m: float, size_px: int) -> None:
        self._stored = intrinsics
        self._per_m = per_m
        self._size_px = size_px
        self._shape: tuple[int, ...] | None = None
        self._lost: dict[str, str] = {}
        self.square = functools.lru_cache(REMEMBERED)(self._square)

    @property
    def intrinsics(self) -> np.ndarray:
        """K of the square."""
        assert self._shape is not None
        down, across = (self._size_px / side for side in self._shape)
        return covisibility.resize_intrinsics(self._stored, across, down)

    def unreadable(self) -> Iterator[Group]:
        """A candidate, to be counted under the image's name, for each that could not be read since
        last asked."""
        for name, why in list(self._lost.items()):
            view = View(name, functools.partial(_fail, why), None)
            yield Group(views=(view, view), pairs=((0, 1),), precomputed=lambda: None)
        self._lost.clear()

    def _square(self, frame: Frame) -> np.ndarray | None:
        """Metres, 0 where unknown; None where the image cannot be read."""
        assert frame.depth is not None
        try:
            depth_m = read_depth(frame.depth, self._per_m)
            self._shape = self._shape or depth_m.shape
            if depth_m.shape != self._shape:
                raise Unreadable(f"{depth_m.shape} pixels, the first of the clip {self._shape}")
        except (Unreadable, OSError) as error:
            self._lost[frame.depth.name] = damage(error)
            return None
        size = (self._size_px, self._size_px)
        return cv2.resize(depth_m, size, interpolation=cv2.INTER_NEAREST_EXACT)


def read_depth(path: Path, per_m: float) -> np.ndarray:
    """Depth in metres, float32[height, width]; 0 where unknown.

    Raises:
        Unreadable: not a 16-bit image of one channel, damaged, or in another unit.
    """
    values = depth_files.read_values(path)
    if values.dtype == np.uint8:
        raise Unreadable("no 16-bit image of one channel")
    depth_m = depth_files.in_metres(values, per_m)
    middle = float(np.median(depth_m[depth_m > 0])) if (depth_m > 0).any() else 1.0
    if not MEDIAN_M[0] <= middle <= MEDIAN_M[1]:
        raise Unreadable(f"depths of {middle:.3g} m: is depth_per_m {per_m:g} right?")
    return depth_m


def _each_once(folder: Path, frames: list[Frame]) -> list[Frame]:
    """Of frames that show one real file the one that lies there itself, else the first: an image
    beside a link to it would be paired with itself."""
    real_folder = os.path.realpath(folder)
    chosen: dict[str, Frame] = {}
    for frame in frames:
        real = os.path.realpath(frame.colour)
        own = os.path.join(real_folder, os.path.relpath(frame.colour, folder))
        if real == own or real not in chosen:
            chosen[real] = frame
    return [frame for frame in frames if chosen[os.path.realpath(frame.colour)] is frame]


def _read_lying(file: Path) -> Image:
    """A colour image as the sensor has it: its depth, K and pose know of no other way."""
    turned = pictures.orientation(file)
    if turned != 1:
        raise Unreadable(
            f"EXIF orientation {turned}: depth, K and pose are of the picture as the sensor has "
            "it; store it so, without an orientation"
        )
    return images.read(file)


def _fail(why: str) -> Image:
    raise Unreadable(why)
