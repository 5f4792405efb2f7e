"""Bytes that rot in a shard, which DVC does not see where size and time stay: nothing that reads
pictures takes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from mimic import cli, config
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.pairs.decoded import decoded_once
from mimic.pairs.images import DIGESTS, PIXELS, PairImages, open_pairs, read_manifest
from mimic.pairs.remote import ShardStore
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from tests.support import published

HERE = config.Shards(url=None, cache=Path("runs/shards"), cache_gb=1)


def rot(root: Path, row: dict[str, Any], side: str) -> Path:
    """Change 40 bytes in the middle of a picture, at equal size and time."""
    path = root / row["shard"]
    before = path.stat()
    middle = row[f"offset_{side}"] + row[f"size_{side}"] // 2
    with path.open("r+b") as file:
        file.seek(middle)
        old = file.read(40)
        file.seek(middle)
        file.write(bytes(byte ^ 0x15 for byte in old))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    (tmp_path / "params.yaml").write_text((repository / "params.yaml").read_text())
    rows = published.publish_pairs(tmp_path, "phone", ["a.mp4", "b.mp4", "c.mp4"], 2)
    path = storage.Workspace(tmp_path).manifest("mimic-1m")
    write_table(pa.Table.from_pylist(rows, schema=MANIFEST), path)
    return tmp_path


@pytest.fixture
def rows(root: Path) -> list[dict[str, Any]]:
    return pa.parquet.read_table(storage.Workspace(root).manifest("mimic-1m")).to_pylist()


def _images(root: Path) -> PairImages:
    manifest = storage.Workspace(root).manifest("mimic-1m")
    return open_pairs(read_manifest(manifest, "train", PIXELS + DIGESTS), root, (64, 64), HERE)


def _train_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["split"] == "train")


@pytest.mark.parametrize("side", ["a", "b"])
def test_training_refuses_it_and_names_shard_and_picture(
    root: Path, rows: list[dict[str, Any]], side: str
) -> None:
    row = _train_row(rows)
    path = rot(root, row, side)
    images = _images(root)
    every = np.arange(len(images))
    with pytest.raises(BadInput) as refused:
        images.pairs(every)
    assert str(refused.value).startswith(f"{path}: {row['key']}.{side}.jpg is damaged")
    assert "mimic verify" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(BadInput, match="is damaged"):
        images.singles(np.arange(2 * len(images)))
    manifest = storage.Workspace(root).manifest("mimic-1m")
    kept = read_manifest(manifest, "train", PIXELS + DIGESTS)
    with pytest.raises(BadInput, match="is damaged"):
        decoded_once(_images(root), kept, root / "decoded", 2)
    assert list((root / "decoded").glob("*.npy")) == []


def test_each_picture_is_compared_once(root: Path, rows: list[dict[str, Any]]) -> None:
    """What has been read whole is trusted until the process ends."""
    images = _images(root)
    before = images.pairs(np.arange(len(images)))
    rot(root, _train_row(rows), "a")
    assert not (images.pairs(np.arange(len(images))) == before).all()


@pytest.mark.parametrize("form", ["mimic", "webdataset", "huggingface"])
def test_export_refuses_it(root: Path, rows: list[dict[str, Any]], form: str) -> None:
    rot(root, rows[-1], "b")
    command = ["export", "mimic-1m", "--format", form, "--out", str(root / "out")]
    done = CliRunner().invoke(cli.app, [*command, "--params", str(root / "params.yaml")])
    assert isinstance(done.exception, BadInput)
    assert f"{rows[-1]['key']}.b.jpg is damaged" in str(done.exception)
    assert not (root / "out").exists()


def test_a_damaged_copy_of_a_store_is_named(root: Path, rows: list[dict[str, Any]]) -> None:
    """The copy, which can be fetched again; not the shard of the workspace, which is not there."""
    row = _train_row(rows)
    (root / "data").rename(root / "far")
    cache = root / "runs/shards"
    manifest = root / "far/manifests/mimic-1m.parquet"
    moved = pa.parquet.read_table(manifest).to_pylist()
    for one in moved:
        one["shard"] = one["shard"].removeprefix("data/")
    write_table(pa.Table.from_pylist(moved, schema=MANIFEST), manifest)
    images = PairImages(
        read_manifest(manifest, "train"),
        root,
        None,
        ShardStore(f"file://{root / 'far'}", cache, 10**9),
    )
    place = [one["key"] for one in moved if one["split"] == "train"].index(row["key"])
    images.encoded(place, 0)
    path = rot(cache, {**row, "shard": row["shard"].removeprefix("data/")}, "b")
    with pytest.raises(BadInput, match=r"remove this copy and run again") as refused:
        images.encoded(place, 1)
    assert str(path) in str(refused.value)
    path.unlink()
    assert len(images.encoded(place, 1)) == row["size_b"]
