"""A run from the pipeline, trained for a few steps, and an import that timm computes, in a
colleague's hands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from typer.testing import CliRunner

from mimic.cli import app
from mimic.commands import import_weights
from mimic.models.encoder import normalise
from mimic.training.checkpoint import load_encoder
from mimic.training.imported.foreign import ImportOverrides
from tests.commands.test_hand_out import apart, loaded
from tests.support import toy_runs
from tests.support.toy_runs import run

NAME = "vit_base_patch16_clip_224"  # other pixel statistics, a norm before the first block


def handed_out(name: str, form: str, out: Path) -> Any:
    """The model that the printed lines load; they go by absolute paths here."""
    done = CliRunner().invoke(app, ["export-weights", name, "--format", form, "--out", str(out)])
    assert done.exit_code == 0, (done.output, done.exception)
    return loaded(done.output.split("to load it:\n\n")[1].splitlines())["model"]


@pytest.mark.parametrize("name", ["croco", "v2"])
def test_a_trained_run(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    workspace = toy_runs.write_workspace(tmp_path, repository)
    folder = run(workspace, name)
    monkeypatch.chdir(workspace)
    model = handed_out(name, "hub", tmp_path / "given")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = load_encoder(folder)[0](images)
        assert apart(model.forward_features(images), wanted) < 1e-6
    text = ModelCard.load(tmp_path / "given/README.md").text
    told = dict(re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", text, re.M))
    assert told["hours"] != "not recorded"
    assert 0 < float(told["hours"]) < 1
    assert "threads" in told["hardware"]
    assert told["start weights"] == "random"
    assert "base_lr" in told["recipe"]
    assert "None" not in text


@pytest.mark.parametrize("form", ["timm", "hub"])
def test_an_import_that_timm_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """It leaves under timm's own name, with the pixel statistics that it was trained with."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *words, **named: create(*words, depth=2, **named)
    )
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    made: Any = create(NAME, depth=2, num_classes=0, dynamic_img_size=True)
    save_file(made.state_dict(), tmp_path / "file.safetensors")
    said = ImportOverrides(None, None, None, None, "some-images")
    folder = tmp_path / "models/clip"
    import_weights.import_timm(NAME, tmp_path / "file.safetensors", folder, said)
    model = handed_out("clip", form, tmp_path / "given.safetensors")
    pixels = timm.data.resolve_model_data_config(model)
    assert pixels["mean"] == pytest.approx(made.pretrained_cfg["mean"])
    assert pixels["mean"] != pytest.approx((0.485, 0.456, 0.406))
    draw = torch.Generator().manual_seed(1)
    bytes_ = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8, generator=draw)
    theirs = (bytes_ / 255 - torch.tensor(pixels["mean"])) / torch.tensor(pixels["std"])
    with torch.inference_mode():
        found = model.forward_features(theirs.movedim(-1, 1))
        assert apart(found, load_encoder(folder)[0](normalise(bytes_))) < 1e-4
    for other in ("mae", "croco", "dust3r", "multimae", "vitpose"):
        done = CliRunner().invoke(app, ["export-weights", "clip", "--format", other])
        assert f"timm computes this model ({NAME})" in str(done.exception)
