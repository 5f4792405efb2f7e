"""Video files: frames at 0, s, 2s, ... seconds, each paired with the next; with the one after where they overlap too much.

Layout: any tree below the root; every file with a video extension is a clip, named by its path below the root.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import av.container
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType

from mimic import config
from mimic.errors import BadInput
from mimic.sources import hdr, streams, tracks
from mimic.sources.base import (
    Description,
    Group,
    Image,
    NoCandidates,
    Pose,
    Unreadable,
    View,
    content_digest,
    files_below,
    require_folder,
)
from mimic.sources.streams import Timed

EXTENSIONS = frozenset(
    {
        *(".mp4", ".mov", ".qt", ".m4v", ".3gp", ".3g2", ".f4v", ".avi", ".divx"),
        *(".mkv", ".mk3d", ".webm", ".ogv", ".ogm", ".wmv", ".asf", ".flv", ".rm", ".rmvb"),
        *(".mpg", ".mpeg", ".mpe", ".vob", ".tod", ".ts", ".m2t", ".mts", ".m2ts"),
        *(".mxf", ".gxf", ".dv", ".nut", ".wtv"),  # of editing and broadcasting
        # Bare streams, as recorders and encoders write them.
        *(".h264", ".264", ".avc", ".h265", ".hevc", ".obu", ".ivf"),
        *(".m1v", ".m2v", ".mjpeg", ".mjpg", ".y4m"),
    }
)
SOUGHT_FROM_S = 10.0  # nearer to the start, decoding costs less than finding a key frame
TOLERANCE_S = 0.001  # container clocks are rounded: a frame this much before t is the frame of t


class VideoSource:
    """Videos below a folder; see `config.Videos` for the numbers."""

    def __init__(self, name: str, section: config.Videos, root: Path) -> None:
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}
        self._reach = steps_to_retry(name, section.spacing_s, section.retry_spacing_s)

    def clips(self) -> list[str]:
        found = files_below(require_folder(self.name, self.root), EXTENSIONS, self.skipped, "a video")
        if not found:
            raise BadInput(f"sources.{self.name}.root: no video in {self.root} (looked for {' '.join(sorted(EXTENSIONS))})")
        return found

    def describe(self, clip: str) -> Description:
        return describe(self.root / clip, 0.0)

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:  # noqa: ARG002  (videos draw nothing)
        """One group for each sampled frame but the last: with the next frame, else with the one at the retry distance.

        Raises:
            Unreadable: the file does not open, or its last frames could not be decoded; what was yielded before stands.
            NoCandidates: it is too short for two frames.
        """
        section = self._section
        sampled = sample(self.root / clip, section.spacing_s)
        yield from spaced(sampled, section.spacing_s, self._reach, section.crop_bottom)


def steps_to_retry(name: str, spacing_s: float, retry_spacing_s: float | None) -> int:
    """How many sampled frames ahead the retry frame is; 1 = no retry."""
    if retry_spacing_s is None:
        return 1
    steps = round(retry_spacing_s / spacing_s)
    if steps < 2 or abs(steps * spacing_s - retry_spacing_s) > TOLERANCE_S:
        raise BadInput(
            f"sources.{name}.retry_spacing_s: {retry_spacing_s} is no multiple (2 or more) of spacing_s {spacing_s};"
            " use one, or null for no retry"
        )
    return steps


def describe(path: Path, seconds_min: float) -> Description:
    """What a video file says of itself, once its first frame has been decoded.

    The note says what was chosen for a file that does not say it (the track, the rate of its frames), and what is
    done to its colours.
    """
    frames, error, note = None, None, None
    try:
        refuse_short(path, seconds_min)
        with tracks.opened(path) as container:
            # What the container says, which is no promise.
            frames = tracks.moving(container).frames or None
            first = next(streams.decoded(container)).frame
            remarks = [*tracks.remarks(container, first), *hdr.remarks(first)]
            note = "; ".join(remarks) or None
    except Unreadable as unreadable:
        error = str(unreadable)
    except StopIteration:
        error = "no frame decodes"
    digest = content_digest(path)
    return Description(bytes=path.stat().st_size, frames=frames, digest=digest, error=error, note=note)


def refuse_short(path: Path, seconds_min: float) -> None:
    """Unreadable when the container announces less than `seconds_min`; one that announces nothing passes."""
    if seconds_min <= 0:
        return
    with tracks.opened(path) as container:
        stream = tracks.moving(container)
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / av.time_base
        else:
            return
    if seconds < seconds_min:
        raise Unreadable(f"{seconds:.1f} s are less than seconds_min {seconds_min:g}")


def spaced(
    sampled: Iterable[tuple[float, Image]],
    spacing_s: float,
    reach: int,
    crop_bottom: float,
    pose_at: Callable[[float], Pose | None] | None = None,
) -> Iterator[Group]:
    """One group for each sampled frame but the last: with the next one, else with the one `reach` frames ahead.

    Args:
        spacing_s: of the frames, for the reason why there is no group.
        crop_bottom: share of the height cut off below, truncated to whole rows (published script).
        pose_at: camera to world at a time of the video, where it is known.

    Raises:
        NoCandidates: there is one frame alone.
    """
    count = 0
    window: deque[View] = deque()
    for time_s, frame in sampled:
        count += 1
        image = frame[: max(1, len(frame) - int(crop_bottom * len(frame)))]
        pose = None if pose_at is None else pose_at(time_s)
        window.append(View(key=f"{time_s:.3f}", read=functools.partial(_same, image), pose=pose))
        if len(window) > reach:
            yield _first_of(window, reach)
            window.popleft()
    if count == 1:
        raise NoCandidates(f"1 frame at a spacing of {spacing_s:g} s: nothing to pair; lower spacing_s if it has more")
    while len(window) > 1:
        yield _first_of(window, reach)
        window.popleft()


def _first_of(window: deque[View], reach: int) -> Group:
    retry = reach > 1 and len(window) > reach
    return Group(
        views=tuple(window),
        pairs=((0, 1),),
        retry=((0, reach),) if retry else (),
        skip_after_retry=reach - 1 if retry else 0,
    )


def sample(
    path: Path, spacing_s: float, start_s: float = 0.0, end_s: float = math.inf, quarter_turns: int | None = None
) -> Iterator[tuple[float, Image]]:
    """Times since the first frame and upright RGB frames at start, start + s, ... seconds up to the end, in one pass from
    the key frame before the start.

    The frame of time t is the first one at or after t. In between, frames are decoded but not converted. A frame serves
    once: where the clock jumps over several times (dropped frames), one frame is all there is.

    Args:
        quarter_turns: counter-clockwise, instead of the container's display matrix; None = as the container says.

    Raises:
        Unreadable: the file does not open, no frame decodes, it ends before start_s, or the end is damaged (after the
            frames before it).
    """
    with tracks.opened(path) as container:
        frames = streams.decoded(container)
        first = next(frames, None)
        if first is None:
            raise Unreadable("no frame decodes")
        first_s, turn, last = first.time_s, _turn(first.frame, quarter_turns), -1
        # Only times that are written can be sought.
        sought = start_s > SOUGHT_FROM_S and first.frame.time is not None
        taken = itertools.chain([first], frames)
        for clock_s, frame in _from(path, container, first_s + start_s) if sought else taken:
            time_s = clock_s - first_s
            if time_s > end_s + TOLERANCE_S:
                break
            slot = math.floor((time_s - start_s + TOLERANCE_S) / spacing_s)
            if slot > last:
                last = slot
                yield time_s, turn(hdr.rgb(frame))
    if last < 0:
        raise Unreadable(f"the video ends before {start_s:g} s")


def _from(path: Path, container: av.container.InputContainer, time_s: float) -> Iterator[Timed]:
    """Frames from some time before time_s (of the container's clock): from the key frame there, or else from the start.

    A clip far into a long video costs no more than one at its start. Containers that cannot be sought, or that land too late,
    are decoded from the start.
    """
    stream = tracks.moving(container)
    try:
        container.seek(math.floor((time_s - TOLERANCE_S) / (stream.time_base or 1)), stream=stream)
        frames = streams.decoded(container, from_s=time_s - TOLERANCE_S)
        first = next(frames, None)
    except (av.FFmpegError, ValueError, Unreadable):
        first = None
    if first is not None and first.frame.key_frame and first.time_s <= time_s:
        yield first
        yield from frames
        return
    with tracks.opened(path) as again:
        yield from streams.decoded(again)


def _same(image: Image) -> Image:
    return image


def _as_stored(image: Image) -> Image:
    return image


def _turn(first: av.VideoFrame, quarter_turns: int | None) -> Callable[[Image], Image]:
    """What makes frames upright: the turns asked for, or else the container's display matrix (which the decoder has not applied).

    The matrix is asked of the first frame alone: a frame that was asked holds itself, and its pixels, in memory until Python looks
    for cycles, which with large frames is gigabytes later.
    """
    if quarter_turns is not None:
        return lambda image: np.ascontiguousarray(np.rot90(image, quarter_turns))
    matrices = [data for data in iter(first.side_data) if isinstance(data, SideData) and data.type is SideDataType.DISPLAYMATRIX]
    if not matrices:
        return _as_stored
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrices[0]), np.int32, 5))
    return lambda image: turned(image, a, b, c, d)


def turned(image: Image, a: int, b: int, c: int, d: int) -> Image:
    """The picture after sending its column p, row q to column a p + c q, row b p + d q: quarter turns and mirrors, to which
    anything else is rounded."""
    if abs(a) + abs(d) < abs(b) + abs(c):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
