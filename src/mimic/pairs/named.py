"""What a shard's or a manifest's rows may name: they come with pairs that others have made."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mimic.errors import BadInput
from mimic.infra import confined

SPLITS = ("train", "validation", "test")
# A key is the name of two files of a tar and of a folder: `schema.clip_key` makes plainer ones.
KEY = r"^[^./\\\pC][^\\\pC]*$"
LEADS_OUT = r"^[A-Za-z]:|/\.\.(/|$)"
KEY_BYTES = 200
FEW = ("shard", "source", "split")  # columns with few distinct values


def check(rows: pa.Table | pa.RecordBatch, path: Path) -> None:
    """Raises BadInput where a row of a file names what lies outside: of the workspace, of a tar,
    of an exported folder. Columns that were not read are not looked at."""
    names = set(rows.schema.names)
    for column in FEW:
        if column in names:
            for name in pc.unique(rows[column]).to_pylist():
                _check_name(column, name, path)
    if "key" in names and len(rows):
        _check_keys(rows["key"], path)
    for column in ("offset_a", "offset_b", "size_a", "size_b"):
        if column in names and len(rows) and pc.min(rows[column]).as_py() < 0:
            raise BadInput(f"{path}: a negative {column}; refused: ask whoever made it for another")


def _check_name(column: str, name: str, path: Path) -> None:
    if column == "split":
        why = None if name in SPLITS else f"is no split ({', '.join(SPLITS)})"
    else:
        why = confined.wrong_with(name)
    if why is None and column == "source" and ("/" in name or name.startswith(".")):
        why = "is no name of a source"
    if why is not None:
        raise confined.refused(path, name, f"({column}) {why}")


def _check_keys(keys: pa.ChunkedArray | pa.Array, path: Path) -> None:
    plain = pc.match_substring_regex(keys, KEY)
    fit = pc.and_(plain, pc.invert(pc.match_substring_regex(keys, LEADS_OUT)))
    fit = pc.and_(fit, pc.less_equal(pc.binary_length(keys), KEY_BYTES))
    if not pc.all(fit).as_py():
        odd = keys.filter(pc.invert(fit))[0].as_py()
        raise confined.refused(path, odd, "(key) cannot be the name of a file in a tar")
