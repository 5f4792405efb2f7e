"""The evaluate stage: from a published encoder to a result that says everything, twice the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from miniatures import make_encoder, write_dataset, write_nyu
from safetensors.torch import load_file, save_file

from mimic import config, evaluate, prepare
from mimic.config import CorrespondenceTask, DepthTask, FewShotDepthTask
from mimic.errors import BadInput
from mimic.tasks.presets import PRESETS, overrides


@pytest.fixture
def workspace(
    tmp_path: Path, repository: Path, depth_task: DepthTask, few_shot_depth_task: FewShotDepthTask, correspondence_task: CorrespondenceTask
) -> Path:
    """A published tiny random encoder, miniature data, and params with three tasks."""
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    depth = json.loads(depth_task.model_dump_json())
    raw["datasets"]["toy"] = raw["datasets"]["mimic-1m"]
    raw["evaluate"] = {
        "depth": depth,
        "frozen": {**depth, "freeze": "encoder"},
        "few-shot": json.loads(few_shot_depth_task.model_dump_json()),
        "correspondence": json.loads(correspondence_task.model_dump_json()),
    }
    raw["table"] = {**raw["table"], "tasks": ["depth"]}
    raw["tracking"]["uri"] = None
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    write_nyu(tmp_path / "nyu")
    write_dataset(tmp_path, 6)
    _publish(tmp_path / "models/random")
    return tmp_path


def _publish(folder: Path, seed: int = 0, steps: int = 0) -> None:
    encoder = make_encoder(seed)
    folder.mkdir(parents=True)
    save_file(encoder.state_dict(), folder / "encoder.safetensors")
    sizes = {"patch_px": 8, "width": 24, "depth": 4, "heads": 2, "class_token": False, "positions": "sincos", "norm_eps": 1e-6}
    card = {
        "run": "random",
        "model": {**sizes, "size_px": [32, 32]},
        "steps": steps,
        "dataset": "toy",
        "objective": "croco",
        "manifest_digest": "0" * 64,
    }
    (folder / "card.json").write_text(json.dumps(card))


def _evaluate(root: Path, task: str) -> dict:
    evaluate.main(config.load(root / "params.yaml"), root, "random", task)
    return json.loads((root / f"metrics/random/{task}.json").read_text())


@pytest.mark.parametrize("task", ["depth", "frozen", "few-shot", "correspondence"])
def test_end_to_end_and_again(workspace: Path, task: str) -> None:
    found = _evaluate(workspace, task)
    assert {
        "value",
        "name",
        "higher_is_better",
        "metrics",
        "protocol",
        "preset",
        "overrides",
        "selection",
        "seed",
        "test_size",
    } <= found.keys()
    assert {"checkpoint", "steps", "dataset", "manifest_digest", "versions", "task", "run"} <= found.keys()
    assert 0 <= found["value"] <= 1 and len(found["checkpoint"]) == 64 and found["test_size"] in (5, 6)
    assert str(workspace) not in json.dumps(found)
    pictures = workspace / f"samples/random/{task}"
    captions = json.loads((pictures / "samples.json").read_text())
    assert len(captions) == 2 and all((pictures / entry["file"]).is_file() and entry["caption"] for entry in captions)
    files = [workspace / f"metrics/random/{task}.json", *sorted(pictures.iterdir())]
    before = [file.read_bytes() for file in files]
    _evaluate(workspace, task)
    assert before == [file.read_bytes() for file in files]
    assert not any((workspace / "runs/evaluate").glob("*/*"))


def test_the_data_are_checked_first(workspace: Path) -> None:
    params = config.load(workspace / "params.yaml")
    for task, splits in (("depth", {"train": 8, "test": 5}), ("correspondence", {"validation": 6, "measured": 6})):
        prepare.main(params, workspace, task)
        text = (workspace / f"data/tasks/{task}.json").read_text()
        found = json.loads(text)
        assert found["splits"] == splits and found["bytes"] > 0 and len(found["digest"]) == 64 and str(workspace) not in text
    (workspace / "nyu/splits.mat").write_bytes(b"")
    with pytest.raises(BadInput, match=r"prepare depth: .*splits\.mat: not a MATLAB 5 file"):
        prepare.main(params, workspace, "depth")
    write_nyu(workspace / "nyu", unit=1000)
    with pytest.raises(BadInput, match="looks like millimetres"):
        prepare.main(params, workspace, "depth")


def test_depth_reports_three_averages_and_overrides(workspace: Path) -> None:
    found = _evaluate(workspace, "depth")
    assert found["metrics"]["averages"].keys() == {"batch", "image", "global"}
    assert found["value"] == found["metrics"]["averages"]["image"]["delta1"]
    assert found["preset"] == "standard" and found["overrides"]["size_px"] == 32 and "frame" not in found["overrides"]


def test_a_sweep_over_snapshots_is_one_parameter(workspace: Path) -> None:
    for steps in (4, 8):
        folder = workspace / f"models/random/snapshots/{steps:09d}"
        _publish(folder, seed=steps, steps=steps)
    assert "sweep" not in _evaluate(workspace, "correspondence")
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["table"]["checkpoints"] = "all"
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    found = _evaluate(workspace, "correspondence")
    assert [point["steps"] for point in found["sweep"]] == [4, 8, 0]  # the run itself comes last; here it is a random encoder
    assert found["sweep"][-1] == {key: found[key] for key in ("steps", "value", "standard_error")}
    assert len({point["value"] for point in found["sweep"]}) > 1


def test_a_checkpoint_that_does_not_fit_is_refused(workspace: Path) -> None:
    path = workspace / "models/random/encoder.safetensors"
    weights = load_file(path)
    del weights["blocks.0.attn.qkv.bias"]
    save_file(weights, path)
    with pytest.raises(BadInput, match="does not fit"):
        _evaluate(workspace, "depth")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="safetensors"):
        _evaluate(workspace, "depth")
    assert not (workspace / "metrics/random/depth.json").exists()


def test_names_that_do_not_exist(workspace: Path) -> None:
    params = config.load(workspace / "params.yaml")
    with pytest.raises(BadInput, match="did you mean 'depth'"):
        evaluate.main(params, workspace, "random", "dept")
    with pytest.raises(BadInput, match="no run named"):
        evaluate.main(params, workspace, "nobody", "depth")


@pytest.mark.parametrize(("kind", "preset"), list(PRESETS))
def test_a_preset_has_no_overrides_and_names_real_fields(kind: str, preset: str, repository: Path) -> None:
    some = next(task for task in config.load(repository / "params.yaml").evaluate.values() if task.task == kind)
    task = type(some).model_validate({**some.model_dump(), "preset": preset, **PRESETS[kind, preset]})
    assert overrides(task) == {}
    field = next(iter(PRESETS[kind, preset]))
    assert overrides(task.model_copy(update={field: "other"})) == {field: "other"}
