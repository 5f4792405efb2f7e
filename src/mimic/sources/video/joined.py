"""Recordings that were joined end to end, of which FFmpeg and every player read the first alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av.container

BOX_HEAD = 8  # bytes: length and kind
# The header, whose fifth byte says which kinds of tracks there are: its length, and that no tag
# lies before the first.
FLV = re.compile(rb"FLV\x01.\x00\x00\x00\x09\x00\x00\x00\x00", re.DOTALL)
FLV_BYTES = 13
CHUNK = 1 << 20


def messages(container: av.container.InputContainer, last_at: int) -> Iterator[str]:
    """Says so where another recording follows in the same file, of which nothing is read.

    Args:
        last_at: where in the file the last packet lay.
    """
    path = Path(container.name)
    form = container.format.name.split(",")
    at = None
    if "mov" in form:
        at = _second_mp4(path)
    elif "flv" in form:
        at = _flv_behind(path, last_at)
    if at is not None:
        yield (
            f"another recording is joined behind this one, at byte {at:,} of "
            f"{path.stat().st_size:,}: cut the file there to mine it"
        )


def _second_mp4(path: Path) -> int | None:
    """Where a second MP4 or MOV begins; None where all is read, as in fragments."""
    starts = []
    for kind, at in _boxes(path):
        if kind == b"moof":
            return None
        if kind == b"ftyp":
            starts.append(at)
    return starts[1] if len(starts) > 1 else None


def _boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """Kind and place of the boxes at the top of a file (ISO 14496-12, 4.2)."""
    size = path.stat().st_size
    at = 0
    with path.open("rb") as file:
        while at + BOX_HEAD <= size:
            file.seek(at)
            head = file.read(2 * BOX_HEAD)
            length = int.from_bytes(head[:4], "big")
            if length == 1:  # written in 64 bits behind the kind
                length = int.from_bytes(head[8:16], "big")
            if 0 < length < BOX_HEAD:
                return  # no box
            yield head[4:8], at
            at = at + length if length else size


def _flv_behind(path: Path, last_at: int) -> int | None:
    """Where another FLV begins behind a packet. FFmpeg takes its header for a tag of 4.9 MB: it
    finds the way back into a long recording of the same codecs, and into no other."""
    start = max(last_at, 1)
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(CHUNK)
        while len(data) >= FLV_BYTES:
            if (head := FLV.search(data)) is not None:
                return start + head.start()
            rest = data[1 - FLV_BYTES :]
            start += len(data) - len(rest)
            data = rest + file.read(CHUNK)
    return None
