"""The boxes at the top of an MP4 or MOV (ISO 14496-12, 4.2): `moov` is the index of a recording,
`moof` that of a fragment, `mdat` holds the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEAD = 8  # bytes: length and kind


class Box(NamedTuple):
    """Its kind, where it begins, and where it says that it ends, in bytes."""

    kind: bytes
    start: int
    end: int


def boxes(path: Path) -> Iterator[Box]:
    """In the order of the file, up to what is no box."""
    size = path.stat().st_size
    at = 0
    with path.open("rb") as file:
        while at + HEAD <= size:
            file.seek(at)
            head = file.read(2 * HEAD)
            length = int.from_bytes(head[:4], "big")
            if length == 1:  # written in 64 bits behind the kind
                length = int.from_bytes(head[8:16], "big")
            if 0 < length < HEAD:
                return  # no box
            end = at + length if length else size
            yield Box(head[4:8], at, end)
            at = end


def why_unread(path: Path) -> str | None:
    """What of its boxes keeps a file from being read at all; None where it is no MP4 or MOV, or has
    its index."""
    size = path.stat().st_size
    known = list(boxes(path))
    if not known or known[0].kind != b"ftyp":
        return None
    last = known[-1]
    if last.kind == b"moof" and last.end > size:
        return (
            f"cut off in the index of a fragment; `truncate --size={last.start}` on a copy keeps "
            "what lies before it"
        )
    if not any(box.kind == b"moov" and box.end <= size for box in known):
        return (
            "the index (moov) of this MP4 or MOV is missing or cut off, as when a recording or a "
            "download breaks off; fetch it again, or restore the index"
        )
    return None


def is_cut_off(path: Path) -> bool:
    """Whether a recording of fragments ends within the index of one: what it would have held is
    announced nowhere."""
    known = list(boxes(path))
    rest = path.stat().st_size - known[-1].end if known else 0
    is_fragmented = any(box.kind == b"moof" for box in known)
    return is_fragmented and (0 < rest < HEAD or (rest < 0 and known[-1].kind == b"moof"))
