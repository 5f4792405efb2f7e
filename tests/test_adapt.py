"""Runs that start from weights: what they take, that it is said, and that nothing else of a run
changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import mimic
from mimic import pretrain, recipe
from mimic.cli import app
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, file_digest
from mimic.infra.tracking import trained as pretrainings
from mimic.infra.tracking.records import Record
from mimic.params import load_params
from mimic.params.trainings import plan_training
from mimic.training import checkpoint, journal
from mimic.training.encoder_folder import write_card
from mimic.training.start import initial_model, lines
from tests.support import toy_runs
from tests.support.toy_runs import TINY, change, files, run

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_what_was_taken_is_said_and_recorded(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = {"size_px": [16, 24], "class_token": False}
    augment = {"swap": 0.0, "crop": "window", "crop_area": [0.2, 1.0], "flip": 0.0, "jitter": 0.0}
    adapt(workspace, "own", "mae", "croco", model=TINY | wide, augment=augment)
    init = card_of(run(workspace, "own"))["init"]
    said = capsys.readouterr().err
    assert "pretrain own: starts from mae: 29 tensors of the encoder; positions recomputed" in said
    assert "from 4 x 4 to 2 x 3 patches (by the sine-cosine formula)" in said
    assert "its class token is dropped, as the recipe has none" in said
    assert "pretrain own: decoder: 20 tensors taken, 12 fresh (attention to the other view" in said
    assert (init["name"], init["steps"], init["class_token"]) == ("mae", 10, "dropped")
    assert init["positions"]["from"] == [4, 4]
    assert init["positions"]["to"] == [2, 3]
    assert init["fresh"] == {"decoder.blocks": 12}
    assert sum(init["taken"].values()) == 49
    adapt(workspace, "again", "own", "croco", model=TINY | wide, augment=augment, steps=0)
    again = card_of(run(workspace, "again"))["init"]
    assert again["before"] == init
    assert len(lines(again)) == 2


def test_a_killed_run_ends_with_the_same_files(workspace: Path) -> None:
    """Whatever it takes at the start, it goes on from its own checkpoint."""
    values = {"steps": 7, "save_every": 2, "layer_decay": 0.6}
    adapt(workspace, "own", "mae", "croco", **values)
    straight = files(run(workspace, "own"))
    shutil.rmtree(workspace / "models/own")
    with toy_runs.killed_after(5):
        run(workspace, "own")
    assert not (workspace / "models/own").exists()
    assert list(workspace.glob("runs/pretrain/own/*/step-000000004.pt"))
    assert files(run(workspace, "own")) == straight


def test_other_weights_make_another_run(workspace: Path) -> None:
    adapt(workspace, "own", "mae", "mae")
    first = files(run(workspace, "own"))
    assert files(run(workspace, "own")) == first
    folder = workspace / "models/mae"
    weights = load_file(folder / "model.safetensors")
    weights["encoder.norm.bias"] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"its sha256 is not that of card\.json"):
        run(workspace, "own")
    write_card(folder, json.loads((folder / "card.json").read_text()))
    again = run(workspace, "own")
    assert files(again)["encoder.safetensors"] != first["encoder.safetensors"]
    assert len(list((workspace / "runs/pretrain/own").iterdir())) == 2
    assert card_of(again)["init"]["sha256"] == file_digest(folder / "model.safetensors")


def test_a_recipe_of_a_later_link_does_not_wait_for_the_weights_of_an_earlier(
    workspace: Path,
) -> None:
    """A number of the encoder is changed for all three: DVC writes the last recipe first."""
    adapt(workspace, "own", "mae", "mae")
    adapt(workspace, "longer", "own", "mae")
    run(workspace, "own")
    change(workspace, "pretrain", "mae", model=TINY | {"width": 48, "heads": 3})
    recipe.main(load_params(workspace / "params.yaml"), workspace, "longer")
    written = json.loads(Workspace(workspace).recipe("longer").read_text())
    assert written["recipe"]["model"]["width"] == 48


def test_weights_that_change_meanwhile_are_not_taken(workspace: Path) -> None:
    adapt(workspace, "own", "mae", "mae")
    params = load_params(workspace / "params.yaml")
    plan = plan_training(params, workspace, "own")
    (workspace / "models/mae/model.safetensors").write_bytes(b"other")
    with pytest.raises(BadInput, match=r"models/mae: was made anew while"):
        pretrain._trained(params, workspace, "own", plan)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"init": "v2", "recipe": "v2"},
            r"models/v2: there are no weights to start from; .* mimic pretrain v2",
        ),
        ({"init": "mae-in"}, r"models/mae-in: there are no weights .* mimic import-weights FILE"),
        ({"optimizer": "continued"}, r"models/mae: keeps no optimizer to go on with"),
    ],
)
def test_what_is_not_there_is_one_line(
    workspace: Path, values: dict[str, Any], message: str
) -> None:
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("imported: []", "imported: [mae-in]"))
    recipe_of = {"init": "mae", "recipe": "mae"} | values
    adapt(workspace, "own", **recipe_of)
    with pytest.raises(BadInput, match=rf"^[^\n]*{message}[^\n]*$"):
        run(workspace, "own")
    assert not (workspace / "models/own").exists()


def test_another_encoder_is_one_line_that_says_what_would_fit(workspace: Path) -> None:
    """Of a run, when the parameters are read; of an import, before anything is trained."""
    other = TINY | {"width": 48, "heads": 3, "patch_px": 16}
    adapt(workspace, "own", "mae", "mae", model=other)
    advice = r"add `model: \{patch_px: 8, width: 32, heads: 2\}` to the entry"
    with pytest.raises(BadInput, match=rf"adapt\.own\.init: the encoder of mae has .*{advice}$"):
        load_params(workspace / "params.yaml")
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("imported: []", "imported: [mae-in]"))
    shutil.copytree(workspace / "models/mae", workspace / "models/mae-in")
    raw = yaml.safe_load(path.read_text())
    raw["adapt"]["own"]["init"] = "mae-in"
    path.write_text(yaml.safe_dump(raw))
    params = load_params(path)
    for stage in (recipe.main, pretrain.main):
        with pytest.raises(BadInput, match=rf"adapt\.own: the encoder of mae-in has .*{advice}$"):
            stage(params, workspace, "own")
    change(workspace, "adapt", "own", model=TINY | {"class_token": True})
    recipe.main(load_params(path), workspace, "own")
    assert run(workspace, "own").exists()


def test_each_seed_starts_from_the_same_seed(workspace: Path) -> None:
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["runs"]["two"] = {"recipe": "croco", "dataset": "toy", "steps": 2, "seeds": [0, 1]}
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    run(workspace, "two")
    adapt(workspace, "own", "two", "croco", seed=None, seeds=[1, 0], steps=1)
    adapt(workspace, "one", "two/seed-1", "croco", seed=None, seeds=[0, 5], steps=1)
    for name, starts in (("own", {0: 0, 1: 1}), ("one", {0: 1, 5: 1})):
        folder = run(workspace, name)
        for seed, start in starts.items():
            card = card_of(folder / f"seed-{seed}")
            assert card["init"]["name"] == f"two/seed-{start}"
    for init, message in (
        ("two", r"two has the seeds 0, 1 and no 5; name one, init: two/seed-0"),
        ("two/seed-7", r"two has the seeds 0, 1 and no 7"),
        ("croco/seed-0", r"croco has one seed; say init: croco"),
    ):
        change(workspace, "adapt", "one", init=init)
        with pytest.raises(BadInput, match=message):
            load_params(workspace / "params.yaml")


def test_a_sweep_trains_it_too(workspace: Path) -> None:
    adapt(workspace, "own", "mae", "croco")
    alone = files(run(workspace, "own"))
    shutil.rmtree(workspace / "models/own")
    toy_runs.forget_trained(workspace, "own")
    params = load_params(workspace / "params.yaml")
    assert pretrain.sweep(params, workspace, ["own"]) == ["own"]
    assert files(run(workspace, "own")) == alone


def test_a_sweep_leaves_what_starts_from_a_run_that_is_not_published(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt(workspace, "own", "v2", "v2")
    adapt(workspace, "longer", "own", "v2")
    params = load_params(workspace / "params.yaml")
    assert pretrain.sweep(params, workspace, ["longer", "own", "v2"]) == ["v2"]
    said = capsys.readouterr().err
    assert "sweep own: waits for v2 to be published; then: mimic sweep own" in said
    assert "sweep longer: waits for own to be published" in said
    run(workspace, "v2")
    assert pretrain.sweep(params, workspace, ["own", "longer"]) == ["own"]
    run(workspace, "own")
    change(workspace, "runs", "v2", steps=3)  # it is to be made anew, so the other waits
    params = load_params(workspace / "params.yaml")
    assert pretrain.sweep(params, workspace, ["v2", "own"]) == ["v2"]
    assert "sweep own: waits for v2" in capsys.readouterr().err


def recorded(workspace: Path, name: str) -> Record:
    card = json.loads((workspace / "models" / name / "card.json").read_text())
    return pretrainings.record(Workspace(workspace), name, card)


def test_mlflow_and_the_plan_know_it(workspace: Path) -> None:
    adapt(workspace, "own", "mae", "croco")
    run(workspace, "own")
    record = recorded(workspace, "own")
    assert record.tags["init"] == "mae"
    assert record.params["init.name"] == "mae"
    assert record.params["init.class_token"] == "dropped"
    assert record.params["init.taken.encoder.blocks"] == "24"
    assert "init" not in recorded(workspace, "mae").tags
    (workspace / "rates.json").write_text('{"device_gflops": 100}')
    words = ["plan", "pretrain", "--json", "--rates", str(workspace / "rates.json")]
    done = CliRunner().invoke(app, [*words, "--params", str(workspace / "params.yaml")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["runs"]["own"]["pairs_seen"] == 4 * 8


def test_it_begins_lower_and_stays_lower_than_from_random_weights(workspace: Path) -> None:
    """At equal steps, on the same batches."""
    adapt(workspace, "own", "croco", "croco", steps=10)
    afresh, begun = (
        [line["loss"] for line in journal.read(folder / "log.jsonl")]
        for folder in (workspace / "models/croco", run(workspace, "own"))
    )
    assert begun[0] < afresh[0]
    assert begun[-1] < afresh[-1]
