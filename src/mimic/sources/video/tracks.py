"""The moving pictures of a container: which of its tracks they are.

It is the track that a player would show. Attached pictures (covers) and thumbnails never are;
of several tracks the default one is taken, and of several of these the largest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.container
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from mimic.sources.base import Unreadable
from mimic.sources.video import side_data
from mimic.sources.video.boxes import why_unread

NO_TRACKS = Disposition.attached_pic | Disposition.timed_thumbnails
RATE = Fraction(25)  # frames a second, where neither times nor a rate are written; FFmpeg's default
NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS: a bare stream of its codec
PACKED = {1: "side by side", 2: "one above the other"}  # AVStereo3DType
SPHERE = "a sphere (360 degrees), mined as a flat picture; project it first"
RATE_MAX = 1000  # a higher one is the tick of a clock
# What FFmpeg finds in text that names other files: nothing is read but the file itself.
LISTS = frozenset({"concat", "dash", "hls", "imf", "sdp"})


def opened(path: Path) -> av.container.InputContainer:
    """The file, opened for its moving pictures; other streams are not looked at.

    Raises:
        Unreadable: it does not open, or holds no moving pictures of its own.
    """
    try:
        container = av.open(str(path), mode="r", metadata_errors="ignore")
    except av.FFmpegError as error:
        raise Unreadable(_why_unread(path) or reason(error)) from None
    except (OSError, ValueError) as error:
        raise Unreadable(reason(error)) from None
    try:
        refuse_lists(container)
        decoder = moving(container).codec_context
    except Unreadable:
        container.close()
        raise
    # Shards run side by side, one a core: a decoder with threads of its own would only add memory.
    decoder.thread_count = 1
    return container


def _why_unread(path: Path) -> str | None:
    try:
        return why_unread(path)
    except OSError:
        return None


def refuse_lists(container: av.container.InputContainer) -> None:
    """Raises Unreadable for text that names other files, whatever its own name says."""
    if not LISTS.isdisjoint(container.format.name.split(",")):
        raise Unreadable("a list of other files; give the files themselves")


def moving(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that a player would show.

    Raises:
        Unreadable: there is none.
    """
    streams = container.streams.video
    if not streams:
        raise Unreadable("no video stream")
    tracks = [stream for stream in streams if not stream.disposition & NO_TRACKS]
    if not tracks:
        raise Unreadable("no video stream but an attached picture")
    known = [stream for stream in tracks if stream.codec_context is not None]
    if not known:
        raise Unreadable("a video codec that is not known here")
    return max(known, key=_prominence)


def _prominence(stream: av.VideoStream) -> tuple[bool, bool, bool, int]:
    is_moving = stream.frames != 1  # 0: not known
    is_whole = not stream.disposition & Disposition.dependent
    is_default = bool(stream.disposition & Disposition.default)
    pixels = stream.codec_context.width * stream.codec_context.height
    return is_moving, is_whole, is_default, pixels


def remarks(container: av.container.InputContainer, first: av.VideoFrame) -> Iterator[str]:
    """What was chosen for a file that does not say it (the track, the rate of its frames), and what
    its frames are not."""
    chosen = moving(container)
    others = [stream for stream in container.streams.video if stream is not chosen]
    pictures = [stream.index for stream in others if stream.disposition & NO_TRACKS]
    more = [stream.index for stream in others if not stream.disposition & NO_TRACKS]
    size = f"{chosen.codec_context.width} x {chosen.codec_context.height}"
    if pictures:
        numbers = ", ".join(map(str, pictures))
        yield f"track {chosen.index} ({size}) is mined, not the picture in track {numbers}"
    if more:
        numbers = ", ".join(map(str, more))
        yield f"track {chosen.index} ({size}) is mined, not track {numbers}"
    if first.time is None:
        a_second, origin = rate(chosen)
        yield f"its frames have no times: taken as {float(a_second):g} a second, {origin}"
    yield from _not_flat(first)


def _not_flat(frame: av.VideoFrame) -> Iterator[str]:
    """Says so of frames that a player would not show as they are: pairs are mined of the whole
    picture."""
    if frame.interlaced_frame:
        yield "its frames are interlaced (two moments a frame), mined as they are; deinterlace it"
    kinds = side_data.of(frame)
    if stereo := kinds.get(SideDataType.STEREO3D):
        packing = int.from_bytes(bytes(stereo)[:4], sys.byteorder)
        if packing in PACKED:
            yield (
                f"two views {PACKED[packing]} in each frame, mined as one picture; cut one out to "
                "mine it"
            )
    if SideDataType.SPHERICAL in kinds:
        yield SPHERE


def rate(stream: av.VideoStream) -> tuple[Fraction, str]:
    """Frames a second of a stream without times, and who says so."""
    stated: dict[str, Fraction | None] = {"as its codec says": stream.codec_context.framerate}
    if not stream.container.format.flags & NO_TIMESTAMPS:  # FFmpeg makes up a rate for those
        stated["as its container says"] = stream.average_rate
    for origin, a_second in stated.items():
        if a_second and 0 < a_second <= RATE_MAX:
            return Fraction(a_second), origin
    return RATE, "for want of any rate in it"


def reason(error: Exception) -> str:
    """An error in a few words, without the machine's path in it."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
