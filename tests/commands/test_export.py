"""Every form is read back with other code than wrote it, and compared with the manifest."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from typer.testing import CliRunner

from mimic import cli, config, sources
from mimic.commands import export
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.pairs.read import iter_rows, read_bytes, read_image
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from mimic.params import load_params
from mimic.sources.precomputed import restricted_pickle
from tests.support import published

PAIRS, HELD_OUT = 12, 4


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace whose dataset mimic-1m has a few pairs."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "params.yaml").write_text((repository / "params.yaml").read_text())
    rows = [
        row
        for source in ("phone", "rooms")
        for row in published.publish_pairs(root, source, ["a.mp4", "b.mp4", "c.mp4"], 2)
    ]
    write_table(
        pa.Table.from_pylist(rows, schema=MANIFEST), storage.Workspace(root).manifest("mimic-1m")
    )
    return root


@pytest.fixture(scope="module")
def rows(workspace: Path) -> dict[str, dict]:
    return {
        row["key"]: row
        for row in iter_rows(storage.Workspace(workspace).manifest("mimic-1m"), MANIFEST)
    }


def _export(workspace: Path, form: str, out: Path) -> Path:
    command = [
        "export",
        "mimic-1m",
        "--format",
        form,
        "--out",
        str(out),
        "--params",
        str(workspace / "params.yaml"),
        "--pairs-per-file",
        "3",
    ]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    return out


def _images(workspace: Path, row: dict) -> list[bytes]:
    return [
        read_bytes(workspace / row["shard"], row[f"offset_{side}"], row[f"size_{side}"])
        for side in "ab"
    ]


def test_released_folders_are_read_back(
    workspace: Path, rows: dict[str, dict], tmp_path: Path
) -> None:
    out = _export(workspace, "mimic", tmp_path / "out")
    listed = {}
    for split, count in (("train", PAIRS - HELD_OUT), ("validation", HELD_OUT)):
        with (out / f"{split}.csv").open(newline="") as file:
            listed[split] = list(csv.DictReader(file))
        assert len(listed[split]) == count
    for split, row in [(row["split"], row) for row in rows.values()]:
        entry = listed[split].pop(0)
        assert [(out / entry[name]).read_bytes() for name in ("path1", "path2")] == _images(
            workspace, row
        )
        expected = {
            patch: target for patch, target in enumerate(row["correspondences"]) if target >= 0
        }
        data = (out / entry["correspondence"]).read_bytes()
        assert restricted_pickle.read_patch_map(data, len(row["correspondences"])) == expected
        assert np.load(io.BytesIO(data), allow_pickle=True).item() == expected


def test_released_folders_are_a_source_again(
    workspace: Path, rows: dict[str, dict], tmp_path: Path
) -> None:
    out = _export(workspace, "mimic", tmp_path / "out")
    place: dict[str, Any] = {
        "root": out,
        "tracked_by": out,
        "licence": "x",
        "sharpness_min": 0,
        "limit_clips": None,
    }
    section = config.Released(reader="released", index=Path("train.csv"), **place)
    source = sources.open_source("again", section, Path(), 224)
    found = [
        group for clip in source.clips() for group in source.groups(clip, np.random.default_rng(0))
    ]
    train = [row for row in rows.values() if row["split"] == "train"]
    assert len(found) == len(train)
    assert [group.views[0].key.split("/")[0] for group in found] == [row["source"] for row in train]


def test_webdataset_tars_are_read_back(
    workspace: Path, rows: dict[str, dict], tmp_path: Path
) -> None:
    out = _export(workspace, "webdataset", tmp_path / "out")
    assert sorted(path.name for path in out.glob("*.tar")) == [
        *(f"train-0000{n}.tar" for n in range(3)),
        "validation-00000.tar",
        "validation-00001.tar",
    ]
    tars = [str(path) for path in sorted(out.glob("*.tar"))]
    found: dict[str, dict[str, bytes]] = {
        sample["__key__"]: sample for sample in webdataset.WebDataset(tars, shardshuffle=False)
    }
    assert list(found) == sorted(rows, key=lambda key: (rows[key]["split"], list(rows).index(key)))
    for key, sample in found.items():
        assert [sample["a.jpg"], sample["b.jpg"]] == _images(workspace, rows[key])
        known = json.loads(sample["json"])
        assert known == {
            name: value
            for name, value in rows[key].items()
            if name not in ("shard", "offset_a", "size_a", "offset_b", "size_b")
        }


def test_hugging_face_parquet_is_read_back(
    workspace: Path, rows: dict[str, dict], tmp_path: Path
) -> None:
    out = _export(workspace, "huggingface", tmp_path / "out")
    files = sorted(out.glob("data/*.parquet"))
    assert [pq.read_metadata(file).num_rows for file in files] == [3, 3, 2, 3, 1]
    for file in files:
        for found in pq.read_table(file).to_pylist():
            row = rows[found["key"]]
            assert [found[f"image_{side}"]["bytes"] for side in "ab"] == _images(workspace, row)
            assert found["correspondences"] == row["correspondences"]
            assert found["licence"] == row["licence"]
            assert file.name.startswith(row["split"])


def test_hugging_face_opens_it(
    workspace: Path, rows: dict[str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    out = _export(workspace, "huggingface", tmp_path / "out")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in loaded.items()} == {
        "train": PAIRS - HELD_OUT,
        "validation": HELD_OUT,
    }
    first = loaded["train"][0]
    row = rows[first["key"]]
    shown = np.asarray(first["image_a"].convert("RGB"))
    assert (
        np.abs(
            shown.astype(int) - read_image(workspace / row["shard"], row["offset_a"], row["size_a"])
        ).mean()
        < 2
    )
    assert first["correspondences"] == row["correspondences"]
    assert first["dhash_a"] == row["dhash_a"]


@pytest.mark.parametrize("form", ["mimic", "webdataset", "huggingface"])
def test_the_card_says_what_it_is_and_under_which_terms(
    workspace: Path, rows: dict[str, dict], tmp_path: Path, form: str
) -> None:
    text = (_export(workspace, form, tmp_path / "out") / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "other"
    assert head["size_categories"] == ["n<1K"]
    assert storage.file_digest(storage.Workspace(workspace).manifest("mimic-1m")) in text
    assert f"{PAIRS} pairs" in text
    for row in rows.values():
        assert f"| {row['source']} |" in text
        assert f"| {row['licence']} |" in text


def test_a_folder_that_holds_something_is_left_alone(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(
        BadInput, match="holds precious, which is no earlier result .*name another place"
    ):
        export.main(
            load_params(workspace / "params.yaml"),
            workspace,
            "mimic-1m",
            "webdataset",
            tmp_path,
            10,
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious"]


def test_an_export_that_fails_leaves_nothing(
    workspace: Path, rows: dict[str, dict], tmp_path: Path
) -> None:
    """The last shard ends before its last image."""
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    shard = copy / list(rows.values())[-1]["shard"]
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(BadInput, match="damaged"):
        export.main(
            load_params(copy / "params.yaml"), copy, "mimic-1m", "mimic", folder / "out", 10
        )
    assert list(folder.iterdir()) == []


def test_a_dataset_that_is_not_assembled_says_so(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"mimic-3m.parquet: no such file; run the stage that makes it"
    ):
        export.main(
            load_params(workspace / "params.yaml"),
            workspace,
            "mimic-3m",
            "mimic",
            tmp_path / "out",
            10,
        )


def test_a_dataset_without_pairs_is_no_export(workspace: Path, tmp_path: Path) -> None:
    manifest = storage.Workspace(workspace).manifest("mimic-3m")
    write_table(MANIFEST.empty_table(), manifest)
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=r"export mimic-3m: it holds no pair; see metrics/assemble"):
        export.main(load_params(workspace / "params.yaml"), workspace, "mimic-3m", "mimic", out, 10)
    manifest.unlink()
    assert not out.exists()


def test_shards_of_the_store_are_exported_as_those_of_the_workspace(
    workspace: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(workspace / "data/manifests", bare / "data/manifests")
    whole = yaml.safe_load((workspace / "params.yaml").read_text())
    (bare / "params.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(BadInput, match="no such shard"):
        export.main(
            load_params(bare / "params.yaml"), bare, "mimic-1m", "webdataset", tmp_path / "none", 3
        )
    whole["cluster"]["shards"] = {"url": f"file://{workspace}", "cache": "cache", "cache_gb": 1.0}
    (bare / "params.yaml").write_text(yaml.safe_dump(whole))
    expected = _export(workspace, "webdataset", tmp_path / "here")
    found = _export(bare, "webdataset", tmp_path / "there")
    names = sorted(path.relative_to(found) for path in found.rglob("*") if path.is_file())
    assert names
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
