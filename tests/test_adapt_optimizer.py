"""Checkpoints of MAE and CroCo continued with their optimizer: every parameter gets its own
averages, or nothing is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

from mimic.cli import app
from mimic.commands.import_card import import_notes
from mimic.commands.import_weights import import_weights
from mimic.errors import BadInput
from mimic.models.layers import Block, CrossBlock, PatchEmbed, sincos_table
from mimic.params import load_params, starting
from mimic.training import pretraining
from mimic.training.imported.foreign import ImportOverrides
from mimic.training.optimizer_state import AVERAGES, FILE, OptimizerState
from mimic.training.start import starting_model
from tests.support import toy_runs
from tests.support.toy_runs import change, files, run

pytestmark = pytest.mark.usefixtures("one_thread")

SAID = ImportOverrides((32, 32), 2, 2, None, None, norm_pix_loss=True)
STEPS = 3


class Mae(nn.Module):
    """MAE's parts as its code registers them, at toy size."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(8, 32)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 32))
        table = sincos_table((4, 4), 32, class_token=True)
        self.pos_embed = nn.Parameter(table, requires_grad=False)
        self.blocks = nn.ModuleList(Block(32, 2, 1e-6, "sdpa") for _ in range(2))
        self.norm = nn.LayerNorm(32)
        self.decoder_embed = nn.Linear(32, 16)
        self.mask_token = nn.Parameter(torch.randn(1, 1, 16))
        table = sincos_table((4, 4), 16, class_token=True)
        self.decoder_pos_embed = nn.Parameter(table, requires_grad=False)
        self.decoder_blocks = nn.ModuleList([Block(16, 2, 1e-6, "sdpa")])
        self.decoder_norm = nn.LayerNorm(16)
        self.decoder_pred = nn.Linear(16, 192)


