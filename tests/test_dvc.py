"""dvc.yaml as a graph: the real file and the real DVC, with a stand-in for the `mimic` command that
writes the outputs at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp
import pytest
import typer
import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml

from mimic import cli
from mimic.infra.publishing import Work, publish
from mimic.infra.storage import write_bytes

UNTRACKED = {
    "cluster",
    "habitat",
    "tracking",
    "imported",
}  # sections that decide how and where, not what; names only

# Code that decides how a stage runs, not what it writes; what it writes is decided by params, too.
HOW = ("mimic.config", "mimic.errors", "mimic.infra", "mimic.params")

# Modules that a stage imports and that have no say in what it writes.
UNUSED: dict[str, tuple[str, ...]] = {
    "synthesize": (
        "mimic.geometry.likeness",
        "mimic.pairs.schema",
        "mimic.pairs.tar",
    ),  # JPEGs are made, no shards
    "ingest": (
        "mimic.geometry",
        "mimic.scenes",
        "mimic.pairs.write",
        "mimic.pairs.tar",
    ),  # clips are listed, not looked into
    "mine": (),
    "assemble": (),
    "pretrain": (),
    "prepare": (  # nothing is trained, no model runs
        "mimic.geometry.motion",
        "mimic.geometry.relative",
        "mimic.models",
        "mimic.training.augment",
        "mimic.training.checkpoint",
        "mimic.training.fit",
        "mimic.training.lars",
        "mimic.training.optim",
        "mimic.training.watch",
    ),
    "evaluate": (),
    "report": ("mimic.tasks",),  # what its tables are called
}

# Writes what the stage's outputs are, with contents that change whenever its parameters do.
STAND_IN = """#!{python}
import json, pathlib, sys
command = " ".join(["mimic", *sys.argv[1:]])
with open("commands", "a") as log:
    print(command, file=log)
stage = json.loads(pathlib.Path("stages.json").read_text())[command]
for out in map(pathlib.Path, stage["outs"] + stage["parts"]):
    path = out if out.suffix else out / "file"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(command + pathlib.Path("params.yaml").read_text())
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

    def change(self, old: str, new: str) -> None:
        """A number in params.yaml."""
        path = self.root / "params.yaml"
        text, count = re.subn(old, new, path.read_text(), count=1, flags=re.M | re.S)
        assert count == 1, old
        path.write_text(text)


