"""What a stage compares before and after is what DVC records of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from mimic.commands.workspace.unchanged import ABSENT, leaves, state_of, unchanged
from mimic.errors import BadInput


def test_every_parameter_that_dvc_reads_is_looked_at(repository: Path) -> None:
    """The real dvc.yaml, read by the real DVC."""
    with Repo(str(repository)) as repo:
        for stage in repo.index.stages:
            state = state_of(repository, stage.name)
            for dep in stage.deps:
                if not isinstance(dep, ParamsDependency):
                    assert any(key.startswith(dep.def_path) for key in state), dep.def_path
                    continue
                start = "" if dep.def_path == "params.yaml" else f"{dep.def_path} "
                for key, value in dep.read_params(flatten=True).items():
                    for at, one in leaves(value, key):
                        assert state[f"{start}{at}"] == one, (stage.name, at)


PIPELINE = {
    "vars": [{"absent": {}}],
    "stages": {
        "one": {"foreach": "${runs}", "do": {"cmd": "x", "params": ["runs.${key}"]}},
        "two": {
            "matrix": {"run": "${names}", "task": ["a-b", "c"]},
            "cmd": "x",
            "params": [{"more.yaml": ["${item.task}.of"]}],
            "deps": ["data/${item.run}"],
        },
        "none": {"foreach": "${absent}", "do": {"cmd": "x"}},
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    params = {"runs": {"r": {"steps": 1, "seed": 0}}, "names": ["r", "s-t"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "more.yaml").write_text("a-b: {of: 3}")
    (tmp_path / "data/s-t/deep").mkdir(parents=True)
    (tmp_path / "data/s-t/deep/file").write_text("12")
    os.utime(tmp_path / "data/s-t/deep/file", ns=(0, 4 * 10**18))  # far in the future
    return tmp_path


def test_entries_and_combinations_are_found_by_their_names(root: Path) -> None:
    assert state_of(root, "one@r") == {"runs.r.steps": 1, "runs.r.seed": 0}
    file = {"data/s-t/deep/file": f"2 bytes of {4 * 10**18}"}
    assert state_of(root, "two@s-t-a-b") == {"more.yaml a-b.of": 3} | file
    assert state_of(root, "two@r-c") == {"more.yaml c.of": None, "data/r": ABSENT}
    assert state_of(root, "none@x") == state_of(root, "other") == {}


@pytest.mark.parametrize(
    ("stage", "file", "text", "said"),
    [
        ("one@r", "params.yaml", "runs: {r: {steps: 2, seed: 0}}", "runs.r.steps: 1 -> 2"),
        ("one@r", "params.yaml", "runs: {r: {steps: 1}}", "runs.r.seed: 0 -> nothing"),
        ("one@r", "params.yaml", "runs: {r: [", "runs.r"),  # half written
        ("two@s-t-a-b", "data/s-t/deep/file", "123", "data/s-t/deep/file: 2 bytes"),
        ("two@s-t-a-b", "data/s-t/new", "", "data/s-t/new: nothing -> 0 bytes"),
    ],
)
def test_a_change_is_refused_by_its_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, stage: str, file: str, text: str, said: str
) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    with pytest.raises(BadInput, match="changed while it ran") as raised, unchanged(root):
        (root / file).write_text(text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nobody_looks_where_dvc_records_nothing_or_nothing_of_it_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "one@r")
    with unchanged(root):
        (root / "params.yaml").write_text("runs: {s: {steps: 7}, r: {seed: 0, steps: 1}}  # more")
    monkeypatch.delenv("DVC_STAGE")
    with unchanged(root):
        (root / "params.yaml").write_text("runs: {}")