class CroCo(nn.Module):
    """CroCo v1's, whose tables are no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(8, 32)
        self.mask_token = nn.Parameter(torch.randn(1, 1, 16))
        self.register_buffer("enc_pos_embed", sincos_table((4, 4), 32, class_token=False)[0])
        self.register_buffer("dec_pos_embed", sincos_table((4, 4), 16, class_token=False)[0])
        self.enc_blocks = nn.ModuleList(Block(32, 2, 1e-6, "sdpa") for _ in range(2))
        self.enc_norm = nn.LayerNorm(32)
        self.decoder_embed = nn.Linear(32, 16)
        self.dec_blocks = nn.ModuleList([CrossBlock(16, 2, 1e-6, "sdpa")])
        self.dec_norm = nn.LayerNorm(16)
        self.prediction_head = nn.Linear(16, 192)


OURS = {
    "decoder_embed.bias": "decoder.embed.bias",
    "mask_token": "decoder.mask_token",
    "cls_token": "encoder.cls_token",
    "patch_embed.proj.weight": "encoder.patch_embed.proj.weight",
    "blocks.1.norm2.bias": "encoder.blocks.1.norm2.bias",
    "blocks.1.norm2.weight": "encoder.blocks.1.norm2.weight",
    "enc_blocks.0.attn.proj.bias": "encoder.blocks.0.attn.proj.bias",
    "dec_blocks.0.cross_attn.projk.weight": "decoder.blocks.0.cross_attn.projk.weight",
    "dec_blocks.0.norm_y.weight": "decoder.blocks.0.norm_y.weight",
    "decoder_pred.weight": "decoder.pred.weight",
    "prediction_head.bias": "decoder.pred.bias",
}


def trained(kind: type[nn.Module]) -> tuple[nn.Module, torch.optim.AdamW]:
    """A model after some steps of AdamW in the groups of the official code, whose order differs:
    MAE's puts what does not decay first, CroCo's takes them as they come."""
    torch.manual_seed(0)
    model = kind()
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim == 1]
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": decay, "weight_decay": 0.05}]
    ordered = groups if kind is Mae else groups[::-1]
    optimizer = torch.optim.AdamW(ordered, lr=1e-3, betas=(0.9, 0.95))
    for _ in range(STEPS):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return model, optimizer


def saved(path: Path, kind: type[nn.Module], **changes: Any) -> Path:
    model, optimizer = trained(kind)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}
    torch.save(content | {"scaler": {}} | changes, path)
    return path


@pytest.mark.parametrize("kind", [Mae, CroCo])
def test_every_parameter_has_its_own_averages(tmp_path: Path, kind: type[nn.Module]) -> None:
    model, optimizer = trained(kind)
    out = tmp_path / "models/in"
    card = import_weights(saved(tmp_path / "file.pth", kind), out, SAID, optimizer=True)
    assert card["imported"]["optimizer"] == {"step": STEPS, "betas": [0.9, 0.95]}
    assert "kept, to go on with: the averages of AdamW after its step 3" in import_notes(
        card["imported"]
    )
    assert card["imported"]["beside"] == ["scaler"]
    found = OptimizerState.read(out / FILE)
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for average in AVERAGES:
        assert len(found.averages[average]) == len(names)
        for theirs, ours in OURS.items():
            if theirs in names:
                wanted = optimizer.state[names[theirs]][average]
                assert torch.equal(found.averages[average][ours], wanted), theirs
    plain = import_weights(tmp_path / "file.pth", out, SAID)
    assert not (out / FILE).exists()
    assert plain["imported"]["beside"] == ["optimizer", "scaler"]


def _sorted(state: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(state.items()))


def _swapped_blocks(state: dict[str, Any]) -> dict[str, Any]:
    blocks = [key for key in state if key.startswith("blocks.")]
    rest = {key: one for key, one in state.items() if key not in blocks}
    return rest | {key: state[key] for key in sorted(blocks, reverse=True)}


def _three_groups(state: dict[str, Any]) -> dict[str, Any]:
    first, second = state["param_groups"]
    half = {**second, "params": second["params"][:3]}
    rest = {**second, "params": second["params"][3:]}
    return {**state, "param_groups": [first, half, rest]}


def _one_missing(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "state": {k: v for k, v in state["state"].items() if k != 5}}


def _other_shape(state: dict[str, Any]) -> dict[str, Any]:
    last = max(state["state"])
    one = {**state["state"][last], "exp_avg": torch.zeros(3, 3)}
    return {**state, "state": {**state["state"], last: one}}


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("model", _sorted, r"bias lies before \S*weight"),
        ("model", _swapped_blocks, r"(lies before|not in their order)"),
        ("optimizer", _three_groups, "it has 3 groups of parameters"),
        ("optimizer", _one_missing, "5"),
        ("optimizer", _other_shape, r"\[3, 3\] for decoder_pred"),
        ("optimizer", lambda _: None, "holds no optimizer"),
        ("optimizer", lambda _: {"state": {}, "param_groups": []}, "it has 0 groups"),
    ],
)
def test_what_cannot_be_told_is_refused(
    tmp_path: Path, where: str, change: Any, message: str
) -> None:
    path = saved(tmp_path / "file.pth", Mae)
    content = torch.load(path, weights_only=True)
    content[where] = change(content[where])
    torch.save(content, path)
    with pytest.raises(BadInput, match=rf"^[^\n]*{message}[^\n]*without --optimizer$"):
        import_weights(path, tmp_path / "models/in", SAID, optimizer=True)
    assert not (tmp_path / "models").exists()
    import_weights(path, tmp_path / "models/in", SAID)  # the weights are as good as before


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Path:
    """A run that goes on from a checkpoint of MAE, made by the command."""
    root = toy_runs.write_workspace(tmp_path / "work", repository)
    file = saved(tmp_path / "mae.pth", Mae)
    options = ["--size-px", "32", "32", "--heads", "2", "--decoder-heads", "2", "--optimizer"]
    done = CliRunner().invoke(
        app, ["import-weights", str(file), "--out", str(root / "models/mae-in"), *options]
    )
    assert done.exit_code == 0, done.output
    assert "kept, to go on with: the averages of AdamW after its step 3" in done.output
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["imported"] = ["mae-in"]
    entry = {"recipe": "mae", "dataset": "toy", "steps": 7, "seed": 0, "init": "mae-in"}
    raw["adapt"] = {"own": entry | {"optimizer": "continued", "log_every": 1}}
    path.write_text(yaml.safe_dump(raw))
    return root


def test_a_run_goes_on_with_them_and_resumes_exactly(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = files(run(workspace, "own"))
    assert "optimizer: AdamW goes on after its step 3" in capsys.readouterr().err
    card = json.loads(straight["card.json"])
    assert card["init"]["optimizer"]["step"] == STEPS
    shutil.rmtree(workspace / "models/own")
    with toy_runs.killed_after(4):
        run(workspace, "own")
    assert files(run(workspace, "own")) == straight
    change(workspace, "adapt", "own", optimizer="fresh")
    fresh = files(run(workspace, "own"))
    assert fresh["encoder.safetensors"] != straight["encoder.safetensors"]


def test_the_first_step_is_the_one_that_adamw_would_have_made(workspace: Path) -> None:
    """With equal gradients: ours goes on as torch's own does from the state of the file."""
    params = load_params(workspace / "params.yaml")
    begun = starting.begin(params, workspace, "own")
    recipe, entry = params.recipe("own"), params.runs["own"]
    model, inherited = starting_model(recipe, entry, begun)
    optimizer = pretraining._optim(model, recipe, entry, begun, inherited).optimizer
    theirs, reference = trained(Mae)
    for group in (*optimizer.param_groups, *reference.param_groups):
        group["lr"] = 1e-3
    gradient = torch.Generator().manual_seed(4)
    mine, known = dict(model.named_parameters()), dict(theirs.named_parameters())
    pairs = [(mine[ours], known[name]) for name, ours in OURS.items() if name in known]
    for here, there in pairs:
        here.grad = torch.randn(here.shape, generator=gradient)
        there.grad = here.grad.clone()
        assert torch.equal(here, there)
    for parameter in theirs.parameters():
        if not any(parameter is there for _, there in pairs):
            parameter.grad = None
    optimizer.step()
    reference.step()
    for here, there in pairs:
        assert torch.allclose(here, there, atol=1e-7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"betas": [0.9, 0.999]}, r"its betas are \[0.9, 0.95\] and the recipe's \[0.9, 0.999\]"),
        ({"recipe": "croco"}, r"decoder\.blocks\.0\.\S+ is fresh"),
    ],
)
def test_a_recipe_that_cannot_go_on_is_one_line(
    workspace: Path, values: dict[str, Any], message: str
) -> None:
    change(workspace, "adapt", "own", **values)
    with pytest.raises(
        BadInput, match=rf"^[^\n]*adapt\.own\.optimizer: that of mae-in cannot go on: {message}"
    ):
        run(workspace, "own")
    assert not (workspace / "models/own").exists()
