"""Writing pair shards: a tar and its Parquet index, both under their names only when they are
whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mimic.geometry import likeness
from mimic.infra import storage
from mimic.pairs.schema import IMAGES, PAIR, PARTS, index_path
from mimic.pairs.tar import Tar

ROWS_AT_ONCE = 256  # rows held, some 5 kB each, while a shard is written; and of a row group
COMPUTED_COLUMNS = frozenset(
    {"sha_a", "sha_b", "dhash_a", "dhash_b", "offset_a", "size_a", "offset_b", "size_b"}
)

Files = tuple[Tar, pq.ParquetWriter]


class ShardWriter:
    """Adds pairs to a tar and its twin; see `shard_writer`.

    Args:
        opened: opens both; called for the first pair, so that without a pair there is no file.
    """

    def __init__(self, opened: Callable[[], Files]) -> None:
        self._opened = opened
        self._files: Files | None = None
        self._rows: list[dict[str, Any]] = []
        self._written = 0

    def __len__(self) -> int:
        return self._written + len(self._rows)

    def add(self, row: dict[str, Any], jpeg_a: bytes, jpeg_b: bytes) -> None:
        """Append a pair; `row` holds every column of PAIR except hashes, offsets and sizes."""
        if self._files is None:
            self._files = self._opened()
        tar, table = self._files
        offset_a = tar.add(f"{row['key']}.a.jpg", jpeg_a)
        offset_b = tar.add(f"{row['key']}.b.jpg", jpeg_b)
        made_here = {
            "sha_a": hashlib.sha256(jpeg_a).hexdigest(),
            "sha_b": hashlib.sha256(jpeg_b).hexdigest(),
            "dhash_a": _dhash(jpeg_a),
            "dhash_b": _dhash(jpeg_b),
            "offset_a": offset_a,
            "size_a": len(jpeg_a),
            "offset_b": offset_b,
            "size_b": len(jpeg_b),
        }
        self._rows.append({**row, **made_here})
        if len(self._rows) == ROWS_AT_ONCE:
            self._write_rows(table)

    def close(self) -> None:
        """Write what is left, and the tar's end mark."""
        if self._files is None:
            return
        tar, table = self._files
        tar.close()
        if self._rows:  # a row group without rows is one that readers divide by
            self._write_rows(table)

    def _write_rows(self, table: pq.ParquetWriter) -> None:
        table.write_table(pa.Table.from_pylist(self._rows, schema=PAIR))
        self._written += len(self._rows)
        self._rows = []


@contextmanager
def shard_writer(tar: Path, parts: Mapping[str, int] | None = None) -> Iterator[ShardWriter]:
    """A writer for `tar` and its Parquet twin; both get their names when the block ends well, the
    Parquet file last.

    Without a pair neither is written.

    Args:
        parts: versions of our code that made the pairs; the Parquet file's metadata say them.
    """
    schema = PAIR.with_metadata(parts_metadata(parts)) if parts else PAIR
    index_path(tar).unlink(
        missing_ok=True
    )  # it vouches for the tar, so it goes before the tar is replaced
    tar.unlink(missing_ok=True)
    with ExitStack() as files:

        def opened() -> Files:
            rows = files.enter_context(storage.replacing(index_path(tar)))
            images = files.enter_context(
                storage.replacing(tar)
            )  # left before the one above: the tar gets its name first
            table = files.enter_context(pq.ParquetWriter(rows, schema, compression="zstd"))
            return Tar(files.enter_context(images.open("wb"))), table

        writer = ShardWriter(opened)
        yield writer
        writer.close()


def lay_out_shards(tars: Sequence[Path], out: Path) -> None:
    """Link (or copy, across file systems) shards into a folder of finished shards, numbered from 0;
    tars first.

    Args:
        tars: of shards with pairs, in order, their Parquet files beside them.
    """
    if tars:
        (out / IMAGES).mkdir(parents=True, exist_ok=True)
    names = [f"shard-{number:05}" for number in range(len(tars))]
    for tar, name in zip(tars, names, strict=True):
        storage.link(tar, out / IMAGES / f"{name}.tar")
    for tar, name in zip(tars, names, strict=True):
        storage.link(index_path(tar), out / f"{name}.parquet")


def parts_metadata(parts: Mapping[str, int]) -> dict[bytes, bytes]:
    """Of a Parquet file: the versions of our code that made it, as JSON."""
    return {PARTS: json.dumps(parts, sort_keys=True).encode()}


def write_table(table: pa.Table, path: Path) -> None:
    with storage.replacing(path) as scratch:
        pq.write_table(table, scratch, compression="zstd")


def encode_image(image: np.ndarray, quality: int) -> bytes:
    """JPEG (4:2:0) of an RGB uint8 image.

    Raises:
        ValueError: OpenCV cannot encode it.
    """
    good, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not good:
        raise ValueError(f"cannot encode an image of shape {image.shape}")
    return data.tobytes()


def _dhash(jpeg: bytes) -> int:
    """Of a JPEG, decoded at a quarter of its size, which is enough; 0 where it does not decode."""
    grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    return 0 if grey is None else likeness.dhash(grey)
