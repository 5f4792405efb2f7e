"""Video files: frames at 0, s, 2s, ... seconds, each paired with the next; with the one after where they overlap too much.

Layout: any tree below the root; every file with a video extension is a clip, named by its path below the root.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av
import av.container
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType

from mimic import config
from mimic.errors import BadInput
from mimic.sources.base import Description, Group, Image, Unreadable, View, content_digest, files_below, require_folder

EXTENSIONS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".flv", ".ts", ".mts", ".ogv"})
TOLERANCE_S = 0.001  # container clocks are rounded: a frame this much before t is the frame of t


class VideoSource:
    """Videos below a folder; see `config.Videos` for the numbers."""

    def __init__(self, name: str, section: config.Videos, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self._reach = _steps_to_retry(name, section)

    def clips(self) -> list[str]:
        found = files_below(require_folder(self.name, self.root), EXTENSIONS)
        if not found:
            raise BadInput(f"sources.{self.name}.root: no video in {self.root} (looked for {' '.join(sorted(EXTENSIONS))})")
        return found

    def describe(self, clip: str) -> Description:
        path = self.root / clip
        frames, error = None, None
        try:
            with _opened(path) as container:
                stream = container.streams.video[0]
                frames = stream.frames or None  # what the container says, which is no promise
                next(_decoded(container))
        except Unreadable as unreadable:
            error = str(unreadable)
        except StopIteration:
            error = "no frame decodes"
        return Description(bytes=path.stat().st_size, frames=frames, digest=content_digest(path), error=error)

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002  (videos draw nothing)
        """One group for each sampled frame but the last: with the next frame, else with the one at the retry distance.

        Raises:
            Unreadable: the file does not open, or its last frames could not be decoded; what was yielded before stands.
        """
        window: deque[View] = deque()
        for view in self._views(clip):
            window.append(view)
            if len(window) > self._reach:
                yield self._group(window)
                window.popleft()
        while len(window) > 1:
            yield self._group(window)
            window.popleft()

    def _group(self, window: deque[View]) -> Group:
        retry = self._reach > 1 and len(window) > self._reach
        return Group(
            views=tuple(window),
            pairs=((0, 1),),
            retry=((0, self._reach),) if retry else (),
            skip_after_retry=self._reach - 1 if retry else 0,
        )

    def _views(self, clip: str) -> Iterator[View]:
        for time_s, frame in sample(self.root / clip, self._section.spacing_s):
            image = frame[: max(1, round(len(frame) * (1 - self._section.crop_bottom)))]
            yield View(key=f"{time_s:.3f}", read=functools.partial(_same, image), pose=None)


def sample(path: Path, spacing_s: float) -> Iterator[tuple[float, Image]]:
    """Times since the first frame and upright RGB frames at 0, s, 2s, ... seconds, in one sequential pass.

    The frame of time t is the first one at or after t. In between, frames are decoded but not converted. A frame serves
    once: where the clock jumps over several times (dropped frames), one frame is all there is.

    Raises:
        Unreadable: the file does not open, no frame decodes, or the end is damaged (after the frames before it).
    """
    with _opened(path) as container:
        start_s: float | None = None
        last = -1
        for frame in _decoded(container):
            if frame.time is None:
                continue
            start_s = frame.time if start_s is None else start_s
            slot = math.floor((frame.time - start_s + TOLERANCE_S) / spacing_s)
            if slot > last:
                last = slot
                yield frame.time - start_s, _upright(frame)
        if start_s is None:
            raise Unreadable("no frame decodes")


def _same(image: Image) -> Image:
    return image


def _steps_to_retry(name: str, section: config.Videos) -> int:
    """How many sampled frames ahead the retry frame is; 1 = no retry."""
    if section.retry_spacing_s is None:
        return 1
    steps = round(section.retry_spacing_s / section.spacing_s)
    if steps < 2 or abs(steps * section.spacing_s - section.retry_spacing_s) > TOLERANCE_S:
        raise BadInput(
            f"sources.{name}.retry_spacing_s: {section.retry_spacing_s} is no multiple (2 or more) of spacing_s {section.spacing_s};"
            " use one, or null for no retry"
        )
    return steps


def _opened(path: Path) -> av.container.InputContainer:
    """The file, opened for its first video stream; other streams (sound, phone metadata) are not looked at."""
    try:
        container = av.open(str(path), mode="r", metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise Unreadable(_reason(error)) from None
    if not container.streams.video:
        container.close()
        raise Unreadable("no video stream")
    # Shards run side by side, one a core: a decoder with threads of its own would only add memory.
    container.streams.video[0].codec_context.thread_count = 1
    return container


def _decoded(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Good frames, in order of presentation; damaged packets and frames are passed over.

    Raises:
        Unreadable: at the end, if anything was damaged.
    """
    damaged, reason, last_s = 0, "damaged frames", -math.inf
    for item in _packets(container):
        frames: list[av.VideoFrame] = []
        if isinstance(item, av.Packet):
            try:
                frames = [frame for frame in item.decode() if isinstance(frame, av.VideoFrame)]
            except (av.FFmpegError, ValueError) as error:
                damaged, reason = damaged + 1, _reason(error)
        else:
            damaged, reason = damaged + 1, item
        for frame in frames:
            if frame.is_corrupt:  # the decoder filled holes with a guess
                damaged += 1
            elif frame.time is not None and frame.time > last_s:  # a clock that runs backwards is a broken container
                last_s = frame.time
                yield frame
    if damaged:
        raise Unreadable(f"{damaged} damaged packets or frames ({reason})")


def _packets(container: av.container.InputContainer) -> Iterator[av.Packet | str]:
    """Packets of the video stream; a container that breaks off ends with the reason instead."""
    try:
        yield from container.demux(container.streams.video[0])
    except (av.FFmpegError, ValueError) as error:
        yield _reason(error)


def _upright(frame: av.VideoFrame) -> Image:
    """The frame in RGB, with the container's display matrix applied (the decoder has not)."""
    image = frame.to_ndarray(format="rgb24")
    matrices = [data for data in iter(frame.side_data) if isinstance(data, SideData) and data.type is SideDataType.DISPLAYMATRIX]
    if not matrices:
        return image
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrices[0]), np.int32, 5))
    return turned(image, a, b, c, d)


def turned(image: Image, a: int, b: int, c: int, d: int) -> Image:
    """The picture after sending its column p, row q to column a p + c q, row b p + d q: quarter turns and mirrors, to which
    anything else is rounded."""
    if abs(a) + abs(d) < abs(b) + abs(c):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _reason(error: Exception) -> str:
    """An error in a few words, without the machine's path in it."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
