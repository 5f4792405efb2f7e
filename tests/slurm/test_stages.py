"""The stages on SLURM, by the real DVC and the real commands: seeds, a run that starts from
weights, and evaluations, whose results are those of this machine, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mimic import config, evaluate, pretrain
from mimic.errors import CANCELLED
from mimic.infra.storage import Workspace
from mimic.params import load_params
from tests.slurm.conftest import Sandbox
from tests.support import toy_runs
from tests.support.miniatures import write_nyu

STAGES = ("recipe", "pretrain", "adapt-recipe", "adapt", "prepare", "evaluate")
FILES = (
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"),
    *("src/mimic/training/recipes.yaml", "src/mimic/training/presets.yaml"),
    *("src/mimic/training/__init__.py", "src/mimic/models/objectives/__init__.py"),
    *("src/mimic/tasks/__init__.py", "src/mimic/tasks/presets.yaml"),
)
FINE_TUNING = {
    **{"size_px": 32, "head_width": 16, "steps": 120, "batch": 4, "eval_batch": 4, "samples": 1},
    **{"target_mean": 2.5, "target_std": 1.0, "score_region": "all", "save_every": 1000},
    **{"data": "nyu", "tracked_by": "nyu", "blocks": [0, 0, 1, 1]},
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As a job of one processor computes: the order of additions decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def root(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path, repository: Path
) -> Path:
    root = toy_runs.write_workspace(tmp_path / "workspace", repository)
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, root / name)
    write_nyu(root / "nyu")
    graph = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    chosen = {"stages": {name: graph[name] for name in STAGES}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    _write_params(root, cluster("slurm"))
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def _write_params(root: Path, settings: config.Cluster) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    like = {"recipe": "croco", "dataset": "toy", "steps": 3}
    raw["runs"] = {"random": {**like, "steps": 0, "seed": 0}, "croco": {**like, "seeds": [0, 1]}}
    raw["adapt"] = {"own": {**like, "init": "croco/seed-1", "seed": 0, "log_every": 1}}
    raw["pretrain"] = {"croco": raw["pretrain"]["croco"]}
    raw["evaluate"] = {"depth": raw["evaluate"]["depth"] | FINE_TUNING}
    raw["table"] |= {"runs": ["random", "croco", "own"], "tasks": ["depth"]}
    raw["cluster"] = settings.model_dump(mode="json")
    (root / "params.yaml").write_text(yaml.safe_dump(raw))


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def _warn_once(slurm: Sandbox, root: Path, over: threading.Event) -> None:
    """As before a time limit, to the job that fine-tunes `random`, in the midst of its training."""
    where = root / "runs/evaluate/random@depth"
    while not over.is_set():
        notes = [json.loads(path.read_text())["job"] for path in where.glob("*/job.json")]
        begun = [path for path in where.glob("*/") if not (path / "job.json").exists()]
        if begun and notes and notes[0]:
            time.sleep(1.5)
            slurm("scancel", "--signal=USR2", notes[0]["id"])
            return
        time.sleep(0.1)


def _results(root: Path, run: str) -> dict[str, bytes]:
    files = [root / f"metrics/{run}/depth.json", *(root / f"samples/{run}/depth").rglob("*")]
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in files if path.is_file()
    }


@pytest.mark.long
@pytest.mark.slurm
def test_dvc_repro_trains_seeds_and_what_starts_from_them_in_jobs(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "adapt@own"],
        cwd=root,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert list(Workspace(root).encoders("croco")) == ["croco/seed-0", "croco/seed-1"]
    card = json.loads((root / "models/own/card.json").read_text())
    assert card["init"]["name"] == "croco/seed-1", card["init"]
    for name in ("croco/seed-0", "croco/seed-1", "own"):
        assert f" of pretrain {name}: submitted" in said, name
        assert f" of pretrain {name}: COMPLETED" in said, name


@pytest.mark.slurm
@pytest.mark.usefixtures("one_thread")
def test_evaluations_in_jobs_are_those_of_this_machine(
    slurm: Sandbox, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Bit for bit: of one encoder, whose job is told to save and go on, and of two seeds."""
    params = load_params(root / "params.yaml")
    here = params.model_copy(
        update={"cluster": params.cluster.model_copy(update={"executor": "local"})}
    )
    for run in ("random", "croco"):
        pretrain.main(here, root, run)
    alone = Path(shutil.copytree(root, tmp_path / "alone"))
    over = threading.Event()
    warning = threading.Thread(target=_warn_once, args=(slurm, root, over))
    warning.start()
    evaluate.main(params, root, "random", "depth")
    over.set()
    warning.join()
    evaluate.main(params, root, "croco", "depth")
    said = capfd.readouterr().err
    for title in ("prepare depth", "evaluate random depth", "evaluate croco/seed-1 depth"):
        assert f" of {title}: submitted" in said, said
    assert ", requeued 1 time" in said, said
    assert not [path for path in root.glob("runs/evaluate/random@depth/*") if path.is_dir()]
    for run in ("random", "croco"):
        evaluate.main(here, alone, run, "depth")
        assert _results(alone, run) == _results(root, run)
        assert len(_results(alone, run)) > 2


@pytest.mark.slurm
def test_who_cancelled_is_one_line_and_an_exit_status_of_its_own(
    slurm: Sandbox, root: Path
) -> None:
    raw: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text())
    raw["runs"]["croco"] = {"recipe": "croco", "dataset": "toy", "steps": 1_000_000, "seed": 0}
    raw["table"]["runs"] = ["random", "croco"]
    (root / "params.yaml").write_text(yaml.safe_dump(raw | {"adapt": {}}))
    driver = subprocess.Popen(
        ["mimic", "pretrain", "croco"],
        cwd=root,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    job = next(line for line in driver.stdout if "submitted" in line).split()[2]
    next(line for line in driver.stdout if ": RUNNING on " in line)
    slurm("scancel", job)
    lines = driver.communicate(timeout=600)[0].splitlines()
    assert driver.returncode == CANCELLED
    assert lines[-1].startswith(f"mimic: job {job} of pretrain croco was cancelled by root; ")
    assert not [line for line in lines if line.startswith("srun")]
