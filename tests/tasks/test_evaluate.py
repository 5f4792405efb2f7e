"""The evaluate stage: from a published encoder to a result that says everything, twice the same
bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from mimic import evaluate, prepare
from mimic.errors import BadInput
from mimic.infra.owner import owned
from mimic.params import load_params, resolve_params
from mimic.tasks import TASK_VERSIONS, TASKS, checked_before, checks
from mimic.tasks.api import Figure
from mimic.tasks.correspondence.config import CorrespondenceTask
from mimic.tasks.depth import finetune
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask
from mimic.tasks.measuring import Measured, write_samples
from mimic.tasks.protocols import overrides
from mimic.tasks.sections import TaskSection
from tests.support.miniatures import make_encoder, write_dataset, write_nyu
from tests.support.own_labels import write_depth, write_folder
from tests.support.toy_project import wait_until


@pytest.fixture
def workspace(
    tmp_path: Path,
    repository: Path,
    depth_task: DepthTask,
    few_shot_depth_task: FewShotDepthTask,
    correspondence_task: CorrespondenceTask,
) -> Path:
    """A published tiny random encoder, miniature data, and params with three tasks."""
    raw = resolve_params(repository / "params.yaml").full()
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


def _publish(folder: Path, seed: int = 0, steps: int = 0, depth: int = 4) -> None:
    encoder = make_encoder(seed, depth=depth)
    folder.mkdir(parents=True)
    save_file(encoder.state_dict(), folder / "encoder.safetensors")
    sizes = {
        "patch_px": 8,
        "width": 24,
        "depth": depth,
        "heads": 2,
        "class_token": False,
        "positions": "sincos",
        "norm_eps": 1e-6,
    }
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
    evaluate.main(load_params(root / "params.yaml"), root, "random", task)
    return json.loads((root / f"metrics/random/{task}.json").read_text())


def test_what_has_nothing_to_score_is_counted(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test image whose depth is unknown everywhere."""
    write_folder(workspace / "own")
    write_depth(workspace / "own/depth/009.png", np.zeros((24, 32)))
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["evaluate"]["depth"] |= {"data": "own", "tracked_by": "own", "masks": None}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    found = _evaluate(workspace, "depth")
    assert (found["test_size"], found["unscored"]) == (2, 1)
    assert "(2 tested, 1 of them without anything to score)" in capsys.readouterr().out


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
    assert {
        "checkpoint",
        "steps",
        "dataset",
        "manifest_digest",
        "versions",
        "task",
        "run",
    } <= found.keys()
    assert 0 <= found["value"] <= 1
    assert len(found["checkpoint"]) == 64
    assert found["test_size"] in (5, 6)
    assert str(workspace) not in json.dumps(found)
    pictures = workspace / f"samples/random/{task}"
    captions = json.loads((pictures / "samples.json").read_text())
    assert len(captions) == 2
    assert all((pictures / entry["file"]).is_file() and entry["caption"] for entry in captions)
    files = [workspace / f"metrics/random/{task}.json", *sorted(pictures.iterdir())]
    before = [file.read_bytes() for file in files]
    _evaluate(workspace, task)
    assert before == [file.read_bytes() for file in files]
    assert not any((workspace / "runs/evaluate").glob("*/*"))


def test_the_data_are_checked_first(workspace: Path) -> None:
    params = load_params(workspace / "params.yaml")
    for task, splits in (
        ("depth", {"train": 8, "test": 5}),
        ("correspondence", {"validation": 6, "measured": 6}),
    ):
        prepare.main(params, workspace, task)
        text = (workspace / f"data/tasks/{task}.json").read_text()
        found = json.loads(text)
        assert found["splits"] == splits
        assert found["bytes"] > 0
        assert len(found["digest"]) == 64
        assert str(workspace) not in text
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
    assert found["preset"] == "standard"
    assert found["overrides"]["size_px"] == 32
    assert "frame" not in found["overrides"]
    assert found["protocol"].endswith(
        f"; not as the preset: {', '.join(sorted(found['overrides']))}"
    )


