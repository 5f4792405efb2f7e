"""The stages of runs that start from weights: the real dvc.yaml and the real DVC, with a stand-in
for training that writes what depends on its inputs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from mimic.flows.pipeline import graph, select

STAGES = ("recipe", "pretrain", "adapt-recipe", "adapt", "evaluate")
TOY = {"recipe": "croco-tiny", "dataset": "mimic-1m", "steps": 3, "seed": 0}
ADAPT = {
    "own": TOY | {"init": "mae-in"},
    "longer": TOY | {"init": "own"},
    "on": TOY | {"init": "croco-1m"},
    "seeds": {**TOY, "seed": None, "seeds": [0, 1], "init": "twice/seed-1"},
}
# Writes a number that every input has a say in.
STAND_IN = """#!{python}
import hashlib, json, pathlib, sys
import yaml

_, command, name, *_ = sys.argv
said = hashlib.sha256(" ".join(sys.argv[1:]).encode())
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
entry = params["runs"].get(name) or params["adapt"].get(name) or dict()
seeds = [f"seed-{{seed}}/" for seed in entry.get("seeds") or []] or [""]
inputs = ["data/recipes/" + name + ".json", "data/manifests/mimic-1m.parquet"]
if "init" in entry:
    inputs.append("models/" + entry["init"] + "/model.safetensors")
outs = {{
    "recipe": ["data/recipes/" + name + ".json"],
    "pretrain": ["models/" + name + "/" + seed + "model.safetensors" for seed in seeds],
    "evaluate": ["samples/" + name + "/knn/file", "metrics/" + name + "/knn.json"],
}}[command]
if command == "pretrain":
    for path in inputs:
        said.update(pathlib.Path(path).read_bytes())  # DVC's order: they are there
if command == "recipe":
    said.update(json.dumps(entry).encode())
for path in map(pathlib.Path, outs):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said.hexdigest())
with open("commands", "a") as log:
    print(command, name, file=log)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace with pairs, an import, and the stages from the recipes to the evaluation."""
    root = tmp_path_factory.mktemp("adapt")
    shutil.copytree(
        repository / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache")
    )
    whole = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    stages = {name: whole[name] for name in STAGES}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["runs"] = dict.fromkeys(("random", "croco-1m"), TOY)
    params["runs"]["twice"] = {**TOY, "seed": None, "seeds": [0, 1]}
    params |= {"adapt": ADAPT, "imported": ["mae-in"]}
    params["table"] |= {"runs": ["croco-1m", "longer"], "tasks": ["knn"]}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copytree(
        repository / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for path in ("data/manifests/mimic-1m.parquet", "data/tasks/knn.json"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("there")
    (root / "models/mae-in").mkdir(parents=True)
    (root / "models/mae-in/model.safetensors").write_text("first")
    (root / "bin").mkdir()
    (root / "bin/mimic").write_text(STAND_IN.format(python=sys.executable))
    (root / "bin/mimic").chmod(0o755)
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def repro(root: Path) -> list[str]:
    """The commands that ran."""
    log = root / "commands"
    log.unlink(missing_ok=True)
    path = os.pathsep.join([str(root / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def first(root: Path) -> list[str]:
    return repro(root)


def test_a_run_is_trained_before_what_starts_from_it(root: Path, first: list[str]) -> None:
    trained = [line.split()[1] for line in first if line.startswith("pretrain")]
    assert sorted(trained) == sorted([*ADAPT, "random", "croco-1m", "twice"])
    for name, before in (("longer", "own"), ("on", "croco-1m"), ("seeds", "twice")):
        assert trained.index(before) < trained.index(name)
    assert repro(root) == []


def test_other_weights_train_what_starts_from_them_again_and_nothing_else(
    root: Path, first: list[str]
) -> None:
    (root / "models/mae-in/model.safetensors").write_text("second")
    with Repo(str(root)) as repo:
        assert {name.rpartition(":")[2] for name in repo.status()} == {"adapt@own"}
    assert repro(root) == ["pretrain own", "pretrain longer", "evaluate longer"]


def test_what_says_how_to_begin_trains_one_entry_again(root: Path, first: list[str]) -> None:
    path = root / "params.yaml"
    before = path.read_text()
    params = yaml.safe_load(before)
    params["adapt"]["on"]["layer_decay"] = 0.75
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    ran = repro(root)
    path.write_text(before)
    assert ran == ["recipe on", "pretrain on"]
    repro(root)


def test_the_flow_reads_the_order_from_dvc(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    needs = graph()
    assert needs["adapt@longer"] == ["adapt-recipe@longer", "adapt@own"]
    assert needs["adapt@on"] == ["adapt-recipe@on", "pretrain@croco-1m"]
    assert needs["adapt@own"] == ["adapt-recipe@own"]
    assert needs["evaluate@longer-knn"] == ["adapt@longer"]
    wanted, needed = select(needs, ["adapt"], {"runs": ["on"]})
    assert wanted == {"adapt@on"}
    assert set(needed) == {"adapt@on", "adapt-recipe@on", "pretrain@croco-1m", "recipe@croco-1m"}
