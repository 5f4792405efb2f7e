"""Folders of colour images with depth, in the layouts that `sources.rgbd` mines (without poses), at
any depth below `data`:

    color/NAME.jpg depth/NAME.png            also rgb/ or images/, and folders of scenes in both
    NAME_rgb.png NAME_depth.png              beside each other; or NAME.jpg NAME.npy
    NAME.color.png NAME.depth.png            7-Scenes, 3DMatch
    rgb.txt depth.txt                        TUM RGB-D
    rgb.mp4 depth/NUMBER.png                 Stray Scanner (depth.scans)
    metadata rgbd/NUMBER.jpg NUMBER.depth    Record3D, unpacked (depth.record3d)

Depth is read as `sources.depth_files` says, in the unit that `depth.units` finds; a depth image of
another size than its photograph takes the photograph's by nearest neighbour, so that no distance is
made up between two surfaces. Which images are scored: `own.splits`.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np

from mimic.errors import BadInput
from mimic.sources.base import Unreadable, numeric_order
from mimic.sources.depth_files import DEPTH, in_metres, read_values
from mimic.sources.photos.folders import shown
from mimic.sources.rgbd_layouts import COLOUR, Frame, folders_below, frames_in, same_name
from mimic.tasks.depth import record3d, scans, units
from mimic.tasks.depth.config import DepthFields
from mimic.tasks.depth.nyu import DepthFrame
from mimic.tasks.engine.dense_transforms import resize_labels
from mimic.tasks.engine.image_io import read_labels, with_labels
from mimic.tasks.own.files import (
    contents,
    digests_of,
    first_named,
    photo_beside,
    require_same_aspect,
    require_single,
    same_aspect,
    same_on_both_sides,
    unpaired,
)
from mimic.tasks.own.splits import LabelledImage, split, without_ending

TIME_S = 0.02  # between a colour image of TUM's and its depth, as its own associate.py
LOOKED_AT = 16  # images read on opening, to tell the unit
NATIVE = (480, 640)  # what Eigen's region is defined on
REPLACE = "replace it, or take its image away"


class OwnDepth:
    """A listed folder: `train` and `test` hold image numbers counted from 0; `read` gives one.

    Raises:
        BadInput: no image has depth, the split is no split, or the unit cannot be told.
    """

    def __init__(self, folder: Path, masks: Path | None, task: DepthFields) -> None:
        self.path = folder
        self.masks = masks
        self._skipped: dict[str, str] = {}
        frames, self._is_tum = _frames(folder, TIME_S, self._skipped)
        self._photos = {frame.colour for _, frame in frames}
        self._items = _items(folder, frames)
        self._without_depth = len(frames) - len(self._items)
        if not self._items:
            raise BadInput(
                f"{folder}: {len(frames)} colour images, and no depth of their names as "
                f"{' '.join(DEPTH)} (a JPEG holds none: it is lossy)"
            )
        parts = split(folder, self._items)
        self.train = parts.train
        self.test = parts.test
        self.length = len(self._items)
        self._stems = Counter(item.image.stem for item in self._items)
        self._rule = parts.rule
        self._unused = parts.unused
        samples = self._samples()
        self._kind = units.kind_of(samples[0])
        films = {film for item in self._items if (film := scans.video_of(item.image))}
        self._videos = {film: scans.ScanVideo(film) for film in films}
        self._sureness = _confidence(self._items)
        self.unit = units.find(folder, samples, task.depth_unit, self._is_tum)
        frame = self._read(int(self.train[0]))
        self.has_eigen = frame.valid.shape == NATIVE

    def __enter__(self) -> OwnDepth:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for video in self._videos.values():
            video.close()

    def read(self, index: int) -> DepthFrame:
        """Image `index`, counted from 0, at the size of its photograph."""
        return self._read(index)

    def extent(self) -> dict[str, int | str]:
        """Bytes and digest of all photographs and labels, the split with them."""
        return dict(self._contents)

    @property
    def digest(self) -> str:
        return str(self._contents["digest"])

    @property
    def own(self) -> str:
        """What the protocol says, so that nobody takes the number for the official set's."""
        return f"own data {shown(self.path.name)} ({self._depth_in_words()}; {self._split_rule()})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, a line each."""
        unused = [f"{count:,} {why}" for why, count in self._unused.items()]
        if self._without_depth:
            unused.append(f"{self._without_depth:,} without depth")
        unused += unpaired(self._items, self._photos, COLOUR | set(DEPTH), self.path)
        unused += first_named(self._skipped)
        lines = [
            f"median depth {self.unit.median_m:.3g} m: taken as {self.unit.name}, "
            f"{self.unit.because}",
            f"split: {self._rule}",
        ]
        if self.unit.step_m is not None:
            lines.append(
                f"steps of {1000 * self.unit.step_m:.0f} mm, as of a copy in 8 bits: "
                "good to rank encoders, not to compare with published numbers"
            )
        if self._sureness:
            maps = sorted({path.suffix for path in self._sureness.values()})
            by = "*.conf" if maps == [record3d.CONFIDENCE] else f"{scans.CONFIDENCE}/"
            lone = self.length - len(self._sureness)
            rest = f"; {lone:,} images have no such map" if lone else ""
            lines.append(f"depth of confidence below {scans.SURE} is unknown, by {by}{rest}")
        if unused:
            lines.append(f"not used: {', '.join(unused)}")
        trained, scored = (
            [self._items[index].image for index in side] for side in (self.train, self.test)
        )
        lines += same_on_both_sides(self._digests, trained, scored, self.path)
        return tuple(lines)

    @cached_property
    def _digests(self) -> dict[Path, str]:
        photos = {scans.video_of(item.image) or item.image for item in self._items}
        labels = {item.label for item in self._items}
        return digests_of(photos | labels | set(self._sureness.values()))

    @cached_property
    def _contents(self) -> dict[str, int | str]:
        everything = contents(self._digests, self.path, (self.train, self.test))
        if self.masks is None:
            return everything
        masks = {mask for item in self._items if (mask := self._mask_of(item)).is_file()}
        return with_labels(everything, str(contents(digests_of(masks), self.masks, ())["digest"]))

    def _depth_in_words(self) -> str:
        step_m = self.unit.step_m
        coarse = "" if step_m is None else f" in steps of {1000 * step_m:.0f} mm, an 8-bit copy"
        return f"depth in {self.unit.name}{coarse}"

    def _split_rule(self) -> str:
        return f"split {self._rule.partition(';')[0]}"

    def _samples(self) -> list[np.ndarray]:
        step = -(-self.length // LOOKED_AT)
        return [self._values(self._items[index].label) for index in range(0, self.length, step)]

    def _values(self, path: Path) -> np.ndarray:
        try:
            return record3d.read_depth(path) if path.suffix == record3d.DEPTH else read_values(path)
        except (Unreadable, OSError) as error:
            raise BadInput(f"{path}: {error}; {REPLACE}") from None

    def _read(self, index: int) -> DepthFrame:
        item = self._items[index]
        values = self._values(item.label)
        if (kind := units.kind_of(values)) != self._kind:
            raise BadInput(f"{item.label}: {kind}, the others {self._kind}; {REPLACE}")
        depth_m = in_metres(values, self.unit.per_m)
        units.require_like_others(item.label, depth_m, self.unit)
        if sureness := self._sureness.get(item.label):
            depth_m[~scans.sure(sureness, depth_m.shape)] = 0
        image = self._photo(item, depth_m.shape[:2])
        if depth_m.shape != image.shape[:2]:
            depth_m = resize_labels(depth_m, image.shape[:2])
        valid = depth_m > 0
        if self.masks is not None:
            valid &= self._mask(item, image.shape[:2])
        return DepthFrame(image, depth_m, valid, image.shape[:2] == NATIVE)

    def _photo(self, item: LabelledImage, size: tuple[int, int]) -> np.ndarray:
        video = scans.video_of(item.image)
        if video is None:
            return photo_beside(item.image, item.label, size)
        image = self._videos[video].read(int(item.image.name))
        require_same_aspect(item.label, size, image.shape[:2])
        return image

    def _mask_of(self, item: LabelledImage) -> Path:
        """The mask of an image: of its name below `data`, or of its file's name alone.

        Raises:
            BadInput: several images share that file name.
        """
        assert self.masks is not None
        path = self.masks / f"{item.name}.png"
        short = self.masks / f"{item.image.stem}.png"
        if path.is_file():
            return path
        if self._stems[item.image.stem] == 1:
            return short
        if not short.is_file():
            return path
        raise BadInput(
            f"{short}: {self._stems[item.image.stem]} images would take it for their mask; name "
            f"masks as their images lie below {self.path}, such as {path}"
        )

    def _mask(self, item: LabelledImage, size: tuple[int, ...]) -> np.ndarray:
        path = self._mask_of(item)
        mask = read_labels(path)
        if mask.ndim != 2 or not same_aspect(mask.shape, size):
            raise BadInput(f"{path}: {list(mask.shape)} is no mask of an image of {list(size)}")
        return resize_labels(mask == 255, (size[0], size[1])).astype(bool)


def is_own(folder: Path) -> bool:
    """Whether a folder holds colour images with depth."""
    if not folder.is_dir():
        return False
    listings = (
        folders_below(folder, {}),
        scans.scans_below(folder),
        record3d.captures_below(folder),
    )
    return any(next(listing, None) is not None for listing in listings)


def _confidence(items: list[LabelledImage]) -> dict[Path, Path]:
    """Maps of confidence by the depth that they are of; each folder of maps says for itself whether
    it holds levels or pictures."""
    levels: dict[Path, bool] = {}
    maps = {}
    for item in items:
        path = scans.confidence_of(item.label)
        if path is None:
            continue
        if path.parent not in levels:
            levels[path.parent] = scans.has_levels(path)
        if levels[path.parent]:
            maps[item.label] = path
    return maps


def _frames(
    folder: Path, time_s: float, skipped: dict[str, str]
) -> tuple[list[tuple[str, Frame]], bool]:
    """Frames with the folder that they lie in, and whether all are of TUM's layout."""
    frames = []
    layouts: Counter[bool] = Counter()
    for below in sorted(folders_below(folder, skipped, each_path=True), key=numeric_order):
        scene_folder = folder / below
        layouts[(scene_folder / "rgb.txt").is_file()] += 1
        try:
            frames += [(below, frame) for frame in frames_in(scene_folder, time_s)]
        except Unreadable as error:
            raise BadInput(f"{scene_folder}: {error}") from None
    for below in sorted(scans.scans_below(folder), key=numeric_order):
        layouts[False] += 1
        frames += [(below, frame) for frame in scans.frames_of(folder / below)]
    for below in sorted(record3d.captures_below(folder), key=numeric_order):
        layouts[False] += 1
        frames += [(below, frame) for frame in record3d.frames_of(folder / below)]
    if not frames:
        record3d.refuse_packed(folder)
        raise BadInput(
            f"{folder}: no colour images with depth (color/ and depth/, NAME_rgb.png and "
            "NAME_depth.png, or NAME.jpg and NAME.npy)"
        )
    return frames, set(layouts) == {True}


def _items(folder: Path, frames: list[tuple[str, Frame]]) -> list[LabelledImage]:
    """Frames with depth as items, in the order of their names."""
    items = []
    for below, frame in frames:
        if frame.depth is not None:
            name = without_ending(os.path.relpath(frame.colour, folder).replace(os.sep, "/"))
            scene = f"{below}/{frame.scene}".strip("/")
            items.append(
                LabelledImage(same_name(name), frame.colour, frame.depth, same_name(scene))
            )
    require_single(items)
    return sorted(items, key=lambda item: numeric_order(item.name))