@pytest.fixture
def stages(repository: Path) -> Iterator[list[Any]]:
    with Repo(str(repository)) as repo:
        yield list(repo.index.stages)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Pipeline:
    """A clone in which nothing was run."""
    root = tmp_path_factory.mktemp("clone")
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
    shutil.copytree(
        repository / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    (root / "bin").mkdir()
    (root / "bin" / "mimic").write_text(STAND_IN.format(python=sys.executable))
    (root / "bin" / "mimic").chmod(0o755)
    subprocess.run(["git", "init", "-q", root], check=True)
    with Repo(str(root)) as repo:
        stages = list(repo.index.stages)
    wanted = {dep.def_path for stage in stages for dep in stage.deps}
    plan = {}
    for stage in stages:
        outs = [out.def_path for out in stage.outs]
        plan[stage.cmd] = {
            "outs": outs,
            "parts": [path for path in wanted if any(path.startswith(f"{out}/") for out in outs)],
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


@pytest.fixture(scope="module")
def done(fresh: Pipeline) -> Pipeline:
    """The same after `dvc repro`."""
    ran = fresh.repro()
    plan = json.loads((fresh.root / "stages.json").read_text())
    assert sorted(ran) == sorted(plan), "a stage ran twice, or not at all"
    assert ran[-1] == "mimic report"
    return fresh


def test_a_stage_is_a_command_is_a_section(repository: Path, stages: list[Any]) -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    pipeline = {name for name, command in commands.items() if command.rich_help_panel == "Pipeline"}
    assert {stage.name.partition("@")[0] for stage in stages} == pipeline
    for stage in stages:
        kind, _, names = stage.name.partition("@")
        assert stage.cmd.split()[:2] == ["mimic", kind]
        assert "-".join(stage.cmd.split()[2:]) == names


def test_every_parameter_exists_and_every_section_is_tracked(
    repository: Path, stages: list[Any]
) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text())
    listed = {
        name
        for stage in stages
        for dep in stage.deps
        if isinstance(dep, ParamsDependency)
        for name in dep.params
    }
    for name in listed:
        found = params
        for key in name.split("."):
            assert key in found, f"dvc.yaml lists {name}, params.yaml has no such key"
            found = found[key]
    assert {name.partition(".")[0] for name in listed} == set(params) - UNTRACKED


def _covers(dependency: str, module: str) -> bool:
    path = module.replace(".", "/")
    return (
        f"src/{path}.py" == dependency
        or f"src/{path}".startswith(dependency + "/")
        or f"src/{path}" == dependency
    )


def _reached(graph: Any, stage: str) -> set[str]:
    """Modules that the stage's file imports, directly or not, at once or when called."""
    found: set[str] = set()
    waiting = [f"mimic.{stage}"]
    while waiting:
        module = waiting.pop()
        if module in found or module == "mimic":
            continue
        if module.startswith(HOW):
            continue
        found.add(module)
        waiting += graph.find_modules_directly_imported_by(module)
    return found


@pytest.fixture(scope="module")
def imports() -> Any:
    return grimp.build_graph("mimic", exclude_type_checking_imports=True)


@pytest.mark.parametrize("stage", sorted(UNUSED))
def test_a_stage_depends_on_the_code_it_imports(repository: Path, imports: Any, stage: str) -> None:
    """And on no other: every module is reached by imports, but for those that have no say."""
    section = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"][stage]
    listed = section.get("do", section)["deps"]
    code = [path for path in listed if path.startswith("src/")]
    reached = _reached(imports, stage)
    unused = (
        {module for module in reached if module.startswith(tuple(UNUSED[stage]))}
        if UNUSED[stage]
        else set()
    )
    missing = {
        module for module in reached - unused if not any(_covers(path, module) for path in code)
    }
    assert sorted(missing) == [], f"{stage}: dvc.yaml lists no dependency for these"
    for path in code:
        assert any(_covers(path, module) for module in reached), f"{stage} never imports {path}"
    for module in UNUSED[stage]:
        assert any(one.startswith(module) for one in unused), f"{stage} never imports {module}"


def test_every_stage_has_its_code_compared(repository: Path) -> None:
    assert set(yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]) == set(UNUSED)


def test_dvc_reads_the_parameters_as_we_do(repository: Path) -> None:
    """Two readers of YAML: `1e-3` is a number to one and text to the other."""
    for path in [repository / "params.yaml", *repository.glob("profiles/*.yaml")]:
        assert load_yaml(str(path)) == yaml.safe_load(path.read_text()), path


def test_everything_leads_to_the_report_in_every_profile(
    fresh: Pipeline, repository: Path, tmp_path: Path
) -> None:
    for profile in repository.glob("profiles/*.yaml"):
        root = tmp_path / profile.stem
        shutil.copytree(
            fresh.root / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache")
        )
        shutil.copy(fresh.root / "dvc.yaml", root)
        shutil.copy(profile, root / "params.yaml")
        subprocess.run(["git", "init", "-q", root], check=True)
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            unused = [
                stage.name
                for stage in graph
                if not graph.in_degree(stage) and stage.name != "report"
            ]
        waiting = (
            ["synthesize@tasks"]
            if yaml.safe_load(profile.read_text())["synthesize"].get("tasks") == {}
            else []
        )
        assert unused == waiting, f"{profile}: nothing needs these"


def test_a_second_repro_runs_nothing_and_git_sees_one_new_file(done: Pipeline) -> None:
    assert done.repro() == []
    assert done.status() == {}
    listed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=done.root, capture_output=True, text=True, check=True
    ).stdout
    assert listed.splitlines() == ["?? dvc.lock"]


