"""A run with several seeds is measured encoder by encoder; its result is their mean, deviation and
count, and holds what each measured."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import save_file

from mimic import evaluate
from mimic.errors import BadInput
from mimic.params import load_params, resolve_params
from mimic.tasks import measuring, over_seeds
from mimic.tasks.correspondence.config import CorrespondenceTask
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask
from mimic.tasks.item_files import read_items
from tests.support.miniatures import make_encoder, write_dataset, write_nyu

SIZES = {
    **{"patch_px": 8, "width": 24, "depth": 4, "heads": 2, "class_token": False},
    **{"positions": "sincos", "norm_eps": 1e-6, "size_px": [32, 32]},
}


def _publish(folder: Path, seed: int, steps: int = 7) -> None:
    folder.mkdir(parents=True)
    save_file(make_encoder(seed).state_dict(), folder / "encoder.safetensors")
    about = {"dataset": "toy", "objective": "croco", "steps": steps, "manifest_digest": "0" * 64}
    card = {"run": folder.name, "model": SIZES, "seed": seed, **about}
    (folder / "card.json").write_text(json.dumps(card))


@pytest.fixture
def workspace(
    tmp_path: Path,
    repository: Path,
    depth_task: DepthTask,
    correspondence_task: CorrespondenceTask,
) -> Path:
    """Run `one` with seed 0, run `many` with seeds 0, 1 and 2, and two tasks."""
    raw = resolve_params(repository / "params.yaml").full()
    raw["datasets"]["toy"] = raw["datasets"]["mimic-1m"]
    like = {"recipe": "croco-tiny", "dataset": "toy", "steps": 7}
    raw["runs"] |= {"one": {**like, "seed": 0}, "many": {**like, "seeds": [0, 1, 2]}}
    raw["evaluate"] = {
        "depth": json.loads(depth_task.model_dump_json()),
        "correspondence": json.loads(correspondence_task.model_dump_json()),
    }
    raw["table"] = {**raw["table"], "tasks": ["depth"]}
    raw["tracking"]["uri"] = None
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    write_nyu(tmp_path / "nyu")
    write_dataset(tmp_path, 6)
    _publish(tmp_path / "models/one", 0)
    for seed in range(3):
        _publish(tmp_path / f"models/many/seed-{seed}", seed)
    return tmp_path


def _evaluate(root: Path, run: str, task: str) -> dict[str, Any]:
    evaluate.main(load_params(root / "params.yaml"), root, run, task)
    found: dict[str, Any] = json.loads((root / f"metrics/{run}/{task}.json").read_text())
    return found


def _seeds(root: Path, seeds: list[int]) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["runs"]["many"]["seeds"] = seeds
    (root / "params.yaml").write_text(yaml.safe_dump(raw))


@pytest.mark.parametrize("task", ["depth", "correspondence"])
def test_the_result_is_the_mean_and_holds_every_seed(workspace: Path, task: str) -> None:
    one = _evaluate(workspace, "one", task)
    many = _evaluate(workspace, "many", task)
    values = [seed["value"] for seed in many["seeds"]]
    assert [seed["encoder"] for seed in many["seeds"]] == [f"many/seed-{k}" for k in range(3)]
    assert [seed["run_seed"] for seed in many["seeds"]] == [0, 1, 2]
    assert values[0] == one["value"]  # seed 0 of several is measured as a single one
    assert task == "correspondence" or len(set(values)) == 3  # these views are easily matched
    assert many["value"] == pytest.approx(statistics.fmean(values))
    assert many["sd"] == pytest.approx(statistics.stdev(values))
    assert many["n"] == 3
    assert many["metrics"][many["headline"]] == pytest.approx(many["value"])
    assert {"sd", "n", "seeds"}.isdisjoint(one)
    assert many["data_digest"] == one["data_digest"]
    drawn = [seed["seed"] - many["seed"] for seed in many["seeds"]]
    assert drawn == ([0, 1, 2] if task == "depth" else [0, 0, 0])


def test_pictures_and_items_lie_by_seed(workspace: Path) -> None:
    one = _evaluate(workspace, "one", "depth")
    many = _evaluate(workspace, "many", "depth")
    folder = workspace / "samples/many/depth"
    names = ["items.npz", "seed-0", "seed-1", "seed-2"]
    assert sorted(path.name for path in folder.iterdir() if path.name != ".mimic.json") == names
    single = workspace / "samples/one/depth"
    assert len(list(folder.glob("seed-1/*.png"))) == len(list(single.glob("*.png"))) > 0
    items = read_items(folder / "items.npz")
    assert list(items) == ["seed-0", "seed-1", "seed-2"]
    np.testing.assert_array_equal(items["seed-0"], read_items(single / "items.npz")["only"])
    assert len(items["seed-0"]) == one["test_size"]
    each = np.mean(list(items.values()), axis=0)
    each = each[~np.isnan(each)]
    stated = each.std(ddof=1) / len(each) ** 0.5
    assert many["standard_error"] == pytest.approx(stated, rel=1e-3)


def test_a_seed_more_measures_only_that_seed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _seeds(workspace, [0, 1])
    before = _evaluate(workspace, "many", "depth")
    _seeds(workspace, [0, 1, 2])
    measured = []
    real = measuring.run_task

    def watching(section: Any, subject: Any, paths: Any) -> Any:
        measured.append(subject.folder.name)
        return real(section, subject, paths)

    monkeypatch.setattr(measuring, "run_task", watching)
    capfd.readouterr()
    after = _evaluate(workspace, "many", "depth")
    assert measured == ["seed-2"]
    assert "evaluate many/seed-0 depth: kept" in capfd.readouterr().err
    assert after["seeds"][:2] == before["seeds"]
    assert after["n"] == 3


def test_snapshots_that_are_made_later_are_measured(workspace: Path) -> None:
    """As where `keep_every` is stated after the run: the encoders are kept, and so is nothing of
    what is measured."""
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["table"]["checkpoints"] = "all"
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    assert "sweep" not in _evaluate(workspace, "many", "correspondence")
    for seed in range(3):
        _publish(workspace / f"models/many/seed-{seed}/snapshots/000000004", seed + 5, steps=4)
    sweep = _evaluate(workspace, "many", "correspondence")["sweep"]
    assert [point["steps"] for point in sweep] == [4, 7]


def test_a_seed_that_is_not_there_is_one_line(workspace: Path) -> None:
    _seeds(workspace, [0, 7])
    with pytest.raises(BadInput, match=r"models/many/seed-7/.*no such file"):
        evaluate.main(load_params(workspace / "params.yaml"), workspace, "many", "depth")


def test_draws_of_few_images_do_not_overlap_between_seeds(
    few_shot_depth_task: FewShotDepthTask,
) -> None:
    task = few_shot_depth_task
    firsts = [over_seeds.section_of(task, seed).seed for seed in range(3)]
    assert firsts == [task.seed + seed * task.seeds for seed in range(3)]


def test_what_differs_between_seeds_has_a_mean_or_is_left_out() -> None:
    def record(value: float, **more: Any) -> Any:
        metrics = {"a": value, "list": [1.0, value], "text": str(value), "none": None, "n": 4}
        said = {"value": value, "standard_error": 0.3, "metrics": {**metrics, **more}}
        return said | {"protocol": "p", "selection": f"best {value:g}", "seed": 0, "section": {}}

    task = DepthTask.model_construct(seed=0, task="depth")
    found = {"r/seed-0": (record(1.0, x=1), None), "r/seed-1": (record(2.0), None)}
    merged = over_seeds.merged(found, task)
    expected = {"a": 1.5, "list": [1.0, 1.5], "text": None, "none": None, "n": 4}
    assert merged["metrics"] == expected
    assert merged["selection"] == "best 1; or: best 2"
    assert merged["protocol"] == "p"
    assert merged["standard_error"] == pytest.approx(0.3)
