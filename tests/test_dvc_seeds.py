"""Runs with several seeds, and one that starts from them, under the real DVC and the real commands:
one stage a run, nothing left to do after it, and only the new seed is trained and measured when one
is added."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from mimic.infra.storage import Workspace
from tests.support import toy_runs

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # three times the whole pipeline
STAGES = ("recipe", "pretrain", "adapt-recipe", "adapt", "prepare", "evaluate")
FILES = (
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"),
    *("src/mimic/training/recipes.yaml", "src/mimic/training/__init__.py"),
    "src/mimic/training/presets.yaml",
    *("src/mimic/models/objectives/__init__.py", "src/mimic/tasks/__init__.py"),
    "src/mimic/tasks/presets.yaml",
)


def _params(root: Path, seeds: list[int]) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    like = {"recipe": "croco", "dataset": "toy"}
    raw["runs"] = {
        "random": {**like, "steps": 0, "seed": 0},
        "croco": {**like, "steps": 3, "seeds": seeds},
    }
    raw["adapt"] = {"longer": {**like, "steps": 2, "init": "croco", "seeds": seeds}}
    raw["pretrain"] = {"croco": raw["pretrain"]["croco"]}
    task = raw["evaluate"]["reconstruction"]
    more = {"dataset": "toy", "pairs": 4, "features_of": "random", "tracked_by": "models/random"}
    raw["evaluate"] = {"reconstruction": task | more}
    raw["table"] |= {"runs": ["random", "croco", "longer"], "tasks": ["reconstruction"]}
    (root / "params.yaml").write_text(yaml.safe_dump(raw))


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    toy_runs.write_workspace(tmp_path, repository)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    graph = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    chosen = {"stages": {name: graph[name] for name in STAGES}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    _params(tmp_path, [0, 1])
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def _repro(root: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=root,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with Repo(str(root)) as repo:
        assert repo.status() == {}
    return done.stdout + done.stderr


def _result(root: Path, run: str = "croco") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / f"metrics/{run}/reconstruction.json").read_text())
    return found


def _started_from(root: Path, seed: int) -> str:
    card = json.loads((root / f"models/longer/seed-{seed}/card.json").read_text())
    return str(card["init"]["name"])


def test_dvc_keeps_the_seeds_that_are_finished(root: Path) -> None:
    _repro(root)
    space = Workspace(root)
    assert list(space.encoders("croco")) == ["croco/seed-0", "croco/seed-1"]
    assert _result(root)["n"] == 2
    before = toy_runs.files(space.model("croco/seed-1"))
    _params(root, [0, 1, 2])
    said = _repro(root)
    for seed in (0, 1):
        assert f"pretrain croco/seed-{seed}: kept" in said
        assert f"evaluate croco/seed-{seed} reconstruction: kept" in said
    assert "croco/seed-2: kept" not in said
    assert list(space.encoders("croco")) == ["croco/seed-0", "croco/seed-1", "croco/seed-2"]
    assert toy_runs.files(space.model("croco/seed-1")) == before
    result = _result(root)
    assert [one["run_seed"] for one in result["seeds"]] == [0, 1, 2]
    assert [one["run_seed"] for one in _result(root, "longer")["seeds"]] == [0, 1, 2]
    assert [_started_from(root, seed) for seed in (0, 1, 2)] == list(space.encoders("croco"))
    for seed in (0, 1):  # its start is what it was
        assert f"pretrain longer/seed-{seed}: kept" in said
    assert "longer/seed-2: kept" not in said
    assert "Running stage" not in _repro(root)
