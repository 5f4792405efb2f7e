"""Runs that start from weights: what they take, that it is said, and that nothing else of a run
changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import mimic
from mimic.infra.storage import file_digest
from mimic.params import load_params
from mimic.training import checkpoint, journal
from mimic.training.start import initial_model
from tests.support import toy_runs
from tests.support.toy_runs import run


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace with runs to start from."""
    root = toy_runs.write_workspace(tmp_path_factory.mktemp("adapt"), repository)
    for name in ("mae", "croco"):
        run(root, name)
    return root


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "workspace"))


def adapt(workspace: Path, name: str, init: str, recipe: str, **values: Any) -> None:
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    entry = {
        "init": init,
        "recipe": recipe,
        "dataset": "toy",
        "steps": 4,
        "seed": 0,
        "log_every": 1,
    }
    raw["adapt"][name] = entry | values
    path.write_text(yaml.safe_dump(raw))


def card_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "card.json").read_text()))


def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), np.uint8))


@pytest.mark.parametrize("init", ["mae", "croco"])
def test_zero_steps_are_what_was_taken(workspace: Path, init: str) -> None:
    adapt(workspace, "own", init, init, steps=0, seed=5)
    folder = run(workspace, "own")
    there, here = (
        mimic.extract_features(mimic.load_encoder(workspace / "models" / name), pictures())
        for name in (init, "own")
    )
    assert np.array_equal(there, here)
    assert card_of(folder)["init"]["sha256"] == file_digest(
        workspace / f"models/{init}/model.safetensors"
    )
    whole, start = (
        load_file(workspace / "models" / name / "model.safetensors") for name in ("own", init)
    )
    assert all(torch.equal(whole[key], start[key]) for key in start)


def test_the_first_step_goes_on_where_the_run_ended(workspace: Path) -> None:
    """The loss of a step is that of the weights before it: at first, of the weights taken."""
    adapt(workspace, "on", "croco", "croco", steps=1)
    losses = [line["loss"] for line in journal.read(run(workspace, "on") / "log.jsonl")]
    params = load_params(workspace / "params.yaml")
    ended = checkpoint.load_model(workspace / "models/croco")
    assert losses == pytest.approx([first_loss(params, workspace, ended)], rel=1e-6)
    afresh = initial_model(params.recipe("on"), params.runs["croco"])
    assert losses[0] < first_loss(params, workspace, afresh)


def first_loss(params: Any, root: Path, model: Any) -> float:
    """Of a model, on the first batch of the run `on`."""
    from mimic.pairs.images import PIXELS, open_pairs, read_manifest
    from mimic.training.fit import FULL_BATCH
    from mimic.training.pair_batches import decoded_at, loader, step_loss

    recipe = params.recipe("on")
    rows = read_manifest(root / "data/manifests/toy.parquet", "train", PIXELS)
    images = open_pairs(rows, root, decoded_at(recipe), params.cluster.shards)
    (batch,) = loader(model, rows, images, recipe, 0, FULL_BATCH)(0)
    with torch.no_grad():
        return float(step_loss(recipe, torch.device("cpu"), model.train(), batch))
