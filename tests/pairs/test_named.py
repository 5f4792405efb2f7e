"""Manifests and stores that came from somebody: nothing outside is written or read."""

from __future__ import annotations

import os
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.errors import BadInput
from mimic.pairs import export_formats
from mimic.pairs.dataset_card import Contents
from mimic.pairs.read import iter_rows, read_row, read_table
from mimic.pairs.remote import ShardStore
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from tests.support import published

PIECES = ["..", "/", "\\", "\0", "a", "room", "-000001", ".", "C:", "~", "x" * 260, "\n"]
EVIL = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
BAD: dict[str, list[Any]] = {
    "source": ["../../../etc", "/abs", "a/b", "..", "a\\b", "", ".hidden"],
    "shard": ["../evil.tar", "/etc/passwd", "a\\..\\evil.tar", "C:/x.tar", "a\0.tar", "x" * 5000],
    "key": [
        "../evil-000001",
        "a/../../b",
        "a/..",
        "C:/a",
        "..\\x-000001",
        "",
        ".a",
        "a\0b",
        "a\nb",
        "k" * 201,
    ],
    "split": ["../../train", "train/..", "", "Train"],
    "offset_a": [-1],
    "size_b": [-5],
}


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return published.publish_pairs(tmp_path_factory.mktemp("one"), "phone", ["a.mp4"], 1)[0]


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return published.publish_pairs(tmp_path, "phone", ["a.mp4", "b.mp4"], 2)


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    write_table(pa.Table.from_pylist(rows, schema=MANIFEST), path)
    return path


@pytest.mark.parametrize(
    ("column", "value"), [(column, value) for column, values in BAD.items() for value in values]
)
def test_a_manifest_that_names_what_lies_elsewhere_is_refused_in_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], column: str, value: Any
) -> None:
    rows[1] = {**rows[1], column: value}
    path = _write(tmp_path / "received.parquet", rows)
    readers = (
        lambda: read_table(path, schema=MANIFEST),
        lambda: read_table(path, [column], MANIFEST),
        lambda: list(iter_rows(path, MANIFEST)),
        lambda: read_row(path, 1),
    )
    for reader in readers:
        with pytest.raises(BadInput) as refused:
            reader()
        assert str(refused.value).startswith(f"{path}: ")
        assert column in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1


def test_whole_ones_are_read(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = _write(tmp_path / "own.parquet", rows)
    assert read_table(path, schema=MANIFEST).to_pylist() == list(iter_rows(path, MANIFEST))
    assert read_row(path, 1)["key"] == rows[1]["key"]


def _seen(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@given(source=EVIL, key=EVIL, split=EVIL, form=st.sampled_from(["mimic", "webdataset"]))
@settings(max_examples=60)
def test_an_export_writes_nothing_outside_its_folder(
    row: dict[str, Any], source: str, key: str, split: str, form: export_formats.Form
) -> None:
    """Read as the command reads it, whatever the columns say."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        out = here / "a/b/c/out"
        out.mkdir(parents=True)
        evil = {**row, "source": source, "key": key, "split": split}
        path = _write(here / "a/b/c/received.parquet", [evil])
        before = _seen(here)
        with suppress(BadInput):
            pairs = ((one, b"a", b"b") for one in iter_rows(path, MANIFEST))
            export_formats.write_form(form, pairs, out, Contents("received", "0" * 64), 10)
        new = _seen(here) - before
        assert {path for path in new if not path.is_relative_to(out)} == set()
        for tar in out.glob("*.tar"):
            with tarfile.open(tar) as members:
                assert all(
                    Path(os.path.normpath(out / member)).is_relative_to(out)
                    for member in members.getnames()
                )


def test_a_store_keeps_to_its_folder(tmp_path: Path) -> None:
    remote = tmp_path / "far/remote"
    remote.mkdir(parents=True)
    (tmp_path / "far/evil.tar").write_bytes(b"evil")
    (remote / "evil.tar").write_bytes(b"evil")
    cache = tmp_path / "space/shards"
    (cache / "rooms").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (cache / "out").symlink_to(tmp_path / "elsewhere")
    store = ShardStore(f"file://{remote}", cache, 1000)
    before = _seen(tmp_path)
    for name in ("../evil.tar", f"{remote}/evil.tar", "..\\evil.tar", "out/evil.tar", "e\0.tar"):
        with pytest.raises(BadInput, match="refused"):
            store.local(name)
    assert _seen(tmp_path) == before
    assert store.local("evil.tar").read_bytes() == b"evil"


def test_two_pairs_of_one_place_and_a_key_without_number(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    for bad, why in (([rows[0], rows[0]], "twice"), ([{**rows[0], "key": "a"}], "number")):
        out = tmp_path / why
        out.mkdir()
        with pytest.raises(BadInput, match=why):
            export_formats.write_form(
                "mimic", ((row, b"", b"") for row in bad), out, Contents("d", "0"), 1
            )
