"""The pretrain stage from manifest to published encoder: killed, repeated, loaded elsewhere, and given bad input."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_pairs
import yaml
from safetensors.torch import load_file

from mimic import config, pretrain
from mimic.errors import BadInput
from mimic.training import checkpoint, journal

TINY = {
    "size_px": 32, "patch_px": 8, "width": 32, "depth": 2, "heads": 2, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2,
    "class_token": False, "positions": "sincos", "norm_eps": 1.0e-6,
}  # fmt: skip
SMALL = {"model": TINY, "batch": 8, "log_every": 2, "save_every": 3, "workers": 1, "samples": 2, "precision": "fp32"}
VARIANTS: dict[str, dict[str, Any]] = {
    "mae": {"objective": "mae", "mask_ratio": 0.75, "visible_rounding": "down", "model": TINY | {"class_token": True}},
    "croco": {},
    "mimic": {"visible_rounding": "down", "mask_ratio": 0.8, "model": TINY | {"class_token": True}},
    "v2": {"model": TINY | {"positions": "rope"}, "horizon": 2.0},
    "wide": {
        "model": TINY | {"size_px": [16, 24]},
        "augment": {"swap": 0.0, "crop": "window", "crop_area": [0.2, 1.0], "flip": 0.0, "jitter": 0.4},
    },
    "cropped": {"augment": {"swap": 0.5, "crop": "resized", "crop_area": [0.2, 1.0], "flip": 0.5, "jitter": 0.0}},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from a second thread, and on a busy machine lose much by waiting for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Path:
    """24 toy pairs, four of them held out, and a run of each variant: 10 steps of a model of two blocks."""
    toy_pairs.write_dataset(tmp_path, "toy", pairs=24, size_px=32, seed=0, validation=4)
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["datasets"]["toy"] = raw["datasets"]["mimic-1m"] | {"sources": {"phone": None}}
    raw["pretrain"] = {name: raw["pretrain"]["croco"] | SMALL | numbers for name, numbers in VARIANTS.items()}
    raw["runs"] = {name: {"recipe": name, "dataset": "toy", "steps": 10, "seed": 0} for name in VARIANTS}
    raw["runs"]["random"] = {"recipe": "croco", "dataset": "toy", "steps": 0, "seed": 0}
    raw["table"]["runs"] = ["random"]
    raw["tracking"]["uri"] = None
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path


def change(workspace: Path, section: str, name: str, **values: Any) -> None:
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw[section][name].update(values)
    path.write_text(yaml.safe_dump(raw))


def run(workspace: Path, name: str) -> Path:
    pretrain.main(config.load(workspace / "params.yaml"), workspace, name)
    return workspace / "models" / name


def files(folder: Path) -> dict[str, bytes]:
    """What must be the same however the run went: all but speeds."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log.jsonl"}
    lines = [{key: value for key, value in line.items() if key != "pairs_per_second"} for line in journal.read(folder / "log.jsonl")]
    return found | {"log": json.dumps(lines).encode()}


@pytest.mark.parametrize("name", [*VARIANTS, "random"])
def test_every_variant_trains_and_publishes(workspace: Path, name: str) -> None:
    folder = run(workspace, name)
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json", "encoder.safetensors", "log.jsonl", "model.safetensors", "reconstruction.npz", "reconstruction.png",
    ]  # fmt: skip
    card = json.loads((folder / "card.json").read_text())
    assert (card["run"], card["dataset"], card["pairs"], card["seed"]) == (name, "toy", 20, 0)
    lines = journal.read(folder / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(2, card["steps"] + 1, 2))
    assert all(set(line) == {"step", "loss", "lr", "grad_norm", "pairs_per_second"} for line in lines)
    with np.load(folder / "reconstruction.npz") as pictures:
        height, width = card["model"]["size_px"]
        for column in ("view_a", "masked", "reconstruction", "view_b"):
            assert pictures[column].shape == (2, height, width, 3) and pictures[column].dtype == np.uint8
        assert pictures["keys"].tolist() == ["toy-000020", "toy-000023"]
        assert "Held-out" in str(pictures["caption"]) and "true patch's are put back" in str(pictures["caption"])
    whole, encoder = load_file(folder / "model.safetensors"), load_file(folder / "encoder.safetensors")
    assert all(torch.equal(whole[f"encoder.{key}"], tensor) for key, tensor in encoder.items())
    loaded, _ = checkpoint.load_encoder(folder)
    assert loaded.size_px == (height, width)
    assert not list((workspace / "runs/pretrain" / name).glob("*/step-*"))  # published: nothing left to resume


