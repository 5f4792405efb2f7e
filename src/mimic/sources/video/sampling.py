"""Frames of a video at equal spacing, upright and in square pixels; from its start, from some time
on, or from a place where sampling ended before."""

from __future__ import annotations

import contextlib
import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import av.container
import numpy as np

from mimic.sources.base import Image, Position, Unreadable
from mimic.sources.video import aspect, hdr, side_data, streams, tracks
from mimic.sources.video.streams import Timed

SOUGHT_FROM_S = 10.0  # nearer to the start, decoding costs less than finding a key frame
TOLERANCE_S = 0.001  # container clocks are rounded: a frame this much before t is the frame of t


class Sampled(NamedTuple):
    """A frame of a video.

    time_s: since the first frame of the video.
    is_clean: decoding may begin here: nothing before was lost.
    share: of the part to be sampled that lies before, 0 to 1; None: it is not known how long that
    is.
    """

    time_s: float
    image: Image
    is_clean: bool = False
    share: float | None = None

    def locate(self) -> Position:
        """From where `sampled` goes on, this frame included."""
        return {"time_s": self.time_s, "digest": digest(self.image), "whole": self.is_clean}


def slot(time_s: float, spacing_s: float) -> int:
    """To which of 0, s, 2s, ... seconds a frame belongs: the frame of a time is the first one at or
    after it."""
    return math.floor((time_s + TOLERANCE_S) / spacing_s)


def digest(image: Image) -> int:
    """Tells whether decoding from a key frame gave the picture that decoding from the start did."""
    return zlib.crc32(np.ascontiguousarray(image).data)


def sampled(
    path: Path,
    spacing_s: float,
    start_s: float = 0.0,
    end_s: float = math.inf,
    quarter_turns: int | None = None,
    resume_at: Position | None = None,
) -> Iterator[Sampled]:
    """Upright RGB frames at start, start + s, ... seconds up to the end, in one pass from the key
    frame before the start.

    The frame of time t is the first one at or after t. In between, frames are decoded but not
    converted. A frame serves
    once: where the clock jumps over several times (dropped frames), one frame is all there is.

    Args:
        quarter_turns: counter-clockwise, instead of the container's display matrix; None = as the
            container says.
        resume_at: of the first frame that is given, see `Sampled.locate`; the frames are those that
            follow without it. The key frame before is sought, and the picture compared; where it is
            another, all is decoded from the start.

    Raises:
        Unreadable: the file does not open, no frame decodes, it ends before start_s, or the end is
            damaged (after the frames before it).
    """
    span_s = (start_s, end_s)
    if resume_at is None:
        yield from _sampled(path, spacing_s, span_s, quarter_turns, -math.inf, start_s)
        return
    time_s = resume_at["time_s"]
    if resume_at["whole"]:
        frames = _sampled(path, spacing_s, span_s, quarter_turns, time_s, time_s)
        first = None
        with contextlib.suppress(Unreadable):  # decoding from the start will say so, or do without
            first = next(frames, None)
        if first is not None and first.locate() == resume_at:
            yield first
            yield from frames
            return
    yield from _sampled(path, spacing_s, span_s, quarter_turns, time_s, start_s)


def _sampled(
    path: Path,
    spacing_s: float,
    span_s: tuple[float, float],
    quarter_turns: int | None,
    wanted_s: float,
    begin_s: float,
) -> Iterator[Sampled]:
    """As `sampled`, from the frame of `wanted_s` on, decoded from the key frame before
    `begin_s`."""
    start_s, end_s = span_s
    with tracks.opened(path) as container:
        frames = streams.decoded(container)
        first = next(frames, None)
        if first is None:
            raise Unreadable("no frame decodes")
        first_s = first.time_s
        turn = _turn(first.frame, quarter_turns)
        last = -1
        part_s = min(end_s, announced_s(container) or math.inf) - start_s
        # Only times that are written can be sought.
        if begin_s > SOUGHT_FROM_S and first.frame.time is not None:
            taken = _from(path, container, first_s + begin_s, first_s)
        else:
            taken = itertools.chain([first], frames)
        for clock_s, frame, is_complete, pixel_aspect in taken:
            time_s = clock_s - first_s
            if time_s > end_s + TOLERANCE_S:
                break
            number = slot(time_s - start_s, spacing_s)
            if number <= last:
                continue
            last = number
            if time_s >= wanted_s:
                share = (time_s - start_s) / part_s if 0 < part_s < math.inf else None
                image = turn(aspect.squared(hdr.rgb(frame), pixel_aspect))
                yield Sampled(time_s, image, is_complete, share)
    if last < 0:
        raise Unreadable(f"the video ends before {start_s:g} s")


def announced_s(container: av.container.InputContainer) -> float | None:
    """The duration that a container announces for its pictures; None where it announces nothing."""
    stream = tracks.moving(container)
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _from(
    path: Path,
    container: av.container.InputContainer,
    time_s: float,
    first_s: float,
) -> Iterator[Timed]:
    """Frames from some time before time_s (of the container's clock): from the key frame there, or
    else from the start.

    A clip far into a long video costs no more than one at its start. Containers that cannot be
    sought, or that land too late, are decoded from the start.

    Args:
        first_s: of the video's first frame, on the container's clock.
    """
    stream = tracks.moving(container)
    try:
        container.seek(math.floor((time_s - TOLERANCE_S) / (stream.time_base or 1)), stream=stream)
        frames = streams.decoded(container, time_s - TOLERANCE_S, first_s)
        first = next(frames, None)
    except (av.FFmpegError, ValueError, Unreadable):
        first = None
    if first is not None and first.frame.key_frame and first.time_s <= time_s:
        yield first
        yield from frames
        return
    with tracks.opened(path) as again:
        yield from streams.decoded(again)


def _turn(first: av.VideoFrame, quarter_turns: int | None) -> Callable[[Image], Image]:
    """What makes frames upright: the turns asked for, or else what the first frame says."""
    if quarter_turns is not None:
        return lambda image: np.ascontiguousarray(np.rot90(image, quarter_turns))
    return side_data.upright(first)
