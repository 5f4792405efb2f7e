"""The pretrain stage from manifest to published encoder: killed, repeated, loaded elsewhere, and
given bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from mimic import pretrain
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.models import OBJECTIVES
from mimic.pairs.read import read_table
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from mimic.params import load_params
from mimic.training import checkpoint, journal, reconstruct
from tests.support import toy_runs
from tests.support.toy_runs import TINY, VARIANTS, change, files, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Path:
    return toy_runs.write_workspace(tmp_path, repository)


@pytest.mark.parametrize("name", [*VARIANTS, "random"])
def test_every_variant_trains_and_publishes(workspace: Path, name: str) -> None:
    folder = run(workspace, name)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".mimic.json",
        "card.json",
        "encoder.safetensors",
        "log.jsonl",
        "model.safetensors",
        "reconstruction.npz",
        "reconstruction.png",
    ]
    card = json.loads((folder / "card.json").read_text())
    assert (card["run"], card["dataset"], card["pairs"], card["seed"]) == (name, "toy", 20, 0)
    seen = [(part["part"], part["licence"]) for part in card["licences"]["parts"]]
    assert seen == ([("source toy", "Apache-2.0")] if card["steps"] else [])
    lines = journal.read(folder / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(2, card["steps"] + 1, 2))
    assert all(set(line) == {"step", "loss", "lr", "grad_norm"} for line in lines)
    recipe = load_params(workspace / "params.yaml").recipe(name)
    for path in (workspace / "runs/pretrain" / name).glob("*/log.jsonl"):
        for line in journal.read(path):
            samples = line["pairs_per_second"] * 2 / OBJECTIVES[recipe.objective].views
            assert line["gflops"] == pytest.approx(samples * recipe.sample_flops / 1e9)
    with np.load(folder / "reconstruction.npz") as pictures:
        height, width = card["model"]["size_px"]
        for column in ("view_a", "masked", "reconstruction", "view_b"):
            assert pictures[column].shape == (2, height, width, 3)
            assert pictures[column].dtype == np.uint8
        assert pictures["keys"].tolist() == ["toy-000020", "toy-000023"]
        assert "Held-out" in str(pictures["caption"])
        assert "true patch's are put back" in str(pictures["caption"])
    whole, encoder = (
        load_file(folder / "model.safetensors"),
        load_file(folder / "encoder.safetensors"),
    )
    assert all(torch.equal(whole[f"encoder.{key}"], tensor) for key, tensor in encoder.items())
    loaded, _ = checkpoint.load_encoder(folder)
    assert loaded.size_px == (height, width)
    assert not list(
        (workspace / "runs/pretrain" / name).glob("*/step-*")
    )  # published: nothing left to resume


def test_a_sweep_trains_and_leaves_publishing_to_each_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = files(run(workspace, "croco"))
    shutil.rmtree(workspace / "models")
    toy_runs.forget_trained(workspace, "croco")
    params = load_params(workspace / "params.yaml")
    assert pretrain.sweep(params, workspace, ["croco", "random", "mae"]) == ["croco", "mae"]
    assert pretrain.sweep(params, workspace, ["croco", "mae"]) == []
    assert not (workspace / "models").exists()
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "run_training", None)  # would be called
        assert files(run(workspace, "croco")) == alone


def test_an_encoder_that_is_gone_before_it_was_recorded_is_not_trained_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC removes models/<run> when it runs the stage; killed before it has recorded it, it asks
    for it again."""
    whole = files(run(workspace, "croco"))
    shutil.rmtree(workspace / "models")
    params = load_params(workspace / "params.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "run_training", None)  # would be called
        pretrain.main(params, workspace, "croco")
    assert files(workspace / "models/croco") == whole
    assert "pretrain croco: kept" in capsys.readouterr().err
    assert not list(workspace.glob("runs/pretrain/croco/*/step-*"))


@pytest.mark.parametrize(
    "name",
    ["encoder.safetensors", "reconstruction.npz", "card.json", ".kept.json", ".mimic.json"],
)
def test_a_kept_encoder_that_is_damaged_is_made_again(
    workspace: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    whole = files(run(workspace, "random"))
    (kept,) = workspace.glob(f"runs/pretrain/random/*/published/{name}")
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.unlink()
    if name != ".mimic.json":  # which nobody needs to take the rest
        kept.write_bytes(damaged)
    capsys.readouterr()
    pretrain.main(load_params(workspace / "params.yaml"), workspace, "random")
    assert files(workspace / "models/random") == whole
    said = capsys.readouterr().err
    assert ("pretrain random: trains again: " in said) == (name != ".mimic.json")


def test_only_the_encoder_of_the_last_numbers_is_kept(workspace: Path) -> None:
    run(workspace, "random")
    change(workspace, "runs", "random", seed=5)
    run(workspace, "random")
    assert len(list((workspace / "runs/pretrain/random").iterdir())) == 2
    (kept,) = workspace.glob("runs/pretrain/random/*/published")
    assert json.loads((kept / "card.json").read_text())["seed"] == 5


def test_what_is_published_already_is_left_alone(workspace: Path) -> None:
    """Another process, such as dvc, may be reading it."""
    folder = run(workspace, "random")
    before = folder.stat().st_ino
    pretrain.main(load_params(workspace / "params.yaml"), workspace, "random")
    assert folder.stat().st_ino == before
    (folder / "reconstruction.png").unlink()
    pretrain.main(load_params(workspace / "params.yaml"), workspace, "random")
    assert (folder / "reconstruction.png").exists()


def test_pairs_that_change_while_a_run_trains_are_not_those_of_its_card(workspace: Path) -> None:
    params = load_params(workspace / "params.yaml")
    manifest = workspace / "data/manifests/toy.parquet"
    real = reconstruct.held_out

    def changed(*given: Any) -> Any:
        write_table(read_table(manifest).slice(0, 6), manifest)
        return real(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruct, "held_out", changed)
        with pytest.raises(BadInput, match="was made anew while pretrain croco was under way"):
            pretrain.main(params, workspace, "croco")
    assert not (workspace / "models/croco").exists()
    assert list(workspace.glob("runs/pretrain/croco/*/step-*"))


def test_a_longer_run_says_that_it_starts_anew(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(workspace, "croco")
    assert "starts from step 0" not in capsys.readouterr().err
    change(workspace, "runs", "croco", steps=12)
    run(workspace, "croco")
    assert "pretrain croco: starts from step 0; other numbers, pairs" in capsys.readouterr().err


def test_pictures_on_the_way_change_no_weight(workspace: Path) -> None:
    plain = files(run(workspace, "croco"))
    change(workspace, "pretrain", "croco", pictures_every=2)
    assert files(run(workspace, "croco")) == plain
    pictures = sorted(workspace.glob("runs/pretrain/croco/*/pictures/*"))
    assert [path.name for path in pictures] == ["000000004.png", "000000008.png"]


def test_checkpoints_on_the_way_become_snapshots(workspace: Path) -> None:
    change(workspace, "pretrain", "croco", save_every=2, keep_every=2)
    folder = run(workspace, "croco")
    assert [path.name for path in sorted((folder / "snapshots").iterdir())] == [
        "000000004",
        "000000008",
    ]
    encoder, card = checkpoint.load_encoder(folder / "snapshots/000000004")
    assert (card["steps"], card["steps_in_all"]) == (4, 10)
    assert card["licences"]["parts"][0]["licence"] == "Apache-2.0"
    key = "blocks.0.attn.qkv.weight"
    last = checkpoint.load_encoder(folder)[0]
    assert not torch.equal(encoder.state_dict()[key], last.state_dict()[key])
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run(workspace, "croco")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == first


def test_pairs_whose_licence_is_not_asked_for_are_refused_before_any_step(
    workspace: Path,
) -> None:
    change(workspace, "pretrain", "croco", licences="permissive")
    manifest = Workspace(workspace).manifest("toy")
    rows = read_table(manifest, None, MANIFEST)
    names = pa.array(["HM3D"] * len(rows))
    write_table(rows.set_column(rows.column_names.index("licence"), "licence", names), manifest)
    with pytest.raises(BadInput, match=r"runs\.croco\.licences: .*source toy is 'HM3D'"):
        run(workspace, "croco")
    assert not list(workspace.glob("runs/pretrain/croco/*"))
    assert not Workspace(workspace).model("croco").exists()


@pytest.mark.parametrize("name", ["mae", "croco"])
def test_three_lines_load_it_into_timm(workspace: Path, name: str) -> None:
    import timm

    folder = run(workspace, name)

    card = json.load((folder / "card.json").open())
    vit = timm.models.VisionTransformer(**card["timm"]["kwargs"])
    vit.load_state_dict(load_file(folder / "encoder.safetensors"))

    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(
        vit.eval().forward_features(images), checkpoint.load_encoder(folder)[0](images), atol=1e-5
    )


def test_matched_patches_are_learned_from(workspace: Path) -> None:
    with_them = journal.read(run(workspace, "matched") / "log.jsonl")
    change(workspace, "pretrain", "matched", matching={"weight": 0.0, "temperature": 0.1})
    without = journal.read(run(workspace, "matched") / "log.jsonl")
    assert with_them[0]["loss"] > without[0]["loss"] + 0.1


def test_timm_is_not_promised_for_rotary_positions(workspace: Path) -> None:
    assert json.loads((run(workspace, "v2") / "card.json").read_text())["timm"] is None


def test_training_changes_every_weight_and_lowers_the_loss(workspace: Path) -> None:
    change(workspace, "runs", "croco", steps=60)
    change(workspace, "pretrain", "croco", base_lr=0.1)
    change(workspace, "pretrain", "croco", log_every=10)
    folder = run(workspace, "croco")
    losses = [line["loss"] for line in journal.read(folder / "log.jsonl")]
    assert losses[-1] < 0.9 * losses[0]
    start, end = (
        load_file(run(workspace, "random") / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert {key for key in start if torch.equal(start[key], end[key])} == {
        "encoder.pos_embed",
        "decoder.pos_embed",
    }


def test_running_again_gives_the_same_files(workspace: Path) -> None:
    first = files(run(workspace, "cropped"))
    for numbers in ({}, {"workers": 0, "save_every": 4, "keep": 1}):
        change(workspace, "pretrain", "cropped", **numbers)
        again = files(run(workspace, "cropped"))
        assert again == first


def test_a_checkpoint_of_other_numbers_is_not_resumed(workspace: Path) -> None:
    """Progress is kept by what made it: a changed number starts afresh instead of loading weights
    that do not fit."""
    run(workspace, "croco")
    change(workspace, "pretrain", "croco", model=TINY | {"width": 48, "heads": 3})
    folder = run(workspace, "croco")
    assert json.loads((folder / "card.json").read_text())["model"]["width"] == 48
    assert len(list((workspace / "runs/pretrain/croco").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        (
            "croco",
            {"mask_ratio": 0.01},
            r"params.yaml: recipe croco: mask_ratio 0.01 leaves 16 of 16 patches visible",
        ),
        (
            "wide",
            {"model": TINY | {"size_px": 64}},
            r"stored at \(32, 32\) px, smaller than the model's \(64, 64\)",
        ),
        ("croco", {"base_lr": 1e30}, "training stopped: .* not finite"),
        (
            "mae",
            {"matching": {"weight": 1.0, "temperature": 0.1}},
            "recipe mae: matching needs two views",
        ),
    ],
)
def test_bad_numbers_are_one_line_and_nothing_is_published(
    workspace: Path, name: str, numbers: dict[str, Any], message: str
) -> None:
    change(workspace, "pretrain", name, **numbers)
    with pytest.raises(BadInput, match=message) as info:
        run(workspace, name)
    assert "\n" not in str(info.value)
    assert not (workspace / "models" / name).exists()


def test_missing_input_is_one_line(workspace: Path) -> None:
    with pytest.raises(BadInput, match="no run named 'crocco'; did you mean 'croco'"):
        run(workspace, "crocco")
    (workspace / "data/manifests/toy.parquet").unlink()
    with pytest.raises(BadInput, match=r"toy\.parquet: no such file"):
        run(workspace, "croco")
