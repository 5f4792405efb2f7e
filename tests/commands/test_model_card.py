"""The page that goes with an exported model: Hugging Face reads its head, its own lines load the
model, and it says where every number comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from mimic import licences
from mimic.infra.storage import file_digest
from mimic.training import machine
from tests.commands.test_hand_out import exported, features, loaded, ours, run, workspace
from tests.commands.test_weights import IMAGES, publish

__all__ = ["workspace"]  # a fixture
INIT = {  # as `pretrain` writes it of a run that starts from weights
    "name": "mae-in",
    "sha256": "0" * 64,
    "file": {"name": "mae.pth", "sha256": "1" * 64},
    "taken": {"encoder.blocks": 24, "decoder.pred": 2},
    "fresh": {"decoder.blocks": 12},
    "positions": {"from": [4, 4], "to": [4, 4], "how": {"encoder.pos_embed": "taken"}},
    "class_token": "dropped",
    "decoder": "attention to the other view starts afresh, as mae has one view",
}


def amended(folder: Path, **facts: Any) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.fixture
def page(workspace: Path) -> ModelCard:
    """The card of a run that was trained, licensed and measured."""
    folder = workspace / "models/ours"
    publish(folder, "croco", False, "sincos")
    terms = licences.combine(
        [
            ("source rooms", licences.resolve("CC-BY-4.0")),
            ("weights mae-in", licences.resolve("CC-BY-NC-4.0")),
        ]
    )
    amended(
        folder,
        run="ours",
        dataset="mimic-1m",
        recipe="croco",
        batch=8,
        seed=3,
        pairs=1234,
        progress="abc",
        git_commit="f00d",
        manifest_digest="beef",
        versions={"mimic": "0.1.0"},
        licences=terms,
        init=INIT,
    )
    training = workspace / "runs/pretrain/ours/abc"
    training.mkdir(parents=True)
    machine.record(training, torch.device("cpu"), 1)
    lines = [{"step": step, "pairs_per_second": 0.01} for step in (2, 5)]
    (training / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for task, value, n in (("depth", 0.5, 654), ("segmentation", 0.25, None)):
        result = {
            "value": value,
            "name": "delta1",
            "higher_is_better": True,
            "test_size": n,
            "protocol": f"{task} | frozen",
        }
        path = workspace / f"metrics/ours/{task}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    exported("hub", "given")
    return ModelCard.load(workspace / "given/README.md", ignore_metadata_errors=False)


def rows(page: ModelCard) -> list[list[str]]:
    found = re.findall(r"^\| (.*) \|$", page.text, re.M)
    return [re.split(r" (?<!\\)\| ", row) for row in found]


def test_hugging_face_reads_its_head(page: ModelCard) -> None:
    head = page.data.to_dict()
    assert head["library_name"] == "timm"
    assert head["pipeline_tag"] == "image-feature-extraction"
    assert head["datasets"] == ["mimic-1m"]
    assert {"timm", "croco"} <= set(head["tags"])
    assert head["license"] == "other"
    assert re.fullmatch(r"[a-z0-9-]+", head["license_name"])


def test_its_own_lines_load_the_model(page: ModelCard, workspace: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", page.text, re.S)
    assert len(code) == 1
    assert len(code[0].splitlines()) == 3
    names = loaded(code[0].splitlines())
    assert torch.equal(features(names["model"], IMAGES), ours(workspace / "models/ours", IMAGES))
    assert names["transform"].transforms[-1].mean.tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_it_tells_data_terms_and_training(page: ModelCard) -> None:
    assert "1,234 pairs" in page.text
    card = json.loads(Path("models/ours/card.json").read_text())
    for line in licences.summary(card):
        assert f"- {line}" in page.text
    assert "commercially: no (weights mae-in: CC-BY-NC-4.0)" in page.text
    told = {row[0]: row[1] for row in rows(page) if len(row) == 2}
    assert told["start weights"].startswith("starts from mae-in, from mae.pth (sha256 1111")
    assert "its class token is dropped" in told["start weights"]
    assert told["start weights"].endswith(f"; sha256 {'0' * 64}")
    assert told["hours"] == f"{5 * 8 / 0.01 / 3600:.3g}"  # 5 steps of 8 pairs
    assert "threads" in told["hardware"]
    assert told["seed"] == "3"
    assert told["code"] == "mimic 0.1.0, workspace at commit f00d"
    assert told["digest of the dataset"] == "beef"


def test_results_stand_with_their_protocols_and_numbers_of_items(page: ModelCard) -> None:
    table = {row[0]: row[1:] for row in rows(page) if len(row) == 5}
    assert table["depth"][0].startswith("delta1 0.5 ± 0.02")  # 0.5 / sqrt(654)
    assert table["depth"][1:] == ["higher", "654", "depth \\| frozen"]
    assert table["segmentation"] == [
        "delta1 0.25",
        "higher",
        "not recorded",
        r"segmentation \| frozen",
    ]


def test_nothing_known_is_nothing_claimed(workspace: Path) -> None:
    publish(workspace / "models/ours", "mae", True, "sincos")
    exported("hub", "given")
    page = ModelCard.load(workspace / "given/README.md")
    assert "It was not measured." in page.text
    told = {row[0]: row[1] for row in rows(page) if len(row) == 2}
    assert told["hours"] == told["hardware"] == "not recorded"
    assert "may be handed on: unknown" in page.text


def test_one_seed_shows_its_own_numbers_beside_those_of_all(workspace: Path) -> None:
    publish(workspace / "models/ours/seed-1", "mae", True, "sincos")
    held = file_digest(workspace / "models/ours/seed-1/encoder.safetensors")
    amended(workspace / "models/ours/seed-1", weights={"encoder.safetensors": held})
    shared = {"standard_error": 0.01, "checkpoint": held}
    seeds = [
        {"encoder": f"ours/seed-{k}", "run_seed": k, "value": value, **shared}
        for k, value in ((0, 0.4), (1, 0.6))
    ]
    result = {"value": 0.5, "sd": 0.1414, "n": 2, "seeds": seeds, "standard_error": 0.02}
    path = workspace / "metrics/ours/depth.json"
    path.parent.mkdir(parents=True)
    about = {"name": "delta1", "higher_is_better": True, "test_size": 654, "protocol": "frozen"}
    path.write_text(json.dumps(result | about))
    done = run("export-weights", "ours/seed-1", "--format", "hub", "--out", "given")
    assert done.exit_code == 0, done.output
    page = ModelCard.load(workspace / "given/README.md")
    table = {row[0]: row[1:] for row in rows(page) if len(row) == 5}
    wanted = "delta1 0.6 ± 0.01 (standard error) (mean of 2 seeds 0.5, sd 0.14)"
    assert table["depth"][0] == wanted
    of_earlier = [one | {"checkpoint": "f" * 64} for one in seeds]
    path.write_text(json.dumps(result | about | {"seeds": of_earlier}))
    done = run("export-weights", "ours/seed-1", "--format", "hub", "--out", "later")
    assert "depth of ours was measured before it was trained anew: left out" in done.output
    assert "It was not measured." in (workspace / "later/README.md").read_text()
