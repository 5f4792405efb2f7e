"""Good frames of a video's moving pictures, with times that only go forwards, and what was lost."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.container

from mimic.sources.base import Unreadable
from mimic.sources.video import aspect, joined, tracks
from mimic.sources.video.transport import has_other_pictures

RESTART_S = 0.5  # a clock that goes back further has begun anew; by less, a frame is out of order
PACKETS_LOOKED_AT = 50  # for times: the first of a recording that was cut may have none
# the last frame may be shown for longer than is written
LACKING_S = 1.0
LACKING_SHARE = 0.05
# Formats whose header announces a duration; of others, FFmpeg reports what it finds at the end.
# Their packets are numbered as they are stored, whatever the times say; pictures are shown in the
# order in which the decoder gives them.
NUMBERED = frozenset({"avi", "mxf"})
REORDERED_MAX = 16  # pictures that a decoder of H.264 or H.265 holds back
ANNOUNCING = frozenset({"matroska", "mov", "avi", "asf", "flv"})


class Timed(NamedTuple):
    """A frame, and when it is shown: seconds of a clock that only goes forwards."""

    time_s: float
    frame: av.VideoFrame
    # Nothing was lost so far, and the clock is the container's: decoding may begin here.
    is_clean: bool
    pixel_aspect: Fraction  # see `aspect`


def decoded(
    container: av.container.InputContainer,
    from_s: float = -math.inf,
    first_s: float = math.inf,
) -> Iterator[Timed]:
    """Good frames, in order of presentation.

    Damaged packets and frames are passed over, and so are the frames predicted from them: all up
    to the next key frame. Nothing is counted before `from_s`, for where decoding starts in the
    middle, the first frames may lack others. Empty packets repeat the frame before, and give none.

    Args:
        first_s: time of the video's first frame, where it is known before.

    Raises:
        Unreadable: at the end, if anything was damaged, or the announced end never came.
    """
    stream = tracks.moving(container)
    losses = _Losses(from_s)
    first, packets = _looked_at(container, stream, losses)
    has_times = any(isinstance(item, str) or not _is_timeless(item) for item in first)
    clock = _Clock(None if has_times else tracks.rate(stream)[0], first_s)
    clock.sorts = not NUMBERED.isdisjoint(container.format.name.split(","))
    pixel_aspect = aspect.pixel_aspects(stream)
    last_at = 0
    for item in itertools.chain(first, packets):
        last_at = last_at if isinstance(item, str) else max(last_at, item.pos or 0)
        for frame in _frames(item, clock, losses):
            time_s = clock.tell(frame)
            if losses.is_good(frame, time_s) and time_s is not None:
                is_clean = clock.is_plain and losses.damaged == 0
                yield Timed(time_s, frame, is_clean, pixel_aspect())
    lacking = list(_lacking(container, stream, clock))
    if not lacking and from_s == -math.inf:
        lacking = list(_missing(container, stream, clock))
    words = [*losses.messages(), *lacking, *joined.messages(container, last_at)]
    if words:
        raise Unreadable("; ".join(words))


class _Clock:
    """When frames are shown: as they say, in one sequence where their times begin anew.

    Args:
        rate: frames a second, for frames that do not say their times.
        first_s: of the video's first frame; infinity: not known yet.
    """

    def __init__(self, rate: Fraction | None, first_s: float) -> None:
        self.has_times = rate is None
        self.sorts = False  # frames take the times of their packets from the earliest on
        self.first_s = first_s
        self.last_s = -math.inf
        self.end_s = -math.inf  # of the last frame
        self._rate = rate
        self._count = 0
        self._offset_s = 0.0
        self._before_s = 0.0  # the offset before the last restart
        self._waiting_s: list[float] = []  # times of packets whose pictures are still to come

    @property
    def is_plain(self) -> bool:
        """Whether the times are those of the container."""
        return self.has_times and self._offset_s == self._before_s == 0.0

    def tell(self, frame: av.VideoFrame) -> float | None:
        """Seconds; None for a frame that is out of order, or has no time among others that do."""
        if self._rate is not None:
            self._count += 1
            return float((self._count - 1) / self._rate)
        shown_s = heapq.heappop(self._waiting_s) if self._waiting_s else frame.time
        if shown_s is None:
            return None
        if abs(shown_s + self._before_s - self.end_s) <= RESTART_S:  # it was a slip
            self._offset_s = self._before_s
        time_s = shown_s + self._offset_s
        if time_s < self.last_s - RESTART_S:
            self._before_s = self._offset_s
            self._offset_s += self.end_s - time_s
            time_s = self.end_s
        if time_s <= self.last_s:
            return None
        self.first_s = min(self.first_s, time_s)
        self.last_s = time_s
        self.end_s = time_s + max(float((frame.duration or 0) * (frame.time_base or 0)), 0.001)
        return time_s

    def expect(self, packet: av.Packet) -> None:
        """A picture, for which the packet holds a time."""
        if not self.sorts or packet.pts is None or packet.time_base is None:
            return
        heapq.heappush(self._waiting_s, float(packet.pts * packet.time_base))
        if len(self._waiting_s) > REORDERED_MAX + 1:  # a picture never came
            heapq.heappop(self._waiting_s)

    def drop(self, packet: av.Packet) -> None:
        """It gives no picture."""
        if self.sorts and packet.pts is not None and packet.time_base is not None:
            with contextlib.suppress(ValueError):
                self._waiting_s.remove(float(packet.pts * packet.time_base))
                heapq.heapify(self._waiting_s)

    def pass_empty(self, packet: av.Packet) -> None:
        """The frame before is shown for the time of this packet, too."""
        if packet.pts is not None and packet.time_base is not None:
            end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self.end_s = max(self.end_s, end_s + self._offset_s)


@dataclass
class _Losses:
    """What was passed over for damage."""

    from_s: float
    damaged: int = 0
    left_out: int = 0
    reason: str = "damaged frames"
    has_late_track: bool = False
    waiting: bool = False  # for a key frame: what comes before it is predicted from what is damaged

    def add(self, time_s: float | None, reason: str | None = None) -> None:
        self.waiting = True
        if time_s is None or time_s >= self.from_s:
            self.damaged += 1
            self.reason = reason or self.reason

    def is_good(self, frame: av.VideoFrame, time_s: float | None) -> bool:
        if frame.is_corrupt:  # the decoder filled holes with a guess
            self.add(time_s)
            return False
        if frame.key_frame:
            self.waiting = False
        elif self.waiting:
            self.left_out += time_s is None or time_s >= self.from_s
            return False
        return True

    def messages(self) -> Iterator[str]:
        if self.damaged:
            more = f", {self.left_out} more predicted from them" if self.left_out else ""
            yield f"{self.damaged} damaged packets or frames{more} ({self.reason})"
        if self.has_late_track:
            yield "another track begins in its midst, which is not mined; cut the file there"


def _frames(item: av.Packet | str, clock: _Clock, losses: _Losses) -> list[av.VideoFrame]:
    """What a packet decodes to."""
    if isinstance(item, str):
        losses.add(None, item)
        return []
    if item.size == 0 and not _is_timeless(item):  # to the decoder, it would be the end
        clock.pass_empty(item)
        return []
    clock.expect(item)
    try:
        return [frame for frame in item.decode() if isinstance(frame, av.VideoFrame)]
    except (av.FFmpegError, ValueError) as error:
        clock.drop(item)
        losses.add(clock.last_s, tracks.reason(error))
        return []


def _is_timeless(packet: av.Packet) -> bool:
    return packet.pts is None and packet.dts is None


def _looked_at(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    losses: _Losses,
) -> tuple[list[av.Packet | str], Iterator[av.Packet | str]]:
    """The packets up to the first that has a time, and the rest."""
    packets = _packets(container, stream, losses)
    first = []
    for item in itertools.islice(packets, PACKETS_LOOKED_AT):
        first.append(item)
        if isinstance(item, str) or not _is_timeless(item):
            break
    return first, packets


def _packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    losses: _Losses,
) -> Iterator[av.Packet | str]:
    """Packets of the stream; a container that breaks off ends with the reason instead."""
    goes_on = True
    while goes_on:
        goes_on = False
        try:
            yield from container.demux(stream)
        except (av.FFmpegError, ValueError) as error:
            yield tracks.reason(error)
        except IndexError:  # of PyAV, now and then, at the end of a track that began later
            goes_on = True
    if "mpegts" in container.format.name.split(","):
        known = [other.id for other in container.streams]
        losses.has_late_track = has_other_pictures(Path(container.name), known)


def _lacking(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    clock: _Clock,
) -> Iterator[str]:
    """Says so where the pictures end well before the time that the file announces."""
    announced_s = _announced_s(container, stream)
    if announced_s is None or clock.last_s == -math.inf:
        return
    least_s = announced_s - max(LACKING_S, LACKING_SHARE * announced_s)
    end_s = max(clock.end_s, clock.end_s - clock.first_s)  # some announce a time, some a duration
    if end_s >= least_s:
        return
    is_of_all = stream.duration is None and len(container.streams) > 1
    if is_of_all and _end_of_all_s(Path(container.name)) >= least_s:
        return
    yield f"ends after {end_s:.1f} s of the {announced_s:.1f} s that the file announces"


def _missing(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    clock: _Clock,
) -> Iterator[str]:
    """Says so where pictures are missing in the middle of an AVI, which FFmpeg passes over: those
    behind them seem to be earlier, for their times are their numbers."""
    if "avi" not in container.format.name.split(",") or clock.last_s == -math.inf:
        return
    count = round((clock.end_s - clock.first_s) / float(stream.time_base or 1))
    if count < stream.frames * (1 - LACKING_SHARE):
        yield (
            f"{stream.frames - count} of the {stream.frames} frames that the file announces are "
            "missing, and what lies behind the hole seems to be earlier than it is"
        )


def _announced_s(
    container: av.container.InputContainer,
    stream: av.VideoStream,
) -> float | None:
    """The duration that the file's header announces, the shorter one where there are two."""
    if ANNOUNCING.isdisjoint(container.format.name.split(",")):
        return None
    durations_s = []
    if stream.duration and stream.time_base:
        durations_s.append(float(stream.duration * stream.time_base))
    if container.duration:
        durations_s.append(container.duration / av.time_base)
    return min(durations_s, default=None)


def _end_of_all_s(path: Path) -> float:
    """When the last packet of any stream ends."""
    end_s = -math.inf
    with tracks.opened(path) as container:
        try:
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    packet_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    end_s = max(end_s, packet_s)
        except (av.FFmpegError, ValueError):
            return end_s  # what was lost is told by whoever decodes
    return end_s