def test_how_and_where_re_run_nothing(done: Pipeline) -> None:
    params = yaml.safe_load((done.root / "params.yaml").read_text())
    before = (done.root / "params.yaml").read_text()
    for section in UNTRACKED:
        params[section] = {"anything": "else"}
    (done.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert done.status() == {}
    assert done.repro() == []
    (done.root / "params.yaml").write_text(before)


def test_running_the_code_changes_no_dependency(done: Pipeline) -> None:
    cache = done.root / "src/mimic/geometry/__pycache__"
    cache.mkdir()
    (cache / "patches.cpython-311.pyc").write_bytes(b"bytecode")
    assert done.status() == {}


def test_one_number_of_evaluate_re_runs_evaluation_and_the_report(done: Pipeline) -> None:
    done.change(r"(correspondence: .*?pairs: )\d+", r"\g<1>123")
    ran = done.repro()
    assert len(ran) > 2 and ran[-1] == "mimic report"
    assert (
        ran[0] == "mimic prepare correspondence"
    )  # asks the data again: fewer pairs may be too few
    assert all(re.fullmatch(r"mimic evaluate \S+ correspondence", command) for command in ran[1:-1])


def test_other_data_masks_splits_or_images_are_looked_through(done: Pipeline) -> None:
    before = (done.root / "params.yaml").read_text()
    params = yaml.safe_load(before)
    changes = {
        "depth": {"masks": "data/masks"},
        "segmentation": {"images": [8, 4]},
        "normals": {"splits": "data/other"},
        "pose": {"data": "data/raw/tasks/other"},
        "relative-pose": {"neighbours": 2},
    }
    for task, fields in changes.items():
        params["evaluate"][task] |= fields
    (done.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    stale = set(done.status())
    (done.root / "params.yaml").write_text(before)
    assert {name for name in stale if name.startswith("prepare")} == {
        f"prepare@{task}" for task in changes
    }
    assert done.status() == {}


def test_code_that_changes_makes_its_stages_stale(done: Pipeline) -> None:
    """What a task is tuned by and what a shard is read by, for example."""
    for path, kinds in (
        ("training/fit.py", {"pretrain", "evaluate"}),
        ("geometry/motion.py", {"synthesize", "mine", "evaluate", "report"}),
        ("tasks/depth/check.py", {"prepare", "evaluate"}),
    ):
        file = done.root / "src/mimic" / path
        before = file.read_bytes()
        file.write_bytes(before + b"# changed\n")
        assert {name.partition("@")[0] for name in done.status()} == kinds, path
        file.write_bytes(before)


def test_one_number_of_a_recipe_re_runs_its_pretraining_and_what_follows(done: Pipeline) -> None:
    runs = yaml.safe_load((done.root / "params.yaml").read_text())["runs"]
    using = {name for name, run in runs.items() if run["recipe"] == "mae"}
    done.change(r"^(  mae:.*?base_lr: )\S+", r"\g<1>1.0e-3")
    ran = done.repro()
    assert {command.split()[2] for command in ran if command.startswith("mimic pretrain")} == using
    assert {command.split()[2] for command in ran if command.startswith("mimic evaluate")} == using
    assert {command.split()[1] for command in ran} == {"pretrain", "evaluate", "report"}


def test_a_stage_may_replace_outputs_that_are_links_into_the_cache(done: Pipeline) -> None:
    """Writing through a link would damage DVC's cache; replacing it does not, so the cache can give
    the old file back."""
    path = done.root / "metrics/random/depth.json"
    before = path.read_text()
    write_bytes(path, b"changed")
    samples = done.root / "samples/random/depth"
    work = Work("samples", "random/depth")
    publish(
        lambda folder: (folder / "new").write_text("new"), samples, work, recognise=lambda *_: work
    )
    assert set(done.status()) == {"evaluate@random-depth", "report"}
    with Repo(str(done.root)) as repo:
        repo.checkout(force=True)
    assert path.read_text() == before and sorted(os.listdir(samples)) == ["file"]
    assert done.status() == {}
