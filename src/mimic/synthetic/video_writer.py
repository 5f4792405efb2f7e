"""Writing what a phone records: video stored sideways, with a display matrix that turns it
upright."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from mimic.errors import BadInput

CODECS = ("libx264", "libopenh264", "mpeg4")  # best first; what a build of FFmpeg holds differs
# x264's macroblock tree reads memory that it never wrote: the same frames give other bytes, and
# other pixels, now and then.
REPEATABLE_X264 = {"crf": "20", "preset": "veryfast", "x264-params": "no-mbtree=1"}
UPRIGHT_DEG = (
    -90
)  # counter-clockwise, as FFmpeg counts: a player turns the stored picture right by 90 degrees


def write_sideways(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    size_px: tuple[int, int],
    fps: int,
) -> None:
    """Encode upright RGB frames of size_px (width, height; even numbers) as a phone held upright
    stores them.

    The suffix of `path` chooses the container (.mp4, .mov).
    """
    width, height = size_px
    if width % 2 or height % 2:
        raise BadInput(
            f"synthesize.phone: {width} x {height} px cannot be encoded; width_px and height_px "
            "must be even"
        )
    codec = next((name for name in CODECS if name in av.codecs_available), None)
    if codec is None:
        raise BadInput(
            f"this build of FFmpeg encodes none of {', '.join(CODECS)}; install PyAV's wheel: pip "
            "install av"
        )
    options = REPEATABLE_X264 if codec == "libx264" else {"b": "2500k"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width = height
        stream.height = width
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        stream.codec_context.gop_size = 2 * fps
        stream.set_display_rotation(UPRIGHT_DEG)
        for frame in frames:
            sideways = np.ascontiguousarray(np.rot90(frame))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(sideways, format="rgb24")))
        container.mux(stream.encode(None))
