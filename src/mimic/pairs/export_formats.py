"""The forms in which a dataset leaves the house: released-MIMIC folders, WebDataset tars, Hugging
Face parquet.

Image files are copied byte for byte. Every form gets a README.md, its data card.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mimic.infra import confined
from mimic.pairs.dataset_card import Contents, write
from mimic.pairs.schema import MANIFEST
from mimic.pairs.tar import Tar

Form = Literal["mimic", "webdataset", "huggingface"]
Row = Mapping[str, Any]  # of a manifest
Pair = tuple[Row, bytes, bytes]  # and the JPEGs of its views
LOCATION = (
    "shard",
    "offset_a",
    "size_a",
    "offset_b",
    "size_b",
)  # columns that mean nothing outside the workspace
ROWS_AT_ONCE = 256
# What each data card says of its files.
RELEASED = """\
`<source>/<clip>/<pair>/` holds the views `0000.jpg` and `0001.jpg`, and `corresponding.npy`, a
pickled dict from patches of the first view to patches of the second, numbered row by row.
`<split>.csv` lists the pairs, with paths relative to this folder. Unpickling runs code: read files
that you did not make yourself with a restricted reader."""
WEBDATASET = """\
WebDataset tars, `<split>-00000.tar` and on: `{key}.a.jpg`, `{key}.b.jpg`, and `{key}.json` with
all that is known of the pair (`correspondences`: the patch of b for each patch of a, -1 = none)."""
HUGGINGFACE = """\
Parquet, one row a pair: `image_a` and `image_b` are the JPEG files, the other columns all that
is known of the pair (`correspondences`: the patch of b for each patch of a, -1 = none).
`datasets.load_dataset("<this folder>")` opens it."""
File = TypeVar("File")


def write_form(
    form: Form, pairs: Iterable[Pair], folder: Path, contents: Contents, pairs_per_file: int
) -> None:
    """Fill an empty folder; `contents` is counted on the way."""
    match form:
        case "mimic":
            _write_released(pairs, folder, contents)
        case "webdataset":
            _write_webdataset(pairs, folder, contents, pairs_per_file)
        case "huggingface":
            _write_huggingface(pairs, folder, contents, pairs_per_file)


# ---------------------------------------------------------------------------- released MIMIC


def _write_released(pairs: Iterable[Pair], folder: Path, contents: Contents) -> None:
    """<source>/<clip>/<pair>/{0000.jpg,0001.jpg,corresponding.npy}, and an index for each split."""
    with ExitStack() as open_files:
        indices: dict[str, Any] = {}
        for row, a, b in pairs:
            contents.add(row)
            pair_folder = released_folder(row)
            _new_folder(folder, pair_folder)
            for name, data in (
                ("0000.jpg", a),
                ("0001.jpg", b),
                ("corresponding.npy", patch_map(row["correspondences"])),
            ):
                (folder / pair_folder / name).write_bytes(data)
            if row["split"] not in indices:
                file = open_files.enter_context(
                    (folder / f"{row['split']}.csv").open("w", newline="")
                )
                indices[row["split"]] = csv.writer(file, lineterminator="\n")
                indices[row["split"]].writerow(["path1", "path2", "correspondence"])
            indices[row["split"]].writerow(
                [
                    (pair_folder / name).as_posix()
                    for name in ("0000.jpg", "0001.jpg", "corresponding.npy")
                ]
            )
    (folder / "README.md").write_text(write(contents, RELEASED, {}))


def released_folder(row: Row) -> PurePosixPath:
    """Where a pair lies; the clip's name is the one in the pair's key, which is fit for a file
    system."""
    clip, _, number = row["key"].rpartition("-")
    if not number.isdecimal():
        raise confined.refused("the manifest", row["key"], "(key) does not end in a number")
    return PurePosixPath(row["source"], clip.removeprefix(f"{row['source']}-"), str(int(number)))


def _new_folder(folder: Path, relative: PurePosixPath) -> None:
    """Make the folder of a pair, below that of the export.

    Raises:
        BadInput: it would lie elsewhere, or another pair has it.
    """
    target = confined.inside(folder, relative.as_posix(), "the manifest")
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise confined.refused("the manifest", relative.as_posix(), "is there twice") from None


def patch_map(correspondences: list[int]) -> bytes:
    """`corresponding.npy` as it was released: np.save of a dict of ints."""
    matched = {patch: target for patch, target in enumerate(correspondences) if target >= 0}
    buffer = io.BytesIO()
    np.save(buffer, np.array(matched, dtype=object), allow_pickle=True)
    return buffer.getvalue()


# ---------------------------------------------------------------------------- WebDataset


def _write_webdataset(
    pairs: Iterable[Pair], folder: Path, contents: Contents, pairs_per_file: int
) -> None:
    """<split>-00000.tar with {key}.a.jpg, {key}.b.jpg, {key}.json; its samples are in the
    manifest's order."""
    with _numbered(folder, ".tar", _open_tar, pairs_per_file) as file_of:
        for row, a, b in pairs:
            tar = file_of(row["split"], contents.splits[row["split"]])
            tar.add(f"{row['key']}.a.jpg", a)
            tar.add(f"{row['key']}.b.jpg", b)
            tar.add(f"{row['key']}.json", json.dumps(described(row), sort_keys=True).encode())
            contents.add(row)
    (folder / "README.md").write_text(write(contents, WEBDATASET, {}))


