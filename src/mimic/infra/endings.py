"""How a picture file ends: whether all of it is there."""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"
CRC_BYTES = 4  # behind a chunk of a PNG
DENSE = ("WEBP", "AVIF", "JPEG2000", "QOI")  # without long runs of zeros, and without an end mark
ZEROS = 512  # bytes
JPEGS = ("JPEG", "MPO")
SCAN = b"\xff\xda"  # the marker behind which a JPEG's pixels begin
END = b"\xff\xd9"  # its last marker; among pixels 0xff is followed by a zero


def lacking(source: Path | io.BytesIO, form: str | None) -> str | None:
    """What a picture lacks whose tail is zeros, as of a copy that was cut off by a power loss, or
    None: decoders take what is missing for black, or make something up.

    Args:
        form: Pillow's name of its format.
    """
    if form == "PNG" and "IEND" not in png_chunks(source):
        return "damaged: ends before its last chunk (IEND)"
    if form in (*DENSE, *JPEGS) and _ends_in_zeros(source):
        if form in DENSE:
            return f"damaged: its last {ZEROS} bytes are zeros"
        if not _jpeg_ends(source):  # some cameras fill a file up behind its end
            return "damaged: zeros where its end mark (EOI) should be"
    return None


def _ends_in_zeros(source: Path | io.BytesIO) -> bool:
    with ExitStack() as stack:
        raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        size = raw.seek(0, io.SEEK_END)
        raw.seek(max(0, size - ZEROS))
        return size > 2 * ZEROS and not any(raw.read())


def _jpeg_ends(source: Path | io.BytesIO) -> bool:
    """Whether an end mark lies behind the begin of the pixels; before it a thumbnail may have
    one."""
    data = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    at = 2  # behind the mark of its start
    while data[at : at + 1] == SCAN[:1] and data[at : at + 2] != SCAN:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return END in data[at:]


def png_chunks(source: Path | io.BytesIO, until: str = "IEND") -> list[str]:
    """Names of a PNG's chunks in their order, up to one of a name or to where none follows."""
    names: list[str] = []
    with ExitStack() as stack:
        raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        raw.seek(len(PNG))
        while until not in names:
            head = raw.read(8)
            if len(head) < 8 or not head[4:].isalpha():
                break
            names.append(head[4:].decode())
            raw.seek(int.from_bytes(head[:4], "big") + CRC_BYTES, io.SEEK_CUR)
    return names
