"""`mimic verify` on a real DVC workspace: what rots, it names, and what it says mends it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from mimic import cli
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from mimic.training.checkpoint import write_weights
from mimic.training.encoder_folder import write_card
from tests.support import published

PHONE = {"cmd": "cp -r kept data/pairs/phone", "outs": ["data/pairs/phone"]}
STAGES = {
    "stages": {
        "mine": {"foreach": ["phone"], "do": PHONE},
        "assemble": {"cmd": "true", "outs": ["data/manifests/mimic-1m.parquet"]},
    }
}


def dvc(root: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace with pairs, a manifest and a model, under DVC."""
    root = tmp_path_factory.mktemp("whole")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    dvc(root, "init", "-q")
    (root / "params.yaml").write_text((repository / "params.yaml").read_text())
    rows = published.publish_pairs(root, "phone", ["a.mp4", "b.mp4"], 2)
    table = pa.Table.from_pylist(rows, schema=MANIFEST)
    write_table(table, storage.Workspace(root).manifest("mimic-1m"))
    shutil.copytree(root / "data/pairs/phone", root / "kept")
    weights = {"w": torch.arange(1000.0)}
    write_weights(weights, root / "models/croco-1m/encoder.safetensors", {})
    write_card(root / "models/croco-1m", {"run": "croco-1m"})
    (root / "dvc.yaml").write_text(yaml.safe_dump(STAGES))
    return root


