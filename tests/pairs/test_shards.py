from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import cv2
import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mimic.errors import BadInput
from mimic.pairs.read import iter_rows, read_bytes, read_image, read_table
from mimic.pairs.schema import PAIR, index_path, shards_in
from mimic.pairs.write import ROWS_AT_ONCE, encode_image, lay_out_shards, shard_writer
from tests.support import footage

IMAGES = [cv2.GaussianBlur(image, (0, 0), 2) for image in footage.pan(0, 6, 32)]


def _row(key: str) -> dict:
    return {
        "key": key,
        "source": "phone",
        "clip": "a.mp4",
        "frame_a": "0.000",
        "frame_b": "1.000",
        "pose_a": None,
        "pose_b": np.eye(4).ravel().tolist(),
        "overlap": 0.6,
        "overlap_a_to_b": 0.6,
        "overlap_b_to_a": 0.7,
        "b_from_a": np.eye(3).ravel().tolist(),
        "matches": 50,
        "inliers": 40,
        "correspondences": [-1] * 196,
        "size_px": 224,
        "patch_px": 16,
        "licence": "Apache-2.0",
        "params_digest": "0",
        "versions": "{}",
    }


def _write(tar: Path, keys: tuple[str, ...] = ("p-0", "p-" + 120 * "x", "p-2")) -> Path:
    with shard_writer(tar) as writer:
        for number, key in enumerate(keys):
            writer.add(_row(key), *(encode_image(IMAGES[2 * number + side], 95) for side in (0, 1)))
    return tar


def test_any_image_is_one_read_at_its_offset(tmp_path: Path) -> None:
    tar = _write(tmp_path / "shard-00000.tar")
    members = {member.name: member for member in tarfile.open(tar)}  # noqa: SIM115
    for number, row in enumerate(iter_rows(index_path(tar))):
        for side, name in enumerate(("a", "b")):
            data = read_bytes(tar, row[f"offset_{name}"], row[f"size_{name}"])
            assert members[f"{row['key']}.{name}.jpg"].offset_data == row[f"offset_{name}"]
            assert hashlib.sha256(data).hexdigest() == row[f"sha_{name}"]
            image = read_image(tar, row[f"offset_{name}"], row[f"size_{name}"])
            assert (
                np.abs(image.astype(int) - IMAGES[2 * number + side]).mean() < 3
            )  # RGB in, RGB out
    assert row["pose_a"] is None
    assert row["pose_b"][5] == 1.0


def test_jpegs_are_subsampled_as_published(tmp_path: Path) -> None:
    data = encode_image(IMAGES[0], 95)
    start = data.index(b"\xff\xc0")
    assert [data[start + 11 + 3 * component] for component in range(3)] == [
        0x22,
        0x11,
        0x11,
    ]  # 4:2:0


def test_names_are_what_webdataset_groups_by(tmp_path: Path) -> None:
    names = tarfile.open(_write(tmp_path / "s.tar")).getnames()  # noqa: SIM115
    assert [name.split(".", 1)[1] for name in names] == ["a.jpg", "b.jpg"] * 3
    assert [name.split(".", 1)[0] for name in names[::2]] == [
        name.split(".", 1)[0] for name in names[1::2]
    ]


