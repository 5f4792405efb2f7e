"""A run with several seeds: each a training like one of its own, all published at once; a finished
one is never trained again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from mimic import pretrain
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.params import load_params
from mimic.params.trainings import plan_training
from tests.support import toy_runs
from tests.support.toy_runs import run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Path:
    return toy_runs.write_workspace(tmp_path, repository)


def give(workspace: Path, name: str, seeds: list[int], **values: Any) -> None:
    """State the seeds of a run."""
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["runs"][name].pop("seed", None)
    raw["runs"][name] |= {"seeds": seeds, **values}
    path.write_text(yaml.safe_dump(raw))


def trained_now(workspace: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that a call of the stage trains."""
    seeds = []
    real = pretrain.run_training

    def watching(function: Any, description: Any, *rest: Any) -> Any:
        seeds.append(description["run"]["seed"])
        return real(function, description, *rest)

    monkeypatch.setattr(pretrain, "run_training", watching)
    run(workspace, name)
    monkeypatch.setattr(pretrain, "run_training", real)
    return seeds


def weights(folder: Path) -> dict[str, Any]:
    return {key: value.tolist() for key, value in load_file(folder / "encoder.safetensors").items()}


def test_each_seed_is_the_encoder_that_a_run_of_its_own_gives(workspace: Path) -> None:
    alone = weights(run(workspace, "croco"))
    give(workspace, "croco", [3, 0])
    run(workspace, "croco")
    found = Workspace(workspace).encoders("croco")
    assert list(found) == ["croco/seed-0", "croco/seed-3"]
    assert weights(found["croco/seed-0"]) == alone != weights(found["croco/seed-3"])
    for seed, (name, folder) in zip((0, 3), found.items(), strict=True):
        card = json.loads((folder / "card.json").read_text())
        assert (card["run"], card["seed"], card["steps"]) == (name, seed, 10)
        assert card["sections"]["run"]["seed"] == seed
        assert (folder / "reconstruction.png").is_file()
        with safe_open(folder / "encoder.safetensors", "pt") as file:
            assert file.metadata()
    assert sorted(path.name for path in (workspace / "models/croco").iterdir()) == [
        ".mimic.json",
        "seed-0",
        "seed-3",
    ]


def test_a_seed_more_trains_only_that_seed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    give(workspace, "mae", [0, 1])
    assert trained_now(workspace, "mae", monkeypatch) == [0, 1]
    before = toy_runs.files(workspace / "models/mae/seed-1")
    shutil.rmtree(workspace / "models/mae")  # as DVC does before it runs a stage again
    give(workspace, "mae", [0, 1, 2])
    capfd.readouterr()
    assert trained_now(workspace, "mae", monkeypatch) == [2]
    said = capfd.readouterr().err
    assert "pretrain mae/seed-1: kept" in said
    assert "starts from step 0" not in said
    assert toy_runs.files(workspace / "models/mae/seed-1") == before
    give(workspace, "mae", [2])
    assert trained_now(workspace, "mae", monkeypatch) == []
    assert list(Workspace(workspace).encoders("mae")) == ["mae/seed-2"]


def test_a_changed_number_trains_every_seed_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(workspace, "mae", [0, 1])
    run(workspace, "mae")
    give(workspace, "mae", [0, 1], steps=12)
    assert trained_now(workspace, "mae", monkeypatch) == [0, 1]


def test_a_kept_seed_that_lacks_a_file_is_trained_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(workspace, "mae", [0, 1])
    run(workspace, "mae")
    (kept,) = workspace.glob("runs/pretrain/mae/seed-1/*/published/model.safetensors")
    kept.unlink()
    assert trained_now(workspace, "mae", monkeypatch) == [1]


def test_seeds_of_no_steps_are_several_initialisations(workspace: Path) -> None:
    give(workspace, "random", [0, 1])
    run(workspace, "random")
    one, other = map(weights, Workspace(workspace).encoders("random").values())
    assert one != other


def test_a_sweep_trains_every_seed_and_the_stage_publishes_them(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(workspace, "mae", [0, 1])
    trained = pretrain.sweep(load_params(workspace / "params.yaml"), workspace, ["mae", "random"])
    assert trained == ["mae/seed-0", "mae/seed-1"]
    assert trained_now(workspace, "mae", monkeypatch) == []
    assert len(Workspace(workspace).encoders("mae")) == 2


def test_one_seed_and_several_replace_each_other(workspace: Path) -> None:
    run(workspace, "mae")
    give(workspace, "mae", [0, 1])
    run(workspace, "mae")
    assert len(Workspace(workspace).encoders("mae")) == 2
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["runs"]["mae"] = {"recipe": "mae", "dataset": "toy", "steps": 10, "seed": 1}
    path.write_text(yaml.safe_dump(raw))
    run(workspace, "mae")
    assert list(Workspace(workspace).encoders("mae")) == ["mae"]


def test_snapshots_that_are_asked_for_later_are_made(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They decide no weight, but files that are published; threads that decode decide neither."""
    give(workspace, "mae", [0, 1])
    run(workspace, "mae")
    toy_runs.change(workspace, "pretrain", "mae", save_every=2, keep_every=2)
    assert trained_now(workspace, "mae", monkeypatch) == [0, 1]
    for folder in Workspace(workspace).encoders("mae").values():
        steps = sorted(int(path.name) for path in (folder / "snapshots").iterdir())
        assert steps == [4, 8]
    toy_runs.change(workspace, "pretrain", "mae", workers=3, device_batch=2)
    assert trained_now(workspace, "mae", monkeypatch) == []


def test_a_manifest_that_is_made_anew_meanwhile_is_not_trained_on(workspace: Path) -> None:
    """Seeds are planned together, and the second may begin hours later."""
    params = load_params(workspace / "params.yaml")
    plan = plan_training(params, workspace, "mae")
    manifest = workspace / "data/manifests/toy.parquet"
    pq.write_table(pq.read_table(manifest).slice(0, 6), manifest)
    with pytest.raises(BadInput, match=r"toy\.parquet: was made anew while pretrain mae waited"):
        pretrain._trained(params, workspace, "mae", plan)
