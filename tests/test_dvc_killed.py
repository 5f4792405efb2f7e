"""DVC killed while its stage lives on, and parameters edited while a stage runs: the real DVC, the
real commands, real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from mimic.training import journal
from tests.support import toy_runs
from tests.support.toy_project import is_running, kill_group, wait_until

STAGE = "pretrain@croco"
STAGES = ("recipe", "pretrain")
FILES = (
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"),
    *("src/mimic/training/recipes.yaml", "src/mimic/training/__init__.py"),
    "src/mimic/models/objectives/__init__.py",
)
STEPS = 150  # some seconds


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    """A workspace with one run, whose recipe is made."""
    root = tmp_path / "workspace"
    root.mkdir()
    toy_runs.write_workspace(root, repository)
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, root / name)
    graph = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    chosen = {"stages": {name: graph[name] for name in STAGES}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    raw = yaml.safe_load((root / "params.yaml").read_text())
    like = {"recipe": "croco", "dataset": "toy", "seed": 0}
    raw["runs"] = {"random": {**like, "steps": 0}, "croco": {**like, "steps": STEPS}}
    raw["pretrain"] = {"croco": raw["pretrain"]["croco"] | {"save_every": 50, "log_every": 1}}
    raw["evaluate"] = {}
    raw["table"] |= {"runs": ["random", "croco"], "tasks": []}
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


class Dvc:
    """`dvc repro` in a group of its own, what it prints in a file."""

    def __init__(self, root: Path, *command: str) -> None:
        self.log = root.parent / f"log-{len(list(root.parent.glob('log-*')))}"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dvc", *command],
                cwd=root,
                env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def end(self) -> tuple[int, str]:
        return self.process.wait(120), self.log.read_text()


@pytest.fixture
def dvc(root: Path) -> Iterator[Any]:
    started: list[Dvc] = []

    def start(*command: str) -> Dvc:
        started.append(Dvc(root, *command))
        return started[-1]

    yield start
    for one in started:
        kill_group(one.process)


def _training(root: Path, dvc: Dvc) -> int:
    """The process that trains, once it has logged some steps."""

    def begun() -> bool:
        assert dvc.process.poll() is None, dvc.log.read_text()
        found = list(root.glob("runs/pretrain/croco/*/log.jsonl"))
        return bool(found) and len(journal.read(found[0])) > 10

    wait_until(begun, 90, "the training to begin")
    (owner,) = root.glob("runs/pretrain/croco/.owner")
    return int(json.loads(owner.read_text())["pid"])


def _status(root: Path) -> dict[str, Any]:
    with Repo(str(root)) as repo:
        found = {name.rpartition(":")[2]: what for name, what in repo.status().items()}
    return {name: what for name, what in found.items() if name.endswith("@croco")}


def _undisturbed(root: Path, where: Path) -> dict[str, bytes]:
    """What the command publishes that nobody disturbs."""
    shutil.copytree(root, where, ignore=shutil.ignore_patterns("models", "runs", ".dvc"))
    command = [str(Path(sys.executable).with_name("mimic")), "pretrain", "croco"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True)
    return toy_runs.files(where / "models/croco")


def test_an_orphaned_training_ends_and_the_next_dvc_goes_on_from_it(
    root: Path, tmp_path: Path, dvc: Any
) -> None:
    first = dvc("repro", STAGE)
    orphan = _training(root, first)
    os.kill(first.process.pid, signal.SIGKILL)  # as for want of memory: only dvc itself
    first.process.wait()
    second = dvc("repro", STAGE)
    status, said = second.end()
    assert status == 0, said
    assert not is_running(orphan)
    assert "the dvc that started this was killed" in first.log.read_text()
    lines = journal.read(root / "models/croco/log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert _status(root) == {}
    assert toy_runs.files(root / "models/croco") == _undisturbed(root, tmp_path / "alone")
    # it went on: the first steps are those of the orphan, made once
    (log,) = root.glob("runs/pretrain/croco/*/log.jsonl")
    speeds = [line["step"] for line in journal.read(log)]
    assert speeds == sorted(set(speeds))


def test_parameters_edited_while_a_run_trains_make_its_recipe_stale(root: Path, dvc: Any) -> None:
    """The training is recorded with the recipe that it was made by."""
    running = dvc("repro", STAGE)
    _training(root, running)
    toy_runs.change(root, "runs", "croco", seed=1)
    status, said = running.end()
    assert status == 0, said
    card = json.loads((root / "models/croco/card.json").read_text())
    assert card["seed"] == card["sections"]["run"]["seed"] == 0
    assert set(_status(root)) == {"recipe@croco"}
    toy_runs.change(root, "runs", "croco", seed=0)
    assert _status(root) == {}