def test_equal_pairs_are_equal_bytes(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        _write(tmp_path / folder / "shard-00000.tar")
    for name in ("shard-00000.tar", "shard-00000.parquet"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_the_parquet_file_comes_last_and_only_when_all_went_well(tmp_path: Path) -> None:
    tar = tmp_path / "shard-00000.tar"

    def write_half() -> None:
        with shard_writer(tar) as writer:
            assert not index_path(tar).exists()  # it would vouch for a tar that is being replaced
            writer.add(_row("p-0"), b"x", b"y")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert list(tmp_path.iterdir()) == []
    _write(tar)
    with pytest.raises(RuntimeError, match="half way"):
        write_half()


def test_a_shard_without_pairs_is_no_file(tmp_path: Path) -> None:
    tar = _write(tmp_path / "s.tar")
    _write(tar, ())  # nor does an earlier one stay
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pairs", [1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1])
def test_no_row_group_is_empty(tmp_path: Path, pairs: int) -> None:
    with shard_writer(tmp_path / "s.tar") as writer:
        for number in range(pairs):
            writer.add(_row(f"p-{number}"), b"a", b"b")
    groups = pq.read_metadata(tmp_path / "s.parquet")
    sizes = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert sum(sizes) == pairs
    assert min(sizes) > 0


def test_a_folder_of_shards_is_what_others_read(tmp_path: Path) -> None:
    """pandas, datasets and the WebDataset convention, on the folder itself."""
    work = [_write(tmp_path / f"work/shard-{number:05}.tar", (f"p-{number}",)) for number in (3, 7)]
    out = tmp_path / "pairs"
    lay_out_shards(work, out)
    assert [tar.name for tar in shards_in(out)] == ["shard-00000.tar", "shard-00001.tar"]
    (out / "_about.json").write_text("{}")
    assert pd.read_parquet(out)["key"].tolist() == ["p-3", "p-7"]
    rows = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows["key"] == ["p-3", "p-7"]
    tars = {"train": f"{out}/_images/*.tar"}
    images = datasets.load_dataset(
        "webdataset", data_files=tars, cache_dir=str(tmp_path / "cache")
    )["train"]
    assert [sample["__key__"] for sample in images] == ["p-3", "p-7"]
    assert images[0]["a.jpg"].size == images[1]["b.jpg"].size == (224, 224)


def test_shards_as_they_were_laid_out_before_are_read(tmp_path: Path) -> None:
    """Tars beside the Parquet files, an empty one among them."""
    tar = _write(tmp_path / "shard-00001.tar")
    pq.write_table(PAIR.empty_table(), tmp_path / "shard-00000.parquet")
    tarfile.open(tmp_path / "shard-00000.tar", "w").close()
    found = shards_in(tmp_path)
    assert found == [tmp_path / "shard-00000.tar", tar]
    assert [read_table(index_path(one)).num_rows for one in found] == [0, 3]


def test_a_tar_that_gets_no_name_leaves_no_rows_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Parquet file vouches for the tar, so it comes after it, whatever ends the process in
    between."""
    real = os.replace

    def stop(source: Path, target: Path) -> None:
        if str(target).endswith(".tar"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "s.tar")
    assert list(tmp_path.iterdir()) == []


def test_damage_is_one_clear_line(tmp_path: Path) -> None:
    tar = _write(tmp_path / "shard-00000.tar")
    table = read_table(index_path(tar))
    pq.write_table(table.drop(["inliers"]), tmp_path / "other.parquet")
    with pytest.raises(
        BadInput, match=r"other.parquet: damaged \(column inliers is missing, expected int32\)"
    ):
        read_table(tmp_path / "other.parquet")
    whole = index_path(tar).read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"half.parquet: damaged \([^\n]+$"):
        read_table(tmp_path / "half.parquet")
    with pytest.raises(BadInput, match=r"no such file; run the stage"):
        read_table(tmp_path / "none.parquet")
    with pytest.raises(BadInput, match=r"damaged \(0 bytes"):
        read_image(tar, 10**9, 10)
    with pytest.raises(BadInput, match="no JPEG at 0"):
        read_image(tar, 0, 100)
    with pytest.raises(BadInput, match="no such shard"):
        read_bytes(tmp_path / "none.tar", 0, 1)


def test_a_tar_without_its_rows_is_told(tmp_path: Path) -> None:
    _write(tmp_path / "shard-00000.tar")
    (tmp_path / "shard-00001.tar").write_bytes(io.BytesIO().getvalue())
    with pytest.raises(BadInput, match="shard-00001 has a tar or a Parquet file but not both"):
        shards_in(tmp_path)
    with pytest.raises(BadInput, match="no such folder; mine the source first"):
        shards_in(tmp_path / "none")
