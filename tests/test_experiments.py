"""`dvc exp run` with the real DVC and the real commands: parameters changed on the command line,
experiments that wait in DVC's queue, and where what DVC does not know of goes."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from mlflow import MlflowClient

from mimic.infra import experiment
from mimic.infra.storage import Workspace, read_json
from mimic.params import load_params
from tests.support import toy_runs

pytestmark = pytest.mark.timeout(1800)
STAGES = ("recipe", "pretrain")
FILES = (
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore"),
    *("src/mimic/training/recipes.yaml", "src/mimic/training/__init__.py"),
    "src/mimic/models/objectives/__init__.py",
)
IGNORED = "/data/recipes/\n/models/\n/runs/\n/mlruns/\n/mlflow.db*\n"
QUEUE_S = 600.0


def _run(root: Path, *command: str, output: Path | None = None) -> str:
    """What a command prints; what it leaves running may hold a file, and would hold a pipe open."""
    with nullcontext(subprocess.PIPE) if output is None else output.open("w") as stream:
        return _done(root, command, stream)


def _done(root: Path, command: tuple[str, ...], stream: Any) -> str:
    done = subprocess.run(
        command,
        cwd=root,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
            "GIT_AUTHOR_NAME": "x",
            "GIT_AUTHOR_EMAIL": "x@localhost",
            "GIT_COMMITTER_NAME": "x",
            "GIT_COMMITTER_EMAIL": "x@localhost",
        },
        stdout=stream,
        stderr=stream,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout or ""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace in which one run was trained and committed; git keeps its few pairs."""
    root = tmp_path_factory.mktemp("experiments")
    toy_runs.write_workspace(root, repository)
    raw = yaml.safe_load((root / "params.yaml").read_text())
    like = {"recipe": "croco", "dataset": "toy", "seed": 0}
    raw["runs"] = {"random": like | {"steps": 0}, "croco": like | {"steps": 2}}
    raw["pretrain"] = {"croco": raw["pretrain"]["croco"]}
    raw["evaluate"] = {}
    raw["table"] |= {"runs": ["random", "croco"], "tasks": []}
    raw["tracking"]["uri"] = "sqlite:///mlflow.db"
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, root / name)
    graph = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    chosen = {"stages": {name: graph[name] for name in STAGES}}
    for stage in chosen["stages"].values():
        stage["foreach"] = {"croco": {"dataset": "toy"}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    (root / ".gitignore").write_text(IGNORED)
    _run(root, "git", "init", "-q", ".")
    _run(root, "dvc", "repro")
    _run(root, "git", "add", ".")
    _run(root, "git", "commit", "-qm", "trained")
    return root


@pytest.fixture(scope="module")
def queued(root: Path) -> Iterator[Path]:
    """The same after one experiment beside the workspace, from DVC's queue."""
    _run(root, "dvc", "exp", "run", "--queue", "-S", "runs.croco.steps=3", "-n", "three")
    # DVC's worker outlives the command, and where two of its processes meet at a file of its queue
    # it never ends.
    _run(root, "dvc", "queue", "start", output=root.parent / "queue.txt")
    end = time.monotonic() + QUEUE_S
    while "Success" not in (said := _run(root, "dvc", "queue", "status")):
        failed = "Failed" in said or time.monotonic() > end
        assert not failed, said + _run(root, "dvc", "queue", "logs", "three")
        time.sleep(1)
    yield root
    for path in (root / ".dvc/tmp/exps/celery").glob("*.pid"):
        with suppress(OSError, ValueError):  # it has ended, as it should
            os.kill(int(path.read_text()), signal.SIGKILL)


def _tracked(root: Path) -> dict[str | None, dict[str, str]]:
    """Tags of the pretrainings that MLflow shows, by experiment; None is the workspace's own."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    groups = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(groups, "tags.`mimic.level` = 'pretrain'")
    found = {run.data.tags.get("experiment"): run.data.tags for run in runs}
    assert len(found) == len(runs)
    return found


def test_a_queued_experiment_leaves_its_work_and_its_record_in_the_workspace(
    queued: Path,
) -> None:
    assert read_json(queued / "models/croco/card.json")["steps"] == 2
    tracked = _tracked(queued)
    assert set(tracked) == {None, "three"}
    assert [tags["current"] for tags in tracked.values()] == ["true", "true"]
    (work,) = (queued / "runs/experiments/three/pretrain/croco").iterdir()
    lines = (work / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 3
    assert len(list((queued / "runs/pretrain/croco").iterdir())) == 1
    assert not list((queued / ".dvc/tmp/exps").glob("tmp*"))


def test_an_experiment_is_shown_compared_and_applied(queued: Path) -> None:
    shown = json.loads(_run(queued, "dvc", "exp", "show", "--json"))
    (made,) = shown[1]["experiments"]
    assert made["name"] == "three"
    params = made["revs"][0]["data"]["params"]["params.yaml"]["data"]
    assert params["runs"]["croco"]["steps"] == 3
    assert "runs.croco.steps" in _run(queued, "dvc", "exp", "diff", "HEAD", "three")
    _run(queued, "dvc", "exp", "apply", "three")
    assert read_json(queued / "models/croco/card.json")["steps"] == 3
    assert "Running stage" not in _run(queued, "dvc", "repro")
    _run(queued, "git", "checkout", "-q", ".")
    _run(queued, "dvc", "checkout")


def test_an_experiment_in_the_workspace_itself(queued: Path) -> None:
    changes = ("-S", "runs.croco.steps=1", "-S", "pretrain.croco.mask_ratio=0.8")
    _run(queued, "dvc", "exp", "run", *changes, "-n", "one")
    params = load_params(queued / "params.yaml")
    assert (params.runs["croco"].steps, params.recipe("croco").mask_ratio) == (1, 0.8)
    assert read_json(queued / "models/croco/card.json")["steps"] == 1
    assert not (queued / "runs/experiments/one").exists()
    assert len(list((queued / "runs/pretrain/croco").iterdir())) == 2


def test_only_a_copy_that_dvc_made_has_another_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC says an experiment's name to its stages in the workspace, too."""
    copy = tmp_path / ".dvc/tmp/exps/tmpabc/below"
    copy.mkdir(parents=True)
    monkeypatch.setenv(experiment.NAME, "three")
    assert (experiment.home(tmp_path), experiment.name(tmp_path)) == (tmp_path, None)
    assert (experiment.home(copy), experiment.name(copy)) == (tmp_path.resolve(), "three")
    monkeypatch.chdir(copy)
    space = Workspace(Path())
    assert space.work("mine", "phone") == tmp_path / "runs/experiments/three/mine/phone"
    assert space.decoded() == tmp_path / "runs/decoded"  # the same pixels for everybody
    assert space.model("croco") == Path("models/croco")


CHANGES: dict[str, list[str]] = {
    "laptop": ["runs.croco-1m.steps=7", "+pretrain.croco-tiny.base_lr=1e-3"],
    "paper": ["runs.mimic-1m.seed=5", "+pretrain.mae-vit-b.base_lr=1e-3"],
    "study": ["runs.croco.steps=7", "+pretrain.croco.base_lr=1e-3"],
}


LINES = {"laptop": 34, "paper": 30, "study": 60}


@pytest.mark.parametrize("profile", sorted(CHANGES))
def test_dvc_can_rewrite_every_profile_and_it_stays_readable(
    repository: Path, tmp_path: Path, profile: str
) -> None:
    """A quoted word that holds a colon, inside braces, loses its quotes, and with them its
    meaning."""
    before = (repository / "profiles" / f"{profile}.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(before)
    apply_overrides(path, CHANGES[profile])
    expected: Any = yaml.safe_load(before)
    for change in CHANGES[profile]:
        name, _, number = change.removeprefix("+").partition("=")
        *above, last = name.split(".")
        section = expected
        for key in above:
            section = section.setdefault(key, {})
        section[last] = yaml.safe_load(number) if number.isdecimal() else float(number)
    after = path.read_text()
    assert yaml.safe_load(after) == expected
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    touched = sum(line.startswith("+ ") for line in lines)
    assert touched <= LINES[profile], "DVC writes lists and long lines anew, and nothing else"
    comments = [line.partition("# ")[2] for line in before.splitlines() if "# " in line]
    assert [line.partition("# ")[2] for line in after.splitlines() if "# " in line] == comments