def test_a_sweep_over_snapshots_is_one_parameter(workspace: Path) -> None:
    for steps in (4, 8):
        folder = workspace / f"models/random/snapshots/{steps:09d}"
        _publish(folder, seed=steps, steps=steps)
    assert "sweep" not in _evaluate(workspace, "correspondence")
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["table"]["checkpoints"] = "all"
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    found = _evaluate(workspace, "correspondence")
    assert [point["steps"] for point in found["sweep"]] == [
        4,
        8,
        0,
    ]  # the run itself comes last; here it is a random encoder
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
    params = load_params(workspace / "params.yaml")
    with pytest.raises(BadInput, match="did you mean 'depth'"):
        evaluate.main(params, workspace, "random", "dept")
    with pytest.raises(BadInput, match="no run named"):
        evaluate.main(params, workspace, "nobody", "depth")


@pytest.mark.parametrize(
    ("kind", "preset"), [(name, preset) for name, spec in TASKS.items() for preset in spec.presets]
)
def test_a_preset_has_no_overrides_and_names_real_fields(
    kind: str, preset: str, repository: Path
) -> None:
    some = next(
        task
        for task in load_params(repository / "params.yaml").evaluate.values()
        if task.task == kind
    )
    task = type(some).model_validate(
        {**some.model_dump(), "preset": preset, **TASKS[kind].presets[preset]}
    )
    assert overrides(task) == {}
    field = next(iter(TASKS[kind].presets[preset]))
    assert overrides(task.model_copy(update={field: "other"})) == {field: "other"}


# ---------------------------------------------------------------------------- nothing is lost


def _params(workspace: Path, **changes: Any) -> None:
    """Change fields of the task `depth`."""
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["evaluate"]["depth"] |= changes
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))


