"""Tasks on pairs of ours read shards from a store as training does, where the workspace holds a
manifest alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mimic.config import Shards
from mimic.errors import BadInput
from mimic.params import load_params, resolve_params
from mimic.tasks import run_task
from mimic.training.checkpoint import load_encoder
from tests.support.miniatures import as_subject, folders_in, write_dataset
from tests.tasks.correspondence.test_cross_attention import publish_model


@pytest.mark.parametrize("name", ["correspondence", "cross-attention", "reconstruction"])
def test_a_workspace_without_images_is_measured_from_the_store(
    tmp_path: Path, repository: Path, name: str
) -> None:
    full, bare = tmp_path / "full", tmp_path / "bare"
    write_dataset(full, pairs=6)
    shutil.copytree(full / "data/manifests", bare / "data/manifests")
    folder = publish_model(tmp_path / "croco")
    for root in (full, bare):
        publish_model(root / "models/judge")
    raw = resolve_params(repository / "params.yaml").full()["evaluate"]
    key = next(key for key, entry in raw.items() if entry["task"] == name)
    section = load_params(repository / "params.yaml").evaluate[key]
    same = {"dataset": "toy", "features_of": "judge", "pairs": 6, "split": "validation"}
    section = section.model_copy(
        update={
            field: value for field, value in same.items() if field in type(section).model_fields
        }
    )
    model = replace(as_subject(load_encoder(folder)[0]), folder=folder)
    expected = run_task(section, model, folders_in(full))
    store = Shards(url=f"file://{full}", cache=Path("cache"), cache_gb=1.0)
    found = run_task(section, model, replace(folders_in(bare), shards=store))
    assert found.metrics == expected.metrics
    shutil.rmtree(bare / "cache")
    with pytest.raises(BadInput, match="no such shard"):
        run_task(section, model, folders_in(bare))
