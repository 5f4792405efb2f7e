"""Pair shards: a WebDataset tar of JPEG pairs, and a Parquet twin with one row a pair.

`shard-00042.tar` holds `{key}.a.jpg` and `{key}.b.jpg`; `shard-00042.parquet` says everything known about each pair,
including the byte offsets of its images in the tar, so that any image is one `pread`. The Parquet file is written after its
tar, by rename: it vouches for it. Equal pairs in equal order give equal bytes. A manifest has the same columns and two more.

A folder of finished shards holds the Parquet files, the tars in `_images/`, and nothing else whose name starts otherwise than with
`_` or `.`: readers of Parquet (`pandas.read_parquet(folder)`) take every other file for theirs. Its shards are numbered
without gaps, none is empty, and no row group is: loaders fail on those. Folders with the tars beside the Parquet files, as
they were written before, and with empty shards open as well.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from mimic.errors import BadInput
from mimic.geometry import likeness
from mimic.infra import storage
from mimic.infra.tar import Tar

PAIR = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # unique within a workspace; the name in the tar
        pa.field("source", pa.string(), nullable=False),
        pa.field("clip", pa.string(), nullable=False),
        pa.field("frame_a", pa.string(), nullable=False),
        pa.field("frame_b", pa.string(), nullable=False),
        pa.field("pose_a", pa.list_(pa.float64())),  # 16 numbers, row by row, camera to world; null where unknown
        pa.field("pose_b", pa.list_(pa.float64())),
        pa.field("overlap", pa.float32(), nullable=False),
        pa.field("overlap_a_to_b", pa.float32(), nullable=False),
        pa.field("overlap_b_to_a", pa.float32(), nullable=False),
        pa.field("b_from_a", pa.list_(pa.float64())),  # 9 numbers, row by row: pixels of a's square to b's; null where none was estimated
        pa.field("matches", pa.int32(), nullable=False),
        pa.field("inliers", pa.int32(), nullable=False),
        pa.field("correspondences", pa.list_(pa.int16()), nullable=False),  # patch of b for each patch of a, -1 = none
        pa.field("sha_a", pa.string(), nullable=False),  # sha256 of the JPEG
        pa.field("sha_b", pa.string(), nullable=False),
        pa.field("dhash_a", pa.uint64(), nullable=False),  # what the picture looks like: geometry.likeness.dhash of the JPEG
        pa.field("dhash_b", pa.uint64(), nullable=False),
        pa.field("offset_a", pa.int64(), nullable=False),  # of the JPEG in the tar, bytes
        pa.field("size_a", pa.int64(), nullable=False),
        pa.field("offset_b", pa.int64(), nullable=False),
        pa.field("size_b", pa.int64(), nullable=False),
        pa.field("size_px", pa.int32(), nullable=False),
        pa.field("patch_px", pa.int32(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("params_digest", pa.string(), nullable=False),
        pa.field("versions", pa.string(), nullable=False),  # JSON
    ]
)
MANIFEST = pa.schema(
    [
        *PAIR,
        pa.field("shard", pa.string(), nullable=False),  # the tar, relative to the workspace, posix
        pa.field("split", pa.string(), nullable=False),  # train, validation or test
    ]
)
ROWS_AT_ONCE = 256  # rows held, some 5 kB each, while a shard is written; and of a row group
MADE_HERE = frozenset({"sha_a", "sha_b", "dhash_a", "dhash_b", "offset_a", "size_a", "offset_b", "size_b"})


IMAGES = "_images"  # the folder of the tars among finished shards

Files = tuple[Tar, pq.ParquetWriter]


class ShardWriter:
    """Adds pairs to a tar and its twin; see `writing`.

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
def writing(tar: Path) -> Iterator[ShardWriter]:
    """A writer for `tar` and its Parquet twin; both get their names when the block ends well, the Parquet file last.

    Without a pair neither is written.
    """
    twin(tar).unlink(missing_ok=True)  # it vouches for the tar, so it goes before the tar is replaced
    tar.unlink(missing_ok=True)
    with ExitStack() as files:

        def opened() -> Files:
            rows = files.enter_context(storage.replacing(twin(tar)))
            images = files.enter_context(storage.replacing(tar))  # left before the one above: the tar gets its name first
            table = files.enter_context(pq.ParquetWriter(rows, PAIR, compression="zstd"))
            return Tar(files.enter_context(images.open("wb"))), table

        writer = ShardWriter(opened)
        yield writer
        writer.close()


def twin(tar: Path) -> Path:
    """The Parquet file of a tar."""
    folder = tar.parent.parent if tar.parent.name == IMAGES else tar.parent
    return folder / f"{tar.stem}.parquet"


def key_of(source: str, clip: str) -> str:
    """A name for a clip that can stand in a tar: no dot, no slash, unique among clips of a source."""
    if "." in source:  # what follows the first dot is a kind of file to readers of tars
        source = f"{plain(source)}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"
    name = plain(clip)
    if name != clip:
        name = f"{name}-{hashlib.sha256(clip.encode()).hexdigest()[:10]}"
    return f"{source}-{name}"


