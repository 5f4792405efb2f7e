"""Pair shards: a WebDataset tar of JPEG pairs, and a Parquet twin with one row a pair.

`shard-00042.tar` holds `{key}.a.jpg` and `{key}.b.jpg`; `shard-00042.parquet` says everything known
about each pair, including the byte offsets of its images in the tar, so that any image is one
`pread`. The Parquet file is written after its tar, by rename: it vouches for it. Equal pairs in
equal order give equal bytes. A manifest has the same columns and two more.

A folder of finished shards holds the Parquet files, the tars in `_images/`, and nothing else whose
name starts otherwise than with `_` or `.`: readers of Parquet (`pandas.read_parquet(folder)`) take
every other file for theirs. Its shards are numbered without gaps, none is empty, and no row group
is: loaders fail on those. Folders with the tars beside the Parquet files, as they were written
before, and with empty shards open as well.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pyarrow as pa

from mimic.errors import BadInput

PAIR = pa.schema(
    [
        pa.field(
            "key", pa.string(), nullable=False
        ),  # unique within a workspace; the name in the tar
        pa.field("source", pa.string(), nullable=False),
        pa.field("clip", pa.string(), nullable=False),
        pa.field("frame_a", pa.string(), nullable=False),
        pa.field("frame_b", pa.string(), nullable=False),
        pa.field(
            "pose_a", pa.list_(pa.float64())
        ),  # 16 numbers, row by row, camera to world; null where unknown
        pa.field("pose_b", pa.list_(pa.float64())),
        pa.field("overlap", pa.float32(), nullable=False),
        pa.field("overlap_a_to_b", pa.float32(), nullable=False),
        pa.field("overlap_b_to_a", pa.float32(), nullable=False),
        pa.field(
            "b_from_a", pa.list_(pa.float64())
        ),  # 9 numbers, row by row: pixels of a's square to b's; null where none was estimated
        pa.field("matches", pa.int32(), nullable=False),
        pa.field("inliers", pa.int32(), nullable=False),
        pa.field(
            "correspondences", pa.list_(pa.int16()), nullable=False
        ),  # patch of b for each patch of a, -1 = none
        pa.field("sha_a", pa.string(), nullable=False),  # sha256 of the JPEG
        pa.field("sha_b", pa.string(), nullable=False),
        pa.field(
            "dhash_a", pa.uint64(), nullable=False
        ),  # what the picture looks like: geometry.likeness.dhash of the JPEG
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
PARTS = b"mimic.parts"  # in a file's metadata: versions of our code that made it, as JSON
IMAGES = "_images"  # the folder of the tars among finished shards


def index_path(tar: Path) -> Path:
    """The Parquet file of a tar."""
    folder = tar.parent.parent if tar.parent.name == IMAGES else tar.parent
    return folder / f"{tar.stem}.parquet"


def clip_key(source: str, clip: str) -> str:
    """A name for a clip that can stand in a tar: no dot, no slash, unique among clips of a
    source."""
    if "." in source:  # what follows the first dot is a kind of file to readers of tars
        source = f"{plain_name(source)}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"
    name = plain_name(clip)
    if name != clip:
        name = f"{name}-{hashlib.sha256(clip.encode()).hexdigest()[:10]}"
    return f"{source}-{name}"


def plain_name(name: str) -> str:
    """A name without dots, slashes and whatever else is no plain letter, digit, hyphen or
    underscore; not unique."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:40]


def shards_in(folder: Path) -> list[Path]:
    """The tars of a folder of finished shards, in order.

    Raises:
        BadInput: there is no such folder, or a tar without its twin (or the reverse).
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; mine the source first (dvc repro)")
    tars = sorted(
        [*folder.glob("*.tar"), *folder.glob(f"{IMAGES}/*.tar")], key=lambda tar: tar.name
    )
    tables = sorted(folder.glob("*.parquet"))
    if [index_path(tar) for tar in tars] != tables:
        odd = sorted({path.stem for path in tars} ^ {path.stem for path in tables})
        what = odd[0] if odd else "a shard"
        raise BadInput(
            f"{folder}: {what} has a tar or a Parquet file but not both; mine the source again"
        )
    return tars
