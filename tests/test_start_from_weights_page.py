"""docs/start-from-weights.md: every command of the page is run, and what it shows is what is
printed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from mimic.cli import app
from mimic.models import Masking, build
from mimic.models.inheritance import Ancestor, inherit
from mimic.params import load_params
from tests.support import toy_runs
from tests.test_adapt_optimizer import Mae, saved

# no file of weights tells them at a width that no published model has
TOY_SIZES = ["--heads", "2", "--decoder-heads", "2", "--norm-pix-loss"]
SMALLER = {"dataset": "toy", "steps": 1}


def _edit(workspace: Path, block: str) -> None:
    """What the reader writes into params.yaml, with the toy's dataset and one step."""
    written: dict[str, Any] = yaml.safe_load(block)
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["imported"] = written.get("imported", raw["imported"])
    for name, entry in written["adapt"].items():
        raw["adapt"][name] = entry | SMALLER
    path.write_text(yaml.safe_dump(raw))


def test_the_page_does_what_it_says(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = toy_runs.write_workspace(tmp_path, repository)
    monkeypatch.chdir(workspace)
    for file in ("mae_pretrain_vit_base_full.pth", "checkpoint-399.pth"):
        saved(workspace / file, Mae)
    text = (repository / "docs/start-from-weights.md").read_text()
    ran = []
    printed = ""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M):
        if kind == "yaml":
            _edit(workspace, block)
        for command in block.splitlines() if not kind else []:
            _, *words = command.split()
            more = TOY_SIZES if words[0] == "import-weights" else []
            done = CliRunner().invoke(app, [*words, *more])
            assert done.exit_code == 0, f"{command}: {done.output} {done.exception}"
            ran.append(command)
            printed += done.output
    assert len(ran) == 7
    assert all(command.startswith("mimic ") for command in ran)
    shown = re.search(r"^```text\n(.*?)^```", text, re.S | re.M)
    assert shown is not None
    for line in shown[1].splitlines():
        words = re.escape(line)
        pattern = re.sub(r"(?<=\\ )\d+(?=\\ (tensors|fresh))", r"\\d+", words)
        assert re.search(re.sub(r"0123456789ab", "[0-9a-f]{12}", pattern), printed), line
    for name, before in (("own", "mae-in"), ("longer", "own"), ("further", "mae-399")):
        card = json.loads((workspace / f"models/{name}/card.json").read_text())
        assert card["init"]["name"] == before
    assert card["init"]["optimizer"]["step"] == 3


def test_the_numbers_of_the_page_are_those_of_a_vit_b(repository: Path) -> None:
    """Tensors of the encoder and the decoder of the recipe that the page starts."""

    text = (repository / "docs/start-from-weights.md").read_text()
    recipes = load_params(repository / "profiles/paper.yaml")
    size = recipes.recipe("mimic-3m").model.size()
    masking = Masking(mask_ratio=0.9, visible_rounding="up", norm_pix=True)
    with torch.device("meta"):
        start = build("mae", replace(size, class_token=True), masking).state_dict()
        here = replace(size, class_token=False)
        model = build("croco", here, masking)
    found = inherit(model, "croco", here, Ancestor(replace(size, class_token=True), "mae", start))
    encoder = sum(name.startswith("encoder.") for name in found.taken)
    decoder = len(found.taken) - encoder
    assert f"{encoder} tensors of the encoder" in text
    assert f"decoder: {decoder} tensors taken, {len(found.fresh)} fresh" in text
    unbroken = " ".join(text.split())
    alone = {name: tensor for name, tensor in start.items() if name.startswith("encoder.")}
    bare = inherit(model, "croco", here, Ancestor(replace(size, class_token=True), "mae", alone))
    assert f"decoder: 0 tensors taken, {len(bare.fresh)} fresh ({bare.decoder})" in unbroken
