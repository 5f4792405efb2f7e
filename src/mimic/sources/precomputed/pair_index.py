"""A CSV of pairs read by clip without holding it: what is kept are runs of lines of one clip, and
where each begins in the file.

Columns path1, path2 and perhaps correspondence, in any order among others. Rows of a clip usually
follow one another, so memory grows with the clips, not the rows; at worst (shuffled rows) it is 24
bytes a row.
"""

from __future__ import annotations

import csv
import functools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mimic.errors import BadInput

Row = tuple[str, str, str]  # first image, second image, map ("" = none is named), below the root
LINE_BYTES = 1 << 16  # a longer line is no row of paths


@dataclass(frozen=True, eq=False)
class PairIndex:
    """Where the rows of each clip are."""

    path: Path
    columns: tuple[int, int, int | None]
    width: int  # columns of a row
    runs: dict[str, array[int]]  # clip -> offset, lines, offset, lines, ...

    def rows(self, clip: str) -> Iterator[Row]:
        """The clip's rows, in the order of the file; none for a clip that is not in it."""
        places = self.runs.get(clip, array("q"))
        with self.path.open("rb") as file:
            for number in range(0, len(places), 2):
                file.seek(places[number])
                for _ in range(places[number + 1]):
                    row = _row(self, _line(file, self.path))
                    if row is not None:
                        yield row


@functools.lru_cache(maxsize=1)  # a worker process opens the source anew for every shard
def read(path: Path, stamped: tuple[int, int]) -> PairIndex:  # noqa: ARG001
    """The index of a file, in one pass; `stamped` only tells versions of the file apart.

    Raises:
        BadInput: not a readable CSV, or a column is missing.
    """
    runs: dict[str, array[int]] = {}
    with path.open("rb") as file:
        index = PairIndex(path, *_header(path, _line(file, path)), runs)
        last: str | None = None
        while True:
            at = file.tell()
            line = _line(file, path)
            if not line:
                return index
            row = _row(index, line)
            if row is None:
                last = None  # an empty line: lines of a run follow one another
                continue
            clip = clip_of(row[0])
            if clip == last:
                runs[clip][-1] += 1
            else:
                runs.setdefault(clip, array("q")).extend((at, 1))
            last = clip


def clip_of(first: str) -> str:
    """The video or scene of a pair: the folder of the image, or, where that is a pair number, the
    one above."""
    folder = PurePosixPath(first).parent
    return (folder.parent if folder.name.isdecimal() and folder.parent.name else folder).as_posix()


def _header(path: Path, line: bytes) -> tuple[tuple[int, int, int | None], int]:
    names = _cells(path, line.removeprefix(b"\xef\xbb\xbf"))
    if len(set(names)) < len(names):
        raise BadInput(f"{path}: not a readable CSV (a column twice: {', '.join(names)[:200]})")
    if not {"path1", "path2"} <= set(names):
        raise BadInput(f"{path}: columns are {', '.join(names)[:200]}; path1 and path2 are needed")
    third = names.index("correspondence") if "correspondence" in names else None
    return (names.index("path1"), names.index("path2"), third), len(names)


def _line(file: BinaryIO, path: Path) -> bytes:
    line = file.readline(LINE_BYTES)
    if len(line) == LINE_BYTES:
        raise BadInput(
            f"{path}: not a readable CSV (a line of {LINE_BYTES} bytes or more at byte "
            f"{file.tell() - LINE_BYTES})"
        )
    return line


def _row(index: PairIndex, line: bytes) -> Row | None:
    cells = _cells(index.path, line)
    if not cells:
        return None
    if len(cells) != index.width:
        raise BadInput(
            f"{index.path}: not a readable CSV (a row of {len(cells)} columns, not {index.width}: "
            f"{line[:80]!r})"
        )
    first, second, third = index.columns
    return cells[first], cells[second], "" if third is None else cells[third]


def _cells(path: Path, line: bytes) -> list[str]:
    """Split a line of a CSV into its cells; an empty line has none."""
    try:
        text = line.decode().rstrip("\r\n")
        if '"' in text:
            return next(csv.reader([text], strict=True), [])
        return text.split(",") if text else []
    except (
        UnicodeDecodeError,
        csv.Error,
    ) as error:  # bytes of something else, or a field that goes over several lines
        raise BadInput(f"{path}: not a readable CSV ({error})") from None