def described(row: Row) -> dict[str, Any]:
    """A manifest's row without what means nothing outside the workspace."""
    return {name: value for name, value in row.items() if name not in LOCATION}


# ---------------------------------------------------------------------------- Hugging Face


def _write_huggingface(
    pairs: Iterable[Pair], folder: Path, contents: Contents, pairs_per_file: int
) -> None:
    """data/<split>-00000.parquet, which `datasets.load_dataset` opens with images decoded."""
    (folder / "data").mkdir()
    waiting: dict[str, list[dict[str, Any]]] = {}
    written: Counter[str] = Counter()
    with _numbered(folder / "data", ".parquet", _open_parquet, pairs_per_file) as file_of:

        def flush(split: str) -> None:
            rows = waiting.pop(split)
            file_of(split, written[split]).write_table(
                pa.Table.from_pylist(rows, schema=huggingface_schema())
            )
            written[split] += len(rows)

        for row, a, b in pairs:
            contents.add(row)
            waiting.setdefault(split := row["split"], []).append(_with_images(row, a, b))
            if len(waiting[split]) == ROWS_AT_ONCE or contents.splits[split] % pairs_per_file == 0:
                flush(split)
        for split in list(waiting):
            flush(split)
    files = [{"split": split, "path": f"data/{split}-*"} for split in sorted(contents.splits)]
    (folder / "README.md").write_text(
        write(contents, HUGGINGFACE, {"configs": [{"config_name": "default", "data_files": files}]})
    )


def huggingface_schema() -> pa.Schema:
    """Columns of the manifest, images in front, with the note that makes `datasets` decode them."""
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    fields = [pa.field("image_a", image), pa.field("image_b", image)]
    fields += [field for field in MANIFEST if field.name not in (*LOCATION, "split")]
    features = {field.name: _feature(field.type) for field in fields} | {
        name: {"_type": "Image"} for name in ("image_a", "image_b")
    }
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A column's type as `datasets` writes it down."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {
        "dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)),
        "_type": "Value",
    }


def _with_images(row: Row, a: bytes, b: bytes) -> dict[str, Any]:
    named = {
        f"image_{side}": {"bytes": data, "path": f"{row['key']}.{side}.jpg"}
        for side, data in (("a", a), ("b", b))
    }
    return {**named, **described(row)}


# ---------------------------------------------------------------------------- files of a bounded
# number of pairs


@contextmanager
def _numbered(
    folder: Path,
    suffix: str,
    opened: Callable[[Path], AbstractContextManager[File]],
    pairs_per_file: int,
) -> Iterator[Callable[[str, int], File]]:
    """A function (split, pairs of it written so far) -> the file to write to: <split>-00000<suffix>
    and on, one open per split."""
    with ExitStack() as all_splits:
        stacks: dict[str, ExitStack] = {}
        current: dict[str, tuple[int, File]] = {}

        def file_of(split: str, done: int) -> File:
            number = done // pairs_per_file
            if split not in current or current[split][0] != number:
                if split not in stacks:
                    stacks[split] = all_splits.enter_context(ExitStack())
                stacks[split].close()
                current[split] = (
                    number,
                    stacks[split].enter_context(opened(folder / f"{split}-{number:05}{suffix}")),
                )
            return current[split][1]

        yield file_of


@contextmanager
def _open_tar(path: Path) -> Iterator[Tar]:
    with path.open("wb") as file, closing(Tar(file)) as tar:
        yield tar


def _open_parquet(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        huggingface_schema(),
        compression="zstd",
        use_dictionary=["source", "clip", "licence", "versions"],
    )