def test_what_was_found_and_the_number_are_printed(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = load_params(workspace / "params.yaml")
    prepare.main(params, workspace, "depth")
    said = capsys.readouterr().out.splitlines()
    facts = json.loads((workspace / "data/tasks/depth.json").read_text())["found"]
    train = facts["train"]
    share = f"{100 * train['share']:.1f} % pixels of known depth"
    values = f"depth_m {train['smallest']:.4g} to {train['largest']:.4g}"
    assert said[0] == f"depth: train: 8 images, {share}, {values}"
    assert len(said) == 2
    assert said[1].startswith("depth: test: 5 images, ")
    found = _evaluate(workspace, "depth")
    *again, last = capsys.readouterr().out.splitlines()
    assert again == said
    assert last.startswith(f"random depth: delta1 {found['value']:.4g} ± ")
    assert last.endswith(" (5 tested); metrics/random/depth.json")


def test_data_are_looked_through_before_training_if_nobody_did(workspace: Path) -> None:
    """By evaluate itself, and again after `prepare` looked with other numbers."""
    _params(workspace, depth_max_m=0.5)
    with pytest.raises(BadInput, match="evaluate random depth: .*train split has pixels of known"):
        _evaluate(workspace, "depth")
    _params(workspace, depth_max_m=10.0)
    prepare.main(load_params(workspace / "params.yaml"), workspace, "depth")
    _params(workspace, depth_max_m=0.5)
    with pytest.raises(BadInput, match="train split has pixels of known depth"):
        _evaluate(workspace, "depth")
    assert not list((workspace / "runs/evaluate").rglob("*.safetensors"))


@pytest.mark.parametrize("task", ["depth", "frozen", "few-shot"])
def test_what_was_trained_outlives_a_failure_to_measure_it(
    workspace: Path, task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _evaluate(workspace, task)
    score = finetune.score

    def broken(*_: object) -> None:
        raise RuntimeError("something nobody foresaw")

    monkeypatch.setattr(finetune, "score", broken)
    (workspace / f"metrics/random/{task}.json").unlink()
    with pytest.raises(RuntimeError, match="nobody foresaw") as error:
        _evaluate(workspace, task)
    note = error.value.__notes__[0]
    assert f"evaluate random {task}: what was trained is kept in runs/evaluate/" in note
    assert not (workspace / f"metrics/random/{task}.json").exists()
    monkeypatch.setattr(finetune, "score", score)
    capsys.readouterr()
    assert _evaluate(workspace, task) == whole
    assert "trained before, not trained again" in capsys.readouterr().err
    assert not any((workspace / "runs/evaluate").glob("*/*"))


def test_what_was_trained_on_other_data_is_not_taken(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = load_params(workspace / "params.yaml")
    prepare.main(params, workspace, "depth")
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "score", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _evaluate(workspace, "depth")
    write_nyu(workspace / "nyu", unit=1.5)
    found = _evaluate(workspace, "depth")  # nobody ran prepare again
    assert "not trained again" not in capsys.readouterr().err
    shutil.rmtree(workspace / "runs/evaluate")
    assert _evaluate(workspace, "depth") == found


def test_no_number_is_made_up(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is none is refused; a detail that is none is null, with the reason."""
    averaged = finetune.average_metrics

    def without(name: str) -> object:
        nan = {name: float("nan"), "averages": {"image": [1.0, float("inf")]}}
        return lambda *arguments: {**averaged(*arguments), **nan}

    monkeypatch.setattr(finetune, "average_metrics", without("delta1"))
    with pytest.raises(BadInput, match="delta1 is nan: .*nothing to measure.*kept in runs/"):
        _evaluate(workspace, "depth")
    assert not (workspace / "metrics/random/depth.json").exists()
    monkeypatch.setattr(finetune, "average_metrics", without("rmse"))
    found = _evaluate(workspace, "depth")
    assert found["metrics"]["rmse"] is None
    assert found["metrics"]["averages"]["image"] == [1.0, None]
    assert found["not_measured"] == {
        "rmse": "nothing to measure",
        "averages.image.1": "nothing to measure",
    }


def test_what_an_experiment_keeps_outlives_its_folder_and_is_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in the workspace that the experiment was made from."""
    copy = workspace / ".dvc/tmp/exps/tmp1"
    shutil.copytree(workspace, copy)
    nan = {"delta1": float("nan")}
    averaged = finetune.average_metrics
    monkeypatch.setattr(finetune, "average_metrics", lambda *given: {**averaged(*given), **nan})
    with pytest.raises(BadInput, match="delta1 is nan: .*what was trained is kept in ") as info:
        _evaluate(copy, "depth")
    assert f"kept in {workspace}/runs/experiments/tmp1/evaluate/" in str(info.value)


@pytest.mark.parametrize("task", ["depth", "frozen", "few-shot"])
def test_an_encoder_of_two_blocks_is_one_line_before_training(workspace: Path, task: str) -> None:
    shutil.rmtree(workspace / "models/random")
    _publish(workspace / "models/random", depth=2)
    with pytest.raises(
        BadInput, match=r"the head reads 4 blocks, the encoder has 2.*\[0, 0, 1, 1\]"
    ):
        _evaluate(workspace, task)
    assert not list((workspace / "runs/evaluate").rglob("*.safetensors"))
    _params(workspace, blocks=[0, 0, 1, 1])
    if task == "depth":
        assert 0 <= _evaluate(workspace, task)["value"] <= 1


def test_sizes_that_patches_do_not_divide(workspace: Path) -> None:
    _params(workspace, size_px=36)
    with pytest.raises(BadInput, match="size_px 36: the encoder's patches of 8 px do not divide"):
        _evaluate(workspace, "depth")


def test_other_data_than_the_published_are_an_override(repository: Path) -> None:
    """Annotated boxes, another list, fewer images, the sensor's own mask; but not another
    folder."""
    tasks = load_params(repository / "profiles/paper.yaml").evaluate
    for name, changes in (
        ("pose", {"boxes": None}),
        ("normals", {"variant": "medium"}),
        ("imagenet", {"images": (100, 126689, 5000)}),
        ("knn", {"images": None}),
        ("depth", {"masks": None}),
        ("depth", {"last_norm": True}),
        ("flow", {"masks": True}),
    ):
        assert overrides(tasks[name].model_copy(update=changes)) == changes
        assert overrides(tasks[name].model_copy(update={"data": Path("elsewhere")})) == {}
    assert overrides(tasks["depth"].model_copy(update={"masks": Path("other/masks")})) == {}
    assert overrides(tasks["pose"].model_copy(update={"boxes": Path("other.json")})) == {}


# ---------------------------------------------------------------------------- looked through once


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry each time that data are looked through."""
    seen: list[str] = []

    def counted(task: TaskSection, root: Path) -> dict:
        seen.append(task.task)
        return checks.check(task, root)

    monkeypatch.setattr(checked_before, "check", counted)
    return seen


def test_data_that_did_not_change_are_looked_through_once(
    workspace: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> dict[str, object]:
        said = json.loads((workspace / "data/tasks/depth.json").read_text())
        return {key: value for key, value in said.items() if key != "section"}

    def prepared() -> int:
        looks.clear()
        prepare.main(load_params(workspace / "params.yaml"), workspace, "depth")
        return len(looks)

    assert prepared() == 1
    first = found()
    _params(workspace, lr=0.5, steps=9)
    assert prepared() == 0
    assert found() == first
    section = json.loads((workspace / "data/tasks/depth.json").read_text())["section"]
    assert (section["lr"], section["steps"]) == (0.5, 9), "evaluate reads no other parameter"
    _params(workspace, depth_max_m=9.0)
    assert prepared() == 1
    assert prepared() == 0
    mat = workspace / "nyu/nyu_depth_v2_labeled.mat"
    mat.write_bytes(mat.read_bytes())  # the same size, at another time
    assert prepared() == 1
    assert prepared() == 0
    (workspace / "elsewhere").mkdir()
    (workspace / "nyu/more").symlink_to(workspace / "elsewhere")
    (workspace / "elsewhere/again").symlink_to(workspace / "nyu")
    assert prepared() == 0  # no file
    (workspace / "elsewhere/file").write_text("behind a link")
    assert prepared() == 1
    assert prepared() == 0
    monkeypatch.setitem(TASK_VERSIONS, "depth", TASK_VERSIONS["depth"] + 1)
    assert prepared() == 1
    (workspace / "nyu/splits.mat").unlink()
    with pytest.raises(BadInput, match="no such file"):
        prepared()


def test_pairs_are_always_looked_at(workspace: Path, looks: list[str]) -> None:
    for _ in range(2):
        prepare.main(load_params(workspace / "params.yaml"), workspace, "correspondence")
    assert looks == ["correspondence"] * 2


def test_two_evaluations_of_one_cell_wait_for_each_other(workspace: Path) -> None:
    """Two processes, as of a person and a schedule; both find a third at work."""
    command = [str(Path(sys.executable).with_name("mimic")), "evaluate", "random", "few-shot"]
    logs = [workspace / f"log-{number}" for number in range(2)]
    both = []
    with owned(workspace / "runs/evaluate/random@few-shot", "a third"):
        for log in logs:
            with log.open("w") as file:
                both.append(subprocess.Popen(command, cwd=workspace, stdout=file, stderr=file))
        waits = f"evaluate random few-shot: waits for a third (pid {os.getpid()} on "
        wait_until(lambda: all(waits in log.read_text() for log in logs), 120, "both to wait")
        assert not (workspace / "metrics/random/few-shot.json").exists()
    assert [process.wait(200) for process in both] == [0, 0], [log.read_text() for log in logs]
    results = [log.read_text().splitlines()[-1] for log in logs]
    assert results[0] == results[1]
    assert results[0].startswith("random few-shot: ")


def test_a_picture_may_have_any_name(tmp_path: Path) -> None:
    """One of a nested scene, one in an alphabet whose letters are three bytes each."""
    black = np.zeros((4, 4, 3), np.uint8)
    names = ["home/kitchen-01", "部" * 120, "plain"]
    write_samples(
        Measured({}, [Figure(name, black, name) for name in names], None, tmp_path), tmp_path
    )
    listed = json.loads((tmp_path / "samples.json").read_text())
    assert [one["caption"] for one in listed] == names
    assert [one["file"] for one in listed][::2] == ["home-kitchen-01.png", "plain.png"]
    assert all((tmp_path / one["file"]).is_file() for one in listed)
