"""Packets of an MPEG transport stream (ISO/IEC 13818-1): which of its tracks hold pictures."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

SYNC = 0x47
SIZES = (188, 192, 204)  # bytes of a packet: plain, behind a time (M2TS), with check bytes
BYTES = 188  # of them that are the stream's
RUN = 8  # packets that begin with SYNC, one behind another
LOOKED_INTO = 1 << 20  # bytes at the start, in which packets begin
PACKETS = 1 << 18  # read at once, 50 MB


def has_other_pictures(path: Path, known: Collection[int]) -> bool:
    """Whether a track of pictures other than these begins anywhere in the file. A channel may
    change its tracks between two programmes, and what FFmpeg finds out later PyAV does not show.

    Args:
        known: numbers (PID) of the tracks that were there when the file was opened.
    """
    data = np.memmap(path, np.uint8, "r")
    grid = _grid(data[:LOOKED_INTO])
    if grid is None:
        return False
    start, size = grid
    count = (len(data) - start) // size
    for first in range(0, count, PACKETS):
        last = min(count, first + PACKETS)
        packets = data[start + first * size : start + last * size].reshape(-1, size)[:, :BYTES]
        if not set(_with_pictures(packets)) <= set(known):
            return True
    return False


def _grid(head: UInt8[np.ndarray, " bytes"]) -> tuple[int, int] | None:
    """Where packets begin, and their size."""
    for start in np.flatnonzero(head == SYNC).tolist():
        for size in SIZES:
            run = head[start : start + RUN * size : size]
            if len(run) == RUN and (run == SYNC).all():
                return start, size
    return None


def _with_pictures(packets: UInt8[np.ndarray, "n 188"]) -> list[int]:
    """PIDs of packets in which a part of a stream of pictures begins (2.4.3.6, table 2-22)."""
    begins = (packets[:, 0] == SYNC) & (packets[:, 1] & 0x40 > 0) & (packets[:, 3] & 0x10 > 0)
    packets = packets[begins]
    behind = np.where(packets[:, 3] & 0x20, 5 + packets[:, 4].astype(int), 4)  # an adaptation field
    packets = packets[behind + 4 <= BYTES]
    behind = behind[behind + 4 <= BYTES]
    codes = packets[np.arange(len(packets))[:, None], behind[:, None] + np.arange(4)]
    is_picture = (codes[:, :3] == (0, 0, 1)).all(axis=1) & (codes[:, 3] >> 4 == 0xE)
    packets = packets[is_picture]
    return np.unique((packets[:, 1] & 0x1F).astype(int) << 8 | packets[:, 2]).tolist()