@pytest.fixture(params=["copy", "hardlink"])
def root(tmp_path: Path, whole: Path, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / "space"
    shutil.copytree(whole, root)
    dvc(root, "config", "cache.type", request.param)
    dvc(root, "commit", "-f", "-q")
    shutil.rmtree(root / "data/pairs")
    dvc(root, "checkout", "-q")
    return root


def verify(root: Path, *paths: str) -> tuple[int, str]:
    words = [str(root / path) for path in paths]
    done = CliRunner().invoke(cli.app, ["verify", *words, "--params", str(root / "params.yaml")])
    if isinstance(done.exception, BadInput):
        raise done.exception
    return done.exit_code, done.stdout


def flip(path: Path, at: int) -> None:
    """One bit, at equal size and time."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _rows(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(storage.Workspace(root).manifest("mimic-1m")).to_pylist()


def test_what_rots_where_dvc_looks_away_is_named_and_mended(root: Path) -> None:
    """By the very commands that the line says; a link into the cache is damaged there, too."""
    assert verify(root)[0] == 0
    row = _rows(root)[1]
    tar = root / row["shard"]
    flip(tar, row["offset_b"] + row["size_b"] // 2)
    assert "up to date" in dvc(root, "status")
    status, said = verify(root)
    assert status == 1
    lines = [line for line in said.splitlines() if line.startswith("DAMAGED")]
    assert len(lines) == 1
    assert f"{row['shard']}: 1 of" in lines[0]
    assert f"{row['key']}.b.jpg" in lines[0]
    assert "1 damaged" in said
    remedy = lines[0].rpartition("; ")[2]
    remove, _, bring = remedy.partition(", then ")
    assert remove.startswith(f"rm -f {tar}")
    if "without a remote " in bring:
        bring = bring.partition("without a remote ")[2]
    for command in (remove, bring):
        words = shlex.split(command)
        words = [sys.executable, "-m", *words] if words[0] == "dvc" else words
        subprocess.run(words, cwd=root, check=True, capture_output=True)
    status, said = verify(root)
    assert status == 0, said
    assert "all as recorded" in said


@pytest.mark.parametrize("root", ["copy"], indirect=True)
def test_a_damaged_copy_in_the_cache_is_found_before_it_is_needed(root: Path) -> None:
    copies = [path for path in (root / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    largest = max(copies, key=lambda path: path.stat().st_size)
    flip(largest, 100)
    status, said = verify(root, "data/pairs")
    assert status == 1
    assert f"{largest.relative_to(root)}: this copy in DVC's cache" in said
    assert "1 damaged" in said


@pytest.mark.parametrize("root", ["copy"], indirect=True)
def test_models_manifests_and_missing_files(root: Path) -> None:
    flip(root / "models/croco-1m/encoder.safetensors", 500)
    rows = _rows(root)
    rows[2]["sha_a"] = "0" * 64
    path = storage.Workspace(root).manifest("mimic-1m")
    path.unlink()
    write_table(pa.Table.from_pylist(rows, schema=MANIFEST), path)
    (root / "data/pairs/phone/_lost.jsonl").unlink(missing_ok=True)
    status, said = verify(root)
    assert status == 1
    assert "models/croco-1m/encoder.safetensors: its sha256 is not that of card.json" in said
    assert (
        f"mimic-1m.parquet: 1 rows are not those of {rows[2]['shard']} ({rows[2]['key']})" in said
    )
    assert verify(root, "data/pairs")[0] == 0
    assert "DAMAGED  models" not in verify(root, "data/manifests")[1]
    index = next((root / "data/pairs/phone").glob("*.parquet"))
    index.unlink()
    status, said = verify(root, "data/pairs")
    assert status == 1
    assert "has a tar or a Parquet file but not both" in said
    assert f"{index.relative_to(root)}: is not there, and DVC holds it; rm -f" in said


@pytest.mark.parametrize("root", ["copy"], indirect=True)
def test_nothing_is_passed_over_in_silence(root: Path) -> None:
    """What has no record, or lies elsewhere, is said."""
    (root / "models/croco-1m/card.json").write_text('{"run": "croco-1m"}')
    (root / "data/pairs/phone/note.txt").write_text("mine")
    _, said = verify(root)
    assert "croco-1m: its card states no digest" in said
    assert "1 files in data/pairs/phone that DVC does not know (note.txt)" in said
    assert re.search(r"verify: .*\d+ pictures.*compared, all as recorded", said)
    with pytest.raises(BadInput, match="no such file or folder"):
        verify(root, "data/nothing")
    (root / "empty").mkdir()
    with pytest.raises(BadInput, match="nothing with a record"):
        verify(root, "empty")


def test_raw_data_that_changed_since_they_were_mined(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for number in range(6):
        path = photos / f"room{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (80, 80, 3), np.uint8)).save(path)
    project = tmp_path / "project"
    new = ["new", str(project), "--images", str(photos)]
    made = CliRunner().invoke(cli.app, new)
    assert made.exit_code == 0, made.output
    name = next(iter(yaml.safe_load((project / "params.yaml").read_text())["sources"]))
    ingest = ["ingest", name, "--params", str(project / "params.yaml")]
    assert CliRunner().invoke(cli.app, ingest).exit_code == 0
    status, said = verify(project)
    assert status == 0, said
    assert "clips of raw data" in said
    flip(photos / "room0/2.jpg", 400)
    status, said = verify(project)
    assert status == 1
    assert "1 of 2 clips have other contents (room0)" in said


UNREADABLE = "/proc/self/mem"  # a file of which nobody gets a byte: EIO, as of a disk with errors


def test_a_file_that_the_disk_does_not_give_ends_no_other_check(
    whole: Path, tmp_path: Path
) -> None:
    root = tmp_path / "space"
    shutil.copytree(whole, root)
    dvc(root, "commit", "-f", "-q")
    broken = ("models/croco-1m/encoder.safetensors", "data/manifests/mimic-1m.parquet")
    for name in broken:
        (root / name).unlink()
        (root / name).symlink_to(UNREADABLE)
    flip(next((root / "data/pairs/phone").glob("*.tar")), 3000)
    status, said = verify(root)
    assert status == 1
    for name in broken:
        assert re.search(rf"^DAMAGED  {name}: ", said, re.MULTILINE), said
    assert "encoder.safetensors: cannot be read (Input/output error)" in said
    assert re.search(r"^DAMAGED  data/pairs/phone/.*\.tar: ", said, re.MULTILINE)


def test_files_added_before_dvc_3_are_compared_as_dvc_does(root: Path) -> None:
    """Their md5 is of texts without carriage returns, and their copies lie in another place."""
    text = b"frame,metres\r\n1,2.5\r\n"
    md5 = hashlib.md5(text.replace(b"\r\n", b"\n")).hexdigest()
    table = root / "data/raw/old.csv"
    table.parent.mkdir(parents=True)
    out = {"md5": md5, "size": len(text), "path": table.name}
    table.with_name("old.csv.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    copy = root / ".dvc/cache" / md5[:2] / md5[2:]
    copy.parent.mkdir(parents=True)
    for path in (table, copy):
        path.write_bytes(text)
    assert "up to date" in dvc(root, "status", "data/raw/old.csv.dvc")
    assert verify(root, "data/raw/old.csv")[0] == 0
    flip(table, 8)
    status, said = verify(root, "data/raw/old.csv")
    assert status == 1
    assert f"rm -f {table}, then dvc checkout data/raw/old.csv" in said
    flip(copy, 8)
    assert "this copy in DVC's cache, of data/raw/old.csv, is damaged" in verify(root)[1]
