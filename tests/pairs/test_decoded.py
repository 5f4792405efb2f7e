"""Images decoded once: the same bytes as decoding gives, shared, bounded, and a training that does
not know the difference."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mimic import config
from mimic.pairs import decoded
from mimic.pairs.decoded import DecodedPairs, decoded_once
from mimic.pairs.images import DIGESTS, PIXELS, PairImages, read_manifest
from mimic.params import load_params
from mimic.training.pair_batches import decoded_at
from tests.support import toy_pairs, toy_runs

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (16, 16)


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    manifest = toy_pairs.write_dataset(tmp_path, "toy", pairs=6, size_px=32, seed=0)
    return read_manifest(manifest, "train", [*PIXELS, *DIGESTS])


def kept(tmp_path: Path, rows: pd.DataFrame, size: tuple[int, int] = SIZE) -> DecodedPairs:
    found = decoded_once(PairImages(rows, tmp_path, size), rows, tmp_path / "kept", workers=2)
    assert isinstance(found, DecodedPairs)
    return found


def test_the_bytes_are_those_that_decoding_gives(tmp_path: Path, rows: pd.DataFrame) -> None:
    plain = PairImages(rows, tmp_path, SIZE)
    once = kept(tmp_path, rows)
    pairs = np.array([4, 0, 4])
    singles = np.array([11, 0, 3])
    assert torch.equal(once.pairs(pairs), plain.pairs(pairs))
    assert torch.equal(once.singles(singles), plain.singles(singles))
    assert (len(once), once.size_px) == (len(plain), plain.size_px)


def test_the_second_time_no_shard_is_read(tmp_path: Path, rows: pd.DataFrame) -> None:
    first = kept(tmp_path, rows).pairs(np.arange(6))
    for tar in tmp_path.rglob("*.tar"):
        tar.unlink()
    assert torch.equal(kept(tmp_path, rows).pairs(np.arange(6)), first)


def test_other_images_or_another_size_are_another_file(tmp_path: Path, rows: pd.DataFrame) -> None:
    kept(tmp_path, rows)
    kept(tmp_path, rows, (24, 24))
    kept(tmp_path, rows.iloc[:4].reset_index(drop=True))
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 3


def test_the_folder_stays_below_its_limit(
    tmp_path: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 6 * 2 * 16 * 16 * 3
    monkeypatch.setattr(decoded, "LIMIT_BYTES", int(2.9 * one))
    kept(tmp_path, rows)
    oldest = next((tmp_path / "kept").glob("*.npy"))
    os.utime(oldest, (0, 0))
    kept(tmp_path, rows.iloc[::-1].reset_index(drop=True))
    kept(tmp_path, rows.iloc[[1, 0, 2, 3, 4, 5]].reset_index(drop=True))
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 2
    assert not oldest.exists()
    large = PairImages(rows, tmp_path, (64, 64))
    assert decoded_once(large, rows, tmp_path / "kept", workers=0) is large


def test_a_training_is_the_same_to_the_last_bit(tmp_path: Path, repository: Path) -> None:
    """Where the model sees whole images, nothing but the time that decoding takes changes."""
    workspace = toy_runs.write_workspace(tmp_path, repository)
    plain = load_file(toy_runs.run(workspace, "croco") / "model.safetensors")
    toy_runs.change(workspace, "pretrain", "croco", decode_px=toy_runs.TINY["size_px"])
    once = load_file(toy_runs.run(workspace, "croco") / "model.safetensors")
    assert list((workspace / "runs/decoded").glob("*.npy"))
    assert all(torch.equal(once[name], tensor) for name, tensor in plain.items())


def test_crops_are_cut_from_what_is_kept(tmp_path: Path, repository: Path) -> None:
    workspace = toy_runs.write_workspace(tmp_path, repository)
    toy_runs.change(workspace, "pretrain", "cropped", model=toy_runs.TINY | {"size_px": 16})
    recipe = load_params(workspace / "params.yaml").pretrain["cropped"]
    assert decoded_at(recipe) is None
    toy_runs.change(workspace, "pretrain", "cropped", decode_px=24)
    assert decoded_at(load_params(workspace / "params.yaml").pretrain["cropped"]) == (24, 24)
    toy_runs.run(workspace, "cropped")
    (file,) = (workspace / "runs/decoded").glob("*.npy")
    assert np.load(file).shape == (20, 2, 24, 24, 3)


def test_a_recipe_that_does_not_state_it_is_written_as_before(repository: Path) -> None:
    recipe = load_params(repository / "params.yaml").recipe("croco-1m")
    written = recipe.model_dump(mode="json")
    assert "decode_px" not in written
    assert config.Recipe.model_validate(written) == recipe
    stated = config.Recipe.model_validate(written | {"decode_px": 64})
    assert config.Recipe.model_validate(stated.model_dump(mode="json")) == stated


@pytest.mark.parametrize(
    ("crop", "decode_px", "complaint"),
    [("none", 96, "without a crop"), ("resized", 48, "smaller than the model's")],
)
def test_sizes_that_make_no_sense_are_refused(
    repository: Path, crop: str, decode_px: int, complaint: str
) -> None:
    raw = load_params(repository / "params.yaml").recipe("croco-1m").model_dump(mode="json")
    raw["augment"]["crop"] = crop
    with pytest.raises(ValidationError, match=complaint):
        config.Recipe.model_validate(raw | {"decode_px": decode_px})
