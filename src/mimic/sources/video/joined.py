"""Recordings that were joined end to end, of which FFmpeg and every player read the first alone,
and those that were cut off between two fragments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av.container

from mimic.sources.video.boxes import boxes, is_cut_off

# The header, whose fifth byte says which kinds of tracks there are: its length, and that no tag
# lies before the first.
FLV = re.compile(rb"FLV\x01.\x00\x00\x00\x09\x00\x00\x00\x00", re.DOTALL)
FLV_BYTES = 13
CHUNK = 1 << 20


def messages(container: av.container.InputContainer, last_at: int) -> Iterator[str]:
    """Says so where another recording follows in the same file, of which nothing is read, or the
    file ends within a fragment that FFmpeg passes over.

    Args:
        last_at: where in the file the last packet lay.
    """
    path = Path(container.name)
    form = container.format.name.split(",")
    at = None
    if "mov" in form:
        at = _second_mp4(path)
        if is_cut_off(path):
            yield "cut off in the index of its last fragment"
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
    for box in boxes(path):
        if box.kind == b"moof":
            return None
        if box.kind == b"ftyp":
            starts.append(box.start)
    return starts[1] if len(starts) > 1 else None


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