def plain(name: str) -> str:
    """A name without dots, slashes and whatever else is no plain letter, digit, hyphen or underscore; not unique."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:40]


def lay_out(tars: Sequence[Path], out: Path) -> None:
    """Link (or copy, across file systems) shards into a folder of finished shards, numbered from 0; tars first.

    Args:
        tars: of shards with pairs, in order, their Parquet files beside them.
    """
    if tars:
        (out / IMAGES).mkdir(parents=True, exist_ok=True)
    names = [f"shard-{number:05}" for number in range(len(tars))]
    for tar, name in zip(tars, names, strict=True):
        storage.link(tar, out / IMAGES / f"{name}.tar")
    for tar, name in zip(tars, names, strict=True):
        storage.link(twin(tar), out / f"{name}.parquet")


def write_table(table: pa.Table, path: Path) -> None:
    with storage.replacing(path) as scratch:
        pq.write_table(table, scratch, compression="zstd")


def shards_in(folder: Path) -> list[Path]:
    """The tars of a folder of finished shards, in order.

    Raises:
        BadInput: there is no such folder, or a tar without its twin (or the reverse).
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; mine the source first (dvc repro)")
    tars = sorted([*folder.glob("*.tar"), *folder.glob(f"{IMAGES}/*.tar")], key=lambda tar: tar.name)
    tables = sorted(folder.glob("*.parquet"))
    if [twin(tar) for tar in tars] != tables:
        odd = sorted({path.stem for path in tars} ^ {path.stem for path in tables})
        what = odd[0] if odd else "a shard"
        raise BadInput(f"{folder}: {what} has a tar or a Parquet file but not both; mine the source again")
    return tars


def read_table(path: Path, columns: list[str] | None = None, schema: pa.Schema = PAIR) -> pa.Table:
    """The rows of a shard (schema=PAIR) or a manifest (schema=MANIFEST), or some columns of them.

    Raises:
        BadInput: the file is missing, damaged, or has other columns.
    """
    with opening(path, schema) as file:
        try:
            return file.read(columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, str(error)) from None


@contextmanager
def opening(path: Path, schema: pa.Schema = PAIR) -> Iterator[pq.ParquetFile]:
    """An open Parquet file whose columns have been checked against the schema; same errors as `read_table`."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run the stage that makes it (dvc repro)") from None
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, str(error)) from None
    with file:
        found = {field.name: field.type for field in file.schema_arrow}
        for field in schema:
            if found.get(field.name) != field.type:
                raise _damaged(path, f"column {field.name} is {found.get(field.name, 'missing')}, expected {field.type}")
        yield file


def rows(path: Path, schema: pa.Schema = PAIR, batch: int = 1024) -> Iterator[dict[str, Any]]:
    """Rows one by one, as plain Python values, never holding more than `batch` of them."""
    with opening(path, schema) as file:
        for part in file.iter_batches(batch_size=batch):
            yield from part.to_pylist()


def read_row(path: Path, index: int, columns: list[str] | None = None, schema: pa.Schema = MANIFEST) -> dict[str, Any]:
    """One row of a manifest as plain Python values; only the part of the file that holds it is read.

    Raises:
        BadInput: as `read_table`; IndexError: there is no such row.
    """
    with opening(path, schema) as file:
        if not 0 <= index < file.metadata.num_rows:
            raise IndexError(f"{path} has {file.metadata.num_rows} rows, none is number {index}")
        first = 0
        for number in range(file.num_row_groups):
            here = file.metadata.row_group(number).num_rows
            if index < first + here:
                break
            first += here
        try:
            return file.read_row_group(number, columns=columns, use_threads=False).slice(index - first, 1).to_pylist()[0]
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, str(error)) from None


def read_bytes(tar: Path, offset: int, size: int) -> bytes:
    """Bytes of one image, by one `pread`.

    Raises:
        BadInput: the tar is missing or too short.
    """
    try:
        descriptor = os.open(tar, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise BadInput(f"{tar}: no such shard; the manifest is older than data/pairs: run dvc repro") from None
    try:
        data = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise _damaged(tar, f"{len(data)} bytes at {offset} instead of {size}")
    return data


def read_image(tar: Path, offset: int, size: int) -> np.ndarray:
    """One image, RGB, uint8 [height, width, 3]; BadInput where there is none."""
    image = decode(read_bytes(tar, offset, size))
    if image is None:
        raise _damaged(tar, f"no JPEG at {offset}")
    return image


def decode(data: bytes) -> np.ndarray | None:
    """An image from its JPEG, RGB, uint8 [height, width, 3]; None where it is none."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def decode_into(data: bytes, out: np.ndarray) -> bool:
    """Decode a JPEG straight into uint8 [height, width, 3], RGB; False where it has another size or is damaged, and `out` is spoilt.

    The pixels are those of `decode`: both are libjpeg-turbo (tested). This one saves a tenth of the time and a copy.
    """
    try:
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
    except ValueError:
        return False
    return bool(image.shape == out.shape)


def encode_image(image: np.ndarray, quality: int) -> bytes:
    """JPEG (4:2:0) of an RGB uint8 image."""
    good, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise ValueError(f"cannot encode an image of shape {image.shape}")
    return data.tobytes()


def _dhash(jpeg: bytes) -> int:
    """Of a JPEG, decoded at a quarter of its size, which is enough; 0 where it does not decode."""
    grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    return 0 if grey is None else likeness.dhash(grey)


def _damaged(path: Path, what: str) -> BadInput:
    return BadInput(f"{path}: damaged ({' '.join(what.split())[:200]}); delete its folder and run its stage again (dvc repro)")
