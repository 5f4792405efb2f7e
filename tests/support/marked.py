"""Secrets that cannot be mistaken, and where they are looked for: in files of any kind, in tables,
and in the command lines of all processes."""

from __future__ import annotations

import base64
import gzip
import re
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

STEM = "7hisMustNotBeShown"
MARK = STEM.encode()
# As Basic authentication sends it, behind user names of any length.
SENT = [base64.b64encode(b" " * shift + MARK)[4:-4] for shift in range(3)]
EVERY_S = 0.1  # between two looks at command lines


def secret(what: str) -> str:
    """One for each use, so that what is found says where it came from."""
    return f"{STEM}{what}"


def found_in(content: bytes) -> list[str]:
    """Around each mark, for the message of a test."""
    shown = []
    for form in (MARK, *SENT):
        at = content.find(form)
        if at >= 0:
            shown.append(content[max(0, at - 80) : at + 60].decode(errors="replace"))
    return shown


def search(*folders: Path) -> dict[str, str]:
    """Files that hold a mark, and the text around it; links are not followed."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                for content in _contents(path):
                    for text in found_in(content):
                        found[str(path)] = text
    return found


def secrets_in(folder: Path) -> set[str]:
    """Whole, of all files."""
    whole = re.compile(rb"%s\w*" % MARK)
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    contents = (content for path in paths for content in _contents(path))
    return {secret.decode() for content in contents for secret in whole.findall(content)}


def _contents(path: Path) -> Iterator[bytes]:
    """Of a file as it lies there, and of what is packed in it."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:  # a server has tidied up
        return
    yield raw
    if path.suffix == ".parquet":
        sink = pa.BufferOutputStream()
        table = pq.read_table(pa.BufferReader(raw))
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        yield sink.getvalue().to_pybytes()
    elif raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    elif raw[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif "objects" in path.parts and raw[:1] == b"\x78":  # of git
        with suppress(zlib.error):
            yield zlib.decompress(raw)


class CommandLines:
    """Those that held a mark, whoever's process it was."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.looks = 0
        self._over = threading.Event()

    def look(self) -> None:
        self.looks += 1
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                line = path.read_bytes()
                if found_in(line):
                    self.found.add(line.replace(b"\0", b" ").decode(errors="replace")[:1000])

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            self.look()

    @contextmanager
    def watched(self) -> Iterator[CommandLines]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()


def marks_of(environment: Mapping[str, str]) -> set[str]:
    """Variables that hold one."""
    return {name for name, value in environment.items() if STEM in value}
