"""Tars of which equal files in equal order make equal bytes, and in which the place of every file
is known."""

from __future__ import annotations

import io
import tarfile
from typing import BinaryIO


class Tar:
    """A tar that is being written; equal files in equal order give equal bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, name: str, data: bytes) -> int:
        """Append a file; the offset of its data in the tar."""
        info = tarfile.TarInfo(
            name
        )  # mtime, uid, gid and names are 0 and empty: nothing of this machine gets in
        info.size = len(data)
        info.mode = 0o644
        offset = self._tar.offset + len(
            info.tobuf(
                self._tar.format, self._tar.encoding or "utf-8", self._tar.errors or "strict"
            )
        )
        self._tar.addfile(info, io.BytesIO(data))
        self._tar.getmembers().clear()  # nobody asks for the list, and it would grow with the shard
        return offset

    def close(self) -> None:
        """Write the end mark; the file below stays open."""
        self._tar.close()
