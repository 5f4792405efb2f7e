"""The repository's dvc.yaml under the real DVC, with a stand-in for the `mimic` command that writes
the outputs at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from mimic.training import HOW
from tests.support.small_pipeline import keep_only

# Writes what the stage's outputs are, with contents that change with its parameters, its inputs and
# the versions that it uses.
STAND_IN = """#!{python}
import ast, hashlib, json, pathlib, sys
import yaml

def value(file, key):
    text = pathlib.Path(file).read_text()
    if file.endswith(".py"):
        assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
        whole = dict()
        for node in assigned:
            if node.targets[0].id.endswith(("_VERSION", "_VERSIONS")):
                whole[node.targets[0].id] = ast.literal_eval(node.value)
    else:
        whole = yaml.load(text, yaml.CSafeLoader)
    for name in filter(None, key.split(".")):
        whole = whole[name]
    return whole

def recipe():
    named = value("params.yaml", "runs." + sys.argv[2])["recipe"]
    own = value("params.yaml", "pretrain").get(named, dict())
    return {{**value("src/mimic/training/recipes.yaml", "").get(named, dict()), **own}}

def used(file, found):
    # as the stages do: of all versions and presets in a file, those of what they use
    if command.startswith("mimic ingest") and file.endswith(".py"):
        reader = value("params.yaml", "sources." + sys.argv[2])["reader"]
        engine = value("src/mimic/sources/presets.yaml", reader).get("engine")
        return [found["reader"], found.get(engine)]
    if command.startswith("mimic recipe") and file.endswith(".py"):
        return found[recipe()["objective"]] if isinstance(found, dict) else found
    if command.startswith("mimic recipe"):
        whole = {{**recipe(), **value("params.yaml", "runs." + sys.argv[2])}}
        return {{name: one for name, one in whole.items() if name not in {how}}}
    if command.startswith("mimic prepare") and file.endswith("presets.yaml"):
        entry = value("params.yaml", "evaluate." + sys.argv[2])
        return found.get(entry["task"], dict()).get(entry["preset"])
    return found

command = " ".join(["mimic", *sys.argv[1:]])
with open("commands", "a") as log:
    print(command, file=log)
stage = json.loads(pathlib.Path("stages.json").read_text())[command]
said = hashlib.sha256(command.encode())
for file, keys in stage["params"].items():
    for key in keys or [""]:
        said.update(json.dumps(used(file, value(file, key))).encode())
for dep in map(pathlib.Path, stage["deps"]):
    for path in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        said.update(path.read_bytes() if path.is_file() else b"")
for out in map(pathlib.Path, stage["outs"] + stage["parts"]):
    path = out if out.suffix else out / "file"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said.hexdigest())
"""


@dataclass(frozen=True)
class Pipeline:
    root: Path

    def repro(self) -> list[str]:
        """The stages that `dvc repro` ran."""
        log = self.root / "commands"
        log.unlink(missing_ok=True)
        path = os.pathsep.join([str(self.root / "bin"), os.environ["PATH"]])
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=self.root,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return log.read_text().splitlines() if log.exists() else []

    def status(self) -> dict[str, Any]:
        """What DVC would run again, before looking at consequences."""
        with Repo(str(self.root)) as repo:
            return {name.rpartition(":")[2]: what for name, what in repo.status().items()}

    def change(self, old: str, new: str, file: str = "params.yaml") -> None:
        """A number in a file of parameters."""
        path = self.root / file
        text, count = re.subn(old, new, path.read_text(), count=1, flags=re.M | re.S)
        assert count == 1, old
        path.write_text(text)


def make_pipeline(
    root: Path, repository: Path, runs: Sequence[str] = (), tasks: Sequence[str] = ()
) -> Pipeline:
    """A clone in which nothing was run.

    Args:
        runs, tasks: only these of params.yaml; none given: all. DVC writes the records of all
            stages again after each, so few stages are quick.
    """
    for name in (
        "dvc.yaml",
        "params.yaml",
        ".dvcignore",
        ".gitignore",
        ".dvc/config",
        ".dvc/.gitignore",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(repository / name, root / name)
    if runs:
        params = keep_only(root / "params.yaml", runs, tasks)
    shutil.copytree(
        repository / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    if runs:  # the record of each run holds all recipes, too
        recipes = root / "src/mimic/training/recipes.yaml"
        named = {run["recipe"] for run in params["runs"].values()}
        filed = yaml.safe_load(recipes.read_text())
        recipes.write_text(yaml.safe_dump({name: filed[name] for name in named}))
    (root / "bin").mkdir()
    (root / "bin" / "mimic").write_text(STAND_IN.format(python=sys.executable, how=sorted(HOW)))
    (root / "bin" / "mimic").chmod(0o755)
    subprocess.run(["git", "init", "-q", root], check=True)
    with Repo(str(root)) as repo:
        stages = list(repo.index.stages)
    wanted = {dep.def_path for stage in stages for dep in stage.deps}
    plan = {}
    for stage in stages:
        outs = [out.def_path for out in stage.outs]
        listed = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        plan[stage.cmd] = {
            "outs": outs,
            "parts": [path for path in wanted if any(path.startswith(f"{out}/") for out in outs)],
            "params": {dep.def_path: dep.params for dep in listed},
            "deps": [dep.def_path for dep in stage.deps if dep not in listed],
        }
    (root / "stages.json").write_text(json.dumps(plan))
    (root / ".git/info/exclude").write_text("/bin\n/commands\n/stages.json\n")
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"],
        cwd=root,
        check=True,
    )
    return Pipeline(root)
