"""Reading pair shards and manifests: rows, images, one `pread` an image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from mimic.errors import BadInput
from mimic.pairs import named
from mimic.pairs.schema import MANIFEST, PAIR


def read_table(path: Path, columns: list[str] | None = None, schema: pa.Schema = PAIR) -> pa.Table:
    """The rows of a shard (schema=PAIR) or a manifest (schema=MANIFEST), or some columns of them.

    Raises:
        BadInput: the file is missing, damaged, has other columns, or names what lies elsewhere
            (`named`).
    """
    with open_table(path, schema) as file:
        try:
            table = file.read(columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, str(error)) from None
    named.check(table, path)
    return table


@contextmanager
def open_table(path: Path, schema: pa.Schema = PAIR) -> Iterator[pq.ParquetFile]:
    """An open Parquet file whose columns have been checked against the schema; same errors as
    `read_table`."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run the stage that makes it (dvc repro)") from None
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, str(error)) from None
    with file:
        types = {field.name: field.type for field in file.schema_arrow}
        for field in schema:
            if types.get(field.name) != field.type:
                raise damaged(
                    path,
                    f"column {field.name} is {types.get(field.name, 'missing')}, expected "
                    f"{field.type}",
                )
        yield file


def iter_rows(path: Path, schema: pa.Schema = PAIR, batch: int = 1024) -> Iterator[dict[str, Any]]:
    """Rows one by one, as plain Python values, never holding more than `batch` of them."""
    with open_table(path, schema) as file:
        for part in file.iter_batches(batch_size=batch):
            named.check(part, path)
            yield from part.to_pylist()


def read_row(
    path: Path, index: int, columns: list[str] | None = None, schema: pa.Schema = MANIFEST
) -> dict[str, Any]:
    """One row of a manifest as plain Python values; only the part of the file that holds it is
    read.

    Raises:
        BadInput: as `read_table`; IndexError: there is no such row.
    """
    with open_table(path, schema) as file:
        if not 0 <= index < file.metadata.num_rows:
            raise IndexError(f"{path} has {file.metadata.num_rows} rows, none is number {index}")
        first = 0
        for number in range(file.num_row_groups):
            group_rows = file.metadata.row_group(number).num_rows
            if index < first + group_rows:
                break
            first += group_rows
        try:
            group = file.read_row_group(number, columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, str(error)) from None
    row = group.slice(index - first, 1)
    named.check(row, path)
    return row.to_pylist()[0]


def read_bytes(tar: Path, offset: int, size: int) -> bytes:
    """Bytes of one image, by one `pread`.

    Raises:
        BadInput: the tar is missing or too short.
    """
    try:
        descriptor = os.open(tar, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise BadInput(
            f"{tar}: no such shard; the manifest is older than data/pairs: run dvc repro"
        ) from None
    try:
        data = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise damaged(tar, f"{len(data)} bytes at {offset} instead of {size}")
    return data


def read_image(tar: Path, offset: int, size: int) -> np.ndarray:
    """One image, RGB, uint8 [height, width, 3]; BadInput where there is none."""
    image = decode_image(read_bytes(tar, offset, size))
    if image is None:
        raise damaged(tar, f"no JPEG at {offset}")
    return image


def decode_image(data: bytes) -> np.ndarray | None:
    """An image from its JPEG, RGB, uint8 [height, width, 3]; None where it is none."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:  # more pixels than OpenCV takes, or no byte at all
        return None


def decode_into(data: bytes, out: np.ndarray) -> bool:
    """Decode a JPEG straight into uint8 [height, width, 3], RGB; False where it has another size or
    is damaged, and `out` is spoilt.

    The pixels are those of `decode`: both are libjpeg-turbo (tested). This one saves a tenth of the
    time and a copy.
    """
    try:
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
    except ValueError:
        return False
    return bool(image.shape == out.shape)


def damaged(path: Path, what: str) -> BadInput:
    """The error of a file of ours that cannot be read whole."""
    return BadInput(
        f"{path}: damaged ({' '.join(what.split())[:200]}); delete its folder and run its stage "
        "again (dvc repro)"
    )
