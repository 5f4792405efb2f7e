"""HEIC files of several items, box by box (ISO/IEC 23008-12), with pictures that x265 encodes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np


@dataclass(frozen=True)
class Item:
    """A picture, or what makes one of others."""

    number: int
    kind: bytes  # hvc1, grid, iden
    data: bytes
    properties: tuple[bytes, ...]


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def _full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *parts)


def coded(number: int, pixels: np.ndarray, scratch: Path) -> Item:
    """A picture as HEVC."""
    height, width = pixels.shape[:2]
    with av.open(str(scratch), "w", format="mp4") as container:
        stream = container.add_stream("libx265", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"x265-params": "log-level=none:keyint=1:crf=5"}
        stream.codec_context.codec_tag = "hvc1"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    content = scratch.read_bytes()
    start = content.find(b"hvcC") - 4
    configuration = content[start : start + int.from_bytes(content[start : start + 4], "big")]
    with av.open(str(scratch)) as container:
        data = next(bytes(packet) for packet in container.demux(video=0) if packet.size)
    scratch.unlink()
    return Item(number, b"hvc1", data, (configuration, extents(width, height)))


def extents(width: int, height: int) -> bytes:
    return _full(b"ispe", struct.pack(">II", width, height))


def grid(number: int, columns: int, width: int, height: int) -> Item:
    """A row of tiles."""
    data = struct.pack(">BBBBHH", 0, 0, 0, columns - 1, width, height)
    return Item(number, b"grid", data, (extents(width, height),))


def written(
    path: Path,
    items: list[Item],
    primary: int,
    references: tuple[tuple[bytes, int, list[int]], ...] = (),
    padding: int = 0,
) -> Path:
    """
    Args:
        primary: the number of the item that a reader is to show.
        references: kind, from which item, to which.
        padding: bytes in front of the description.
    """
    properties = list(dict.fromkeys(one for item in items for one in item.properties))
    associations = b"".join(
        struct.pack(">HB", item.number, len(item.properties))
        + bytes(1 + properties.index(one) for one in item.properties)
        for item in items
    )
    kinds = [
        _full(b"infe", struct.pack(">HH4s", item.number, 0, item.kind), b"\0", version=2)
        for item in items
    ]
    related = [
        box(kind, struct.pack(f">HH{len(to)}H", of, len(to), *to)) for kind, of, to in references
    ]
    front = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    front += box(b"free", bytes(padding)) if padding else b""

    def described(begin: int) -> bytes:
        places = []
        for item in items:
            places.append(struct.pack(">HHHII", item.number, 0, 1, begin, len(item.data)))
            begin += len(item.data)
        count = struct.pack(">H", len(items))
        return _full(
            b"meta",
            _full(b"hdlr", struct.pack(">I4s", 0, b"pict"), bytes(13)),
            _full(b"pitm", struct.pack(">H", primary)),
            _full(b"iloc", bytes([0x44, 0]), count, *places),
            _full(b"iinf", count, *kinds),
            *([_full(b"iref", *related)] if related else []),
            box(
                b"iprp",
                box(b"ipco", *properties),
                _full(b"ipma", struct.pack(">I", len(items)), associations),
            ),
        )

    begin = len(front) + len(described(0)) + 8
    path.write_bytes(front + described(begin) + box(b"mdat", *(item.data for item in items)))
    return path
