"""`mimic plan --pretrain`: arithmetic against torch's own counter and by hand, nothing made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from mimic import cli
from mimic.errors import BadInput
from mimic.models import OBJECTIVES, Masking, ViTSize, build
from mimic.params import load_params, resolve_params
from tests.support import toy_pairs


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("class_token", [True, False])
def test_the_count_is_torchs_own(objective: str, class_token: bool) -> None:
    size = ViTSize(
        size_px=(48, 32),
        patch_px=8,
        width=32,
        depth=3,
        heads=2,
        decoder_width=16,
        decoder_depth=2,
        decoder_heads=2,
        class_token=class_token,
        positions="sincos",
        norm_eps=1e-6,
    )
    masking = Masking(mask_ratio=0.75, visible_rounding="down", norm_pix=True)
    model = build(objective, size, masking, attention="manual")
    images = torch.rand(1, model.views, 3, 48, 32)
    with FlopCounterMode(display=False) as counter:
        model(images, torch.rand(1, 24))
    assert counter.get_total_flops() == OBJECTIVES[objective].forward_flops(size, model.visible)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == OBJECTIVES[objective].parameters(size)


def test_published_sizes() -> None:
    mimic = ViTSize(
        size_px=(224, 224),
        patch_px=16,
        width=768,
        depth=12,
        heads=12,
        decoder_width=512,
        decoder_depth=8,
        decoder_heads=16,
        class_token=True,
        positions="sincos",
        norm_eps=1e-6,
    )
    croco_v2 = replace(mimic, decoder_width=768, decoder_depth=12, class_token=False)
    croco = OBJECTIVES["croco"]
    assert croco.parameters(mimic) == pytest.approx(120.08e6, rel=1e-3)
    assert croco.parameters(croco_v2) == pytest.approx(200.27e6, rel=1e-3)
    # 52.1 GFLOP a pair were counted by a counter that does not see into the encoder's fused
    # attention.
    tokens = 4 * 12 * 768 * (20**2 + 197**2)
    assert (croco.forward_flops(mimic, 19) - tokens) / 1e9 == pytest.approx(52.1, abs=0.1)


def plan(root: Path, *more: str) -> dict:
    done = CliRunner().invoke(
        cli.app, ["plan", "--pretrain", "--params", str(root / "params.yaml"), "--json", *more]
    )
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Path:
    raw = resolve_params(repository / "profiles/paper.yaml").full()
    raw["cluster"]["executor"] = "slurm"
    raw["cluster"]["pretrain"] |= {"nodes": 2, "tasks_per_node": 4, "cpus_per_task": 6}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path


def test_the_papers_recipes_from_stated_rates(workspace: Path) -> None:
    rates = {
        "device_gflops": 33000,
        "decode_ms_per_image": 0.4,
        "bytes_per_pair": 46000,
        "disk_mb_s": 100,
    }
    (workspace / "rates.json").write_text(json.dumps(rates))
    found = plan(workspace, "--rates", str(workspace / "rates.json"))
    params = load_params(workspace / "params.yaml")
    assert found["devices"] == 8
    assert set(found["runs"]) == {name for name, run in params.runs.items() if run.steps}
    name, line = next(
        (name, line)
        for name, line in found["runs"].items()
        if params.pretrain[params.runs[name].recipe].objective == "croco"
    )
    run = params.runs[name]
    pairs = run.steps * params.recipe(name).batch
    speed = 8 * 33000 / line["gflops_per_sample"]
    assert line["pairs_seen"] == pairs
    assert line["bytes_read"] == pairs * 46000
    assert line["load"]["decode"] == pytest.approx(speed * 2 * 0.4e-3 / 48)
    assert line["load"]["disk"] == pytest.approx(speed * 46000 / 1e8)
    assert line["bottleneck"] == "compute"
    assert line["pairs_per_second"] == pytest.approx(speed)
    assert line["days"] == pytest.approx(pairs / speed / 86400)
    assert line["device_days"] == pytest.approx(8 * line["days"])
    (workspace / "rates.json").write_text(json.dumps(rates | {"disk_mb_s": 1}))
    slow = plan(workspace, "--rates", str(workspace / "rates.json"))["runs"][name]
    assert slow["bottleneck"] == "disk"
    assert slow["pairs_per_second"] == pytest.approx(1e6 / 46000)


def test_what_was_measured_here(workspace: Path, repository: Path) -> None:
    (workspace / "params.yaml").write_text((repository / "params.yaml").read_text())
    toy_pairs.write_dataset(workspace, "mimic-1m", pairs=6, size_px=32, seed=0)
    flops = load_params(workspace / "params.yaml").recipe("croco-1m").sample_flops
    log = workspace / "runs/pretrain/croco-1m/0123/log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(
        "".join(
            json.dumps({"step": step, "loss": 1.0, "gflops": speed * flops / 1e9}) + "\n"
            for step, speed in ((1, 5), (2, 50), (3, 60))
        )
    )
    found = plan(workspace)
    line = found["runs"]["croco-1m"]
    assert line["pairs_per_second"] == pytest.approx(50)
    assert found["rates"]["decode_ms_per_image"] > 0
    assert found["rates"]["disk_mb_s"] is None
    assert "disk" not in line["load"]
    alone = plan(workspace, "croco-1m")["runs"]
    assert set(alone) == {"croco-1m"}
    mae = found["runs"]["mae-1m"]  # images, two a pair
    assert mae["pairs_per_second"] == pytest.approx(
        50 * line["gflops_per_sample"] / mae["gflops_per_sample"] / 2
    )
    shown = CliRunner().invoke(
        cli.app, ["plan", "pretrain", "--params", str(workspace / "params.yaml")]
    )
    assert "croco-1m" in shown.stdout
    assert "not measured" in shown.stdout


def test_what_was_measured_holds_for_the_model_that_was_trained(
    workspace: Path, repository: Path
) -> None:
    """Also after its recipe has changed."""
    path = workspace / "params.yaml"
    path.write_text((repository / "params.yaml").read_text())
    log = workspace / "runs/pretrain/croco-1m/0123/log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"step": 1, "loss": 1.0, "pairs_per_second": 50.0}) + "\n")
    done = CliRunner().invoke(cli.app, ["plan", "--pretrain", "--params", str(path)])
    assert "no run was trained in this workspace yet (by this version" in str(done.exception)
    log.write_text(json.dumps({"step": 1, "loss": 1.0, "gflops": 40.0}) + "\n")
    small = plan(workspace, "croco-1m")["runs"]["croco-1m"]
    raw = yaml.safe_load(path.read_text())
    raw["runs"]["croco-1m"]["model"] = {"width": 768, "heads": 12}
    path.write_text(yaml.safe_dump(raw))
    large = plan(workspace, "croco-1m")["runs"]["croco-1m"]
    assert large["gflops_per_sample"] > 4 * small["gflops_per_sample"]
    for line in (small, large):
        assert line["pairs_per_second"] == pytest.approx(40 / line["gflops_per_sample"])


def test_nothing_is_made_up(workspace: Path) -> None:
    done = CliRunner().invoke(
        cli.app, ["plan", "pretrain", "--params", str(workspace / "params.yaml")]
    )
    assert done.exit_code
    assert "no run was trained in this workspace yet" in str(done.exception)
    (workspace / "rates.json").write_text('{"device_gflops": -1}')
    done = CliRunner().invoke(
        cli.app,
        [
            "plan",
            "pretrain",
            "--params",
            str(workspace / "params.yaml"),
            "--rates",
            str(workspace / "rates.json"),
        ],
    )
    assert "not a file of rates" in str(done.exception)


def test_a_damaged_manifest_is_one_line(workspace: Path) -> None:
    manifest = workspace / "data/manifests/mimic-1m.parquet"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(b"")
    words = ["plan", "--pretrain", "--params", str(workspace / "params.yaml")]
    done = CliRunner().invoke(cli.app, words)
    with pytest.raises(BadInput, match=r"mimic-1m\.parquet: "):
        raise done.exception


def test_three_seeds_take_three_times_as_long(workspace: Path) -> None:
    (workspace / "rates.json").write_text(json.dumps({"device_gflops": 1000.0}))
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    name = next(name for name, run in raw["runs"].items() if run["steps"])
    stated = [name, "--rates", str(workspace / "rates.json")]
    one = plan(workspace, *stated)["runs"][name]
    del raw["runs"][name]["seed"]
    raw["runs"][name]["seeds"] = [0, 1, 2]
    path.write_text(yaml.safe_dump(raw))
    three = plan(workspace, *stated)["runs"][name]
    assert (one["seeds"], three["seeds"]) == (1, 3)
    for key in ("pairs_seen", "days", "checkpoint_bytes"):
        assert three[key] == pytest.approx(3 * one[key], rel=1e-6)
