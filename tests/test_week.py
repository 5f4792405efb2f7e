"""A week of a researcher, through the installed command alone and outside the repository: videos,
weights of MAE, a folder of depth; two seeds, a comparison, and encoders that others load."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from timm import create_model

from mimic.training.checkpoint import load_encoder
from tests.support import other_projects

pytestmark = [pytest.mark.long, pytest.mark.pipeline, pytest.mark.timeout(2400)]
BIN = Path(sys.executable).parent
CLIPS = ("cot_apple", "gum", "beer")
TRAIN, TEST = 24, 12  # images with depth
EXPORTS = {"hub": "own/seed-1", "croco": "own/seed-1", "dust3r": "rotary"}
LINES_MAX = 10  # of YAML, written by hand
# What the researcher changes: two seeds of both runs, a run for DUSt3R, which needs rotary
# positions that MAE's weights have not, one column of results, a shorter fine-tuning.
EDITS = (
    (
        "  fresh: {dataset: own}",
        "  fresh: {dataset: own, seeds: [0, 1]}\n"
        "  rotary: {dataset: own, model: {positions: rope}}",
    ),
    ("  own: {init: start, dataset: own}", "  own: {init: start, dataset: own, seeds: [0, 1]}"),
    ("{task: depth, ", "{task: depth, steps: 6, "),
    ("tasks: [views, depth]", "tasks: [depth]"),
)


@dataclass
class Week:
    """The researcher's folder, and what each command printed."""

    home: Path
    project: Path
    before: str  # params.yaml as it was made
    said: dict[str, str] = field(default_factory=dict)

    def run(self, folder: Path, *words: str) -> str:
        environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        command = " ".join(words)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.said[command] = done.stdout
        return done.stdout


def _videos(real: Path, out: Path) -> None:
    out.mkdir()
    for name in CLIPS:
        shutil.copy(real / "video" / name / "clip.mp4", out / f"{name}.mp4")


def _depth(real: Path, out: Path) -> None:
    """Few images of NYUv2, as they lie there."""
    for split, count in (("train", TRAIN), ("test", TEST)):
        listed = (real / f"nyu/nyu_{split}.txt").read_text().splitlines()[:count]
        for kind in ("color", "depth"):
            (out / kind).mkdir(parents=True, exist_ok=True)
            for name in listed:
                (file,) = (real / "nyu" / kind).glob(f"{name}.*")
                shutil.copy(file, out / kind)
        (out / f"nyu_{split}.txt").write_text("\n".join(listed) + "\n")


def _weights(path: Path) -> None:
    """A file as MAE's own code saves it."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"img_size": 64, "embed_dim": 192, "depth": 4, "num_heads": 3}
    model = other_projects.MaskedAutoencoderViT(**sizes, decoder_depth=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters())
    args = argparse.Namespace(model="mae_vit_tiny", input_size=64, norm_pix_loss=True)
    whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**whole, "epoch": 3, "scaler": {}, "args": args}, path)


@pytest.fixture(scope="module")
def week(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Week:
    home = tmp_path_factory.mktemp("week")
    _videos(real_data / "real", home / "videos")
    _depth(real_data / "real", home / "rooms")
    _weights(home / "mae.pth")
    week = Week(home, home / "walks", "")
    made = ["mimic", "new", "walks", "--videos", "videos", "--depth", "rooms"]
    week.run(home, *made, "--start-from", "mae.pth", "--steps", "12")
    params = week.project / "params.yaml"
    week.before = params.read_text()
    edited = week.before
    for old, new in EDITS:
        assert edited.count(old) == 1, (old, edited)
        edited = edited.replace(old, new)
    params.write_text(edited)
    week.run(week.project, "mimic", "check")
    week.run(week.project, "dvc", "repro")
    week.run(week.project, "mimic", "compare")
    week.run(week.project, "mimic", "compare", "--by", "init")
    for form, model in EXPORTS.items():
        command = ["mimic", "export-weights", model, "--format", form]
        week.run(week.project, *command, "--out", f"for-{form}")
    return week


def test_few_lines_are_written_by_hand(week: Week) -> None:
    after = (week.project / "params.yaml").read_text()
    lines = list(difflib.ndiff(week.before.splitlines(), after.splitlines()))
    written = [line for line in lines if line.startswith("+ ")]
    assert len(written) <= LINES_MAX
    assert len(written) == len(EDITS) + 1
    assert len(after.splitlines()) <= 25
    said = next(text for command, text in week.said.items() if command.startswith("mimic new"))
    assert "DUSt3R/MASt3R need rotary positions: start from weights that have them" in said


def test_both_seeds_started_from_the_weights_and_were_measured(week: Week) -> None:
    for seed in (0, 1):
        card = json.loads((week.project / f"models/own/seed-{seed}/card.json").read_text())
        assert card["steps"] == 12
        assert "start" in json.dumps(card)
    for run in ("fresh", "own"):
        result = json.loads((week.project / f"metrics/{run}/depth.json").read_text())
        assert "sd" in json.dumps(result)
        assert 0 <= result["value"] <= 1
    assert json.loads((week.project / "metrics/random/depth.json").read_text())["test_size"] == TEST
    table = week.said["mimic compare"]
    assert all(run in table for run in ("random", "fresh", "own"))
    assert "±" in table
    assert "start - none (own - fresh)" in week.said["mimic compare --by init"]


def test_nothing_is_left_to_run_and_nothing_lies_outside(week: Week) -> None:
    assert json.loads(week.run(week.project, "dvc", "status", "--json")) == {}
    assert sorted(os.listdir(week.home)) == ["mae.pth", "rooms", "videos", "walks"]


# ---------------------------------------------------------------------------- in other hands


@pytest.fixture
def elsewhere(week: Week, monkeypatch: pytest.MonkeyPatch) -> Week:
    """The folder of the exports, and the other projects on the path of imports."""
    other_projects.install(monkeypatch)
    monkeypatch.chdir(week.project)
    return week


def _images() -> torch.Tensor:
    return torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(1))


def _ours(week: Week, form: str) -> torch.Tensor:
    encoder, _ = load_encoder(week.project / "models" / EXPORTS[form])
    with torch.inference_mode():
        found: torch.Tensor = encoder(_images())
    return found


def _loaded(week: Week, form: str) -> Any:
    """The model that the printed lines make, strictly."""
    said = week.said[f"mimic export-weights {EXPORTS[form]} --format {form} --out for-{form}"]
    lines = re.split(r"to load it:\n\n", said)[1]
    names: dict[str, Any] = {}
    exec(lines, names)
    return names["model"]


def test_plain_timm_reads_it(elsewhere: Week) -> None:
    model: Any = create_model(f"local-dir:{elsewhere.project / 'for-hub'}", pretrained=True).eval()
    with torch.inference_mode():
        found = model.forward_features(_images())
    assert (found - _ours(elsewhere, "hub")).abs().max() < 1e-4


@pytest.mark.parametrize("form", ["croco", "dust3r"])
def test_croco_and_dust3r_read_it(elsewhere: Week, form: str) -> None:
    model = _loaded(elsewhere, form).eval()
    with torch.inference_mode():
        found = model.features(_images())
    assert (found - _ours(elsewhere, form)).abs().max() < 1e-4
    if form == "dust3r":
        assert model.loaded.unexpected_keys == []
        missing = {key.split(".")[0] for key in model.loaded.missing_keys}
        assert missing == {"downstream_head1", "downstream_head2"}
