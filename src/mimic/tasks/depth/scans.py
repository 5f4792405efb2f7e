"""Scans of phones, which keep colours in another way than folders of images do.

Stray Scanner (docs.strayrobots.io/apps/scanner/format.html):

    rgb.mp4                   HEVC, frame by frame beside depth/; as the sensor lies, however held
    depth/000000.png          16 bits, millimetres, 256 x 192; the number of its frame of rgb.mp4
    confidence/000000.png     0, 1 or 2, a higher value is surer

A frame of the video is named as a file below it, `rgb.mp4/000012`. Level 0 of confidence counts as
unknown, as Stray Scanner's own viewer leaves it out; the same holds of a folder `confidence` of
such levels in other layouts, and of Record3D's (depth.record3d).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np

from mimic.errors import BadInput
from mimic.sources.base import Image, Unreadable, files_in
from mimic.sources.depth_files import read_values
from mimic.sources.photos.folders import walk
from mimic.sources.rgbd_layouts import COLOUR_FOLDERS, DEPTH_FOLDERS, Frame, one_of
from mimic.sources.video import hdr, tracks
from mimic.tasks.depth import record3d

VIDEO = "rgb.mp4"
DEPTH = "depth"
CONFIDENCE = "confidence"
LEVELS = 2  # the highest
SURE = 1  # the lowest that counts
AHEAD = 30  # frames that are decoded on the way rather than sought
RECENT = 8  # frames kept, for readers that run a little ahead of each other


def scans_below(root: Path) -> Iterator[str]:
    """Folders of Stray Scanner, below the root."""
    for folder, folders, files in walk(root, {}):
        written = one_of(COLOUR_FOLDERS, folders)  # its frames, which are read instead
        if VIDEO in files and DEPTH in folders and written is None:
            yield Path(folder).as_posix()
            folders.clear()


def frames_of(scan: Path) -> list[Frame]:
    """A frame for each depth image.

    Raises:
        BadInput: a depth image is not called by a number.
    """
    frames = []
    for name in files_in(scan / DEPTH, frozenset({".png"}), each_path=True):
        stem = Path(name).stem
        if not stem.isdecimal():
            raise BadInput(f"{scan / DEPTH / name}: its name is not the number of a frame")
        frames.append(Frame(scan / VIDEO / stem, scan / DEPTH / name, None))
    return frames


def video_of(photo: Path) -> Path | None:
    """The video that a photograph is a frame of."""
    return photo.parent if photo.parent.name == VIDEO else None


def confidence_of(depth: Path) -> Path | None:
    """The map of a depth image's confidence."""
    if depth.suffix == record3d.DEPTH:
        beside = depth.with_suffix(record3d.CONFIDENCE)
        return beside if beside.is_file() else None
    if depth.parent.name.lower() not in DEPTH_FOLDERS:
        return None
    path = depth.parent.parent / CONFIDENCE / f"{depth.stem}.png"
    return path if path.is_file() else None


def has_levels(confidence: Path) -> bool:
    """Whether a map holds levels, not a picture."""
    return int(_levels(confidence).max()) <= LEVELS


def sure(confidence: Path, size: tuple[int, ...]) -> np.ndarray:
    """bool[h, w]: where the depth counts.

    Raises:
        BadInput: damaged, of another size, or no levels.
    """
    levels = _levels(confidence)
    if levels.shape != size or levels.max() > LEVELS:
        raise BadInput(
            f"{confidence}: {list(levels.shape)} with values up to {levels.max()}, where levels 0 "
            f"to {LEVELS} of {list(size)} are wanted; replace it, or take the folder away"
        )
    return levels >= SURE


def _levels(path: Path) -> np.ndarray:
    try:
        if path.suffix == record3d.CONFIDENCE:
            return record3d.read_confidence(path)
        return read_values(path)
    except (Unreadable, OSError) as error:
        raise BadInput(f"{path}: {error}; replace it, or take the folder away") from None


class ScanVideo:
    """A video whose frames are read by their numbers, in any order, by several threads.

    Raises:
        BadInput: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._held = ExitStack()
        try:
            self._container = self._held.enter_context(tracks.opened(path))
            self._stream = tracks.moving(self._container)
            packets = self._container.demux(self._stream)
            self._times = sorted(packet.pts for packet in packets if packet.pts is not None)
        except (Unreadable, OSError) as error:
            raise self._damaged(error) from None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next = len(self._times)  # the number of the frame that comes next
        self._recent: dict[int, Image] = {}

    def close(self) -> None:
        self._held.close()

    def read(self, number: int) -> Image:
        """uint8[h, w, 3], as it is stored.

        Raises:
            BadInput: there is no such frame, or it does not decode.
        """
        if number >= len(self._times):
            raise BadInput(
                f"{self._path}: {len(self._times)} frames, and depth of frame {number}; they are "
                "not of one scan"
            )
        with self._lock:
            if number not in self._recent:
                try:
                    self._recent[number] = self._decoded(number)
                except (Unreadable, OSError, StopIteration) as error:
                    raise self._damaged(error) from None
            while len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]
            return self._recent[number]

    def _decoded(self, number: int) -> Image:
        if not self._next <= number <= self._next + AHEAD:
            self._container.seek(self._times[number], stream=self._stream)
            self._frames = self._container.decode(self._stream)
        frame = next(self._frames)
        while frame.pts is None or frame.pts < self._times[number]:
            frame = next(self._frames)
        self._next = number + 1
        return hdr.rgb(frame)

    def _damaged(self, error: Exception) -> BadInput:
        why = str(error) or "it ends early"
        return BadInput(f"{self._path}: {why}; copy the scan from the phone again")