@pytest.mark.parametrize("name", ["mae", "croco"])
def test_three_lines_load_it_into_timm(workspace: Path, name: str) -> None:
    timm = pytest.importorskip("timm")
    folder = run(workspace, name)

    card = json.load((folder / "card.json").open())
    vit = timm.models.VisionTransformer(**card["timm"]["kwargs"])
    vit.load_state_dict(load_file(folder / "encoder.safetensors"))

    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(vit.eval().forward_features(images), checkpoint.load_encoder(folder)[0](images), atol=1e-5)


def test_timm_is_not_promised_for_rotary_positions(workspace: Path) -> None:
    assert json.loads((run(workspace, "v2") / "card.json").read_text())["timm"] is None


def test_training_changes_every_weight_and_lowers_the_loss(workspace: Path) -> None:
    change(workspace, "runs", "croco", steps=60)
    change(workspace, "pretrain", "croco", base_lr=0.1)
    change(workspace, "pretrain", "croco", log_every=10)
    folder = run(workspace, "croco")
    losses = [line["loss"] for line in journal.read(folder / "log.jsonl")]
    assert losses[-1] < 0.9 * losses[0]
    start, end = load_file(run(workspace, "random") / "model.safetensors"), load_file(folder / "model.safetensors")
    assert {key for key in start if torch.equal(start[key], end[key])} == {"encoder.pos_embed", "decoder.pos_embed"}


def test_running_again_gives_the_same_files(workspace: Path) -> None:
    first = files(run(workspace, "cropped"))
    for numbers in ({}, {"workers": 0, "save_every": 4, "keep": 1}):
        change(workspace, "pretrain", "cropped", **numbers)
        again = files(run(workspace, "cropped"))
        assert again == first


def test_killed_at_random_moments_it_ends_with_the_same_files(workspace: Path) -> None:
    """SIGKILL while training and saving (every step is saved), three times, then to the end."""
    change(workspace, "runs", "croco", steps=40)
    change(workspace, "pretrain", "croco", save_every=1, log_every=1)
    expected = files(run(workspace, "croco"))
    (workspace / "models/croco/card.json").unlink()
    rng, kills, resumed = random.Random(0), 0, []
    command = [sys.executable, "-c", "import torch; torch.set_num_threads(1); from mimic.cli import main; main()", "pretrain", "croco"]
    for _ in range(3):
        process = subprocess.Popen([*command, "--params", "params.yaml"], cwd=workspace, stderr=subprocess.DEVNULL, start_new_session=True)
        start = reached(workspace)
        while process.poll() is None and reached(workspace) < start + 3:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        resumed.append(reached(workspace))
    assert kills >= 2 and resumed == sorted(resumed) and resumed[0] > 0
    assert files(run(workspace, "croco")) == expected
    assert not list((workspace / "models").glob(".*"))


def reached(workspace: Path) -> int:
    """The newest checkpoint's step."""
    return max((int(mark.stem[5:]) for mark in workspace.glob("runs/pretrain/croco/*/step-*.json")), default=0)


def test_a_checkpoint_of_other_numbers_is_not_resumed(workspace: Path) -> None:
    """Progress is kept by what made it: a changed number starts afresh instead of loading weights that do not fit."""
    run(workspace, "croco")
    change(workspace, "pretrain", "croco", model=TINY | {"width": 48, "heads": 3})
    folder = run(workspace, "croco")
    assert json.loads((folder / "card.json").read_text())["model"]["width"] == 48
    assert len(list((workspace / "runs/pretrain/croco").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("croco", {"mask_ratio": 0.0}, r"params.yaml: pretrain\.croco: mask_ratio 0.0 leaves 16 of 16 patches visible"),
        ("wide", {"model": TINY | {"size_px": 64}}, r"stored at \(32, 32\) px, smaller than the model's \(64, 64\)"),
        ("croco", {"base_lr": 1e30}, "training stopped: .* not finite"),
    ],
)
def test_bad_numbers_are_one_line_and_nothing_is_published(workspace: Path, name: str, numbers: dict[str, Any], message: str) -> None:
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
