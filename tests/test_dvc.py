"""dvc.yaml as a graph: the real file and the real DVC, with a stand-in for the `mimic` command that
writes the outputs at once."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml

from mimic import cli, config, synthesize
from mimic.config.presets import packaged_presets
from mimic.infra.publishing import Work, publish
from mimic.infra.storage import write_bytes
from mimic.models.objectives import OBJECTIVE_VERSIONS, OBJECTIVES
from mimic.sources import READER_VERSIONS, READERS, section_type
from mimic.synthetic import GENERATOR_VERSIONS
from mimic.tasks import TASK_VERSIONS, TASKS
from mimic.tasks.api import PRESETS
from tests.support.stand_in_pipeline import Pipeline, make_pipeline
from tests.support.stated_versions import raised, versions

UNTRACKED = {
    "cluster",
    "habitat",
    "tracking",
    "imported",
}  # sections that decide how and where, not what; names only


@pytest.fixture
def stages(repository: Path) -> Iterator[list[Any]]:
    with Repo(str(repository)) as repo:
        yield list(repo.index.stages)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Pipeline:
    """A clone in which nothing was run."""
    root = tmp_path_factory.mktemp("clone")
    return make_pipeline(root, repository)


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
        if isinstance(dep, ParamsDependency) and dep.def_path == "params.yaml"
        for name in dep.params
    }
    for name in listed:
        found = params
        for key in name.split("."):
            assert key in found, f"dvc.yaml lists {name}, params.yaml has no such key"
            found = found[key]
    assert params["adapt"] == {}  # no entry, no stage
    assert {name.partition(".")[0] for name in listed} == set(params) - UNTRACKED - {"adapt"}


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
    assert path.read_text() == before
    assert sorted(os.listdir(samples)) == ["file"]
    assert done.status() == {}


# Every version of ours, and what DVC makes again first when it is raised. What follows from that is
# another matter: the same bytes end it.
MINED = {"mine@rooms", "mine@phone", "mine@frames"}
RECIPES = {"recipe@random", "recipe@mae-1m", "recipe@croco-1m", "recipe@croco-3m"}
STALE: dict[str, set[str]] = {
    "synthetic: GENERATOR_VERSIONS.rooms": {"synthesize@rooms"},
    "synthetic: GENERATOR_VERSIONS.phone": {"synthesize@phone"},
    "synthetic: GENERATOR_VERSIONS.frames": {"synthesize@frames"},
    "synthetic: GENERATOR_VERSIONS.nyu": {"synthesize@nyu"},
    "synthetic: GENERATOR_VERSIONS.tasks": {"synthesize@tasks"},
    "sources: READER_VERSIONS.videos.reader": {"ingest@phone"},
    "sources: READER_VERSIONS.images.reader": {"ingest@frames"},
    "sources: READER_VERSIONS.scenes.reader": {"ingest@rooms"},
    "sources: READER_VERSIONS.scenes.embree": {"ingest@rooms"},
    "sources: READER_VERSIONS.scenes.habitat": {"ingest@rooms"},
    "mining: RULE_VERSION": MINED,
    "pairs: WRITER_VERSION": MINED,
    "pairs: SELECTION_VERSION": {"assemble@mimic-1m", "assemble@mimic-3m"},
    **{f"models.objectives: OBJECTIVE_VERSIONS.{name}": RECIPES for name in OBJECTIVE_VERSIONS},
    "training: LOOP_VERSION": {
        *("pretrain@random", "pretrain@mae-1m", "pretrain@croco-1m", "pretrain@croco-3m")
    },
    "training: RECIPE_VERSION": RECIPES,
    "training: START_VERSION": set(),  # of entries of `adapt`, which the laptop profile has none of
    "tasks: TASK_VERSIONS.depth": {"prepare@depth", "prepare@depth-frozen"},
    "tasks: TASK_VERSIONS.linear-depth": {"prepare@depth-linear"},
    "tasks: TASK_VERSIONS.few-shot-depth": {"prepare@depth-few-shot"},
    "tasks: TASK_VERSIONS.segmentation": {"prepare@segmentation"},
    "tasks: TASK_VERSIONS.linear-segmentation": {"prepare@segmentation-linear"},
    "tasks: TASK_VERSIONS.few-shot-segmentation": {"prepare@segmentation-few-shot"},
    "tasks: TASK_VERSIONS.taskonomy": {"prepare@normals"},
    "tasks: TASK_VERSIONS.correspondence": {"prepare@correspondence"},
    "tasks: TASK_VERSIONS.cross-attention": {"prepare@cross-attention"},
    "tasks: TASK_VERSIONS.reconstruction": {"prepare@reconstruction"},
    "tasks: TASK_VERSIONS.pose": {"prepare@pose"},
    "tasks: TASK_VERSIONS.linear-probe": {"prepare@imagenet"},
    "tasks: TASK_VERSIONS.knn": {"prepare@knn"},
    "tasks: TASK_VERSIONS.flow": {"prepare@flow"},
    "tasks: TASK_VERSIONS.stereo": {"prepare@stereo"},
    "tasks: TASK_VERSIONS.relative-pose": {"prepare@relative-pose"},
    "reporting: REPORT_VERSION": {"report"},
}


def test_a_raised_version_makes_its_stages_stale_and_no_other(done: Pipeline) -> None:
    """All are raised at once, and DVC says of each stage which of them it notices."""
    assert done.status() == {}
    stale: dict[str, set[str]] = {name: set() for name in STALE}
    with raised(done.root, *STALE), Repo(str(done.root)) as repo:
        for stage in repo.index.stages:
            noticed = _other_versions(stage, done.root / "src/mimic")
            for name in STALE:
                if any(f"{name}.".startswith(f"{one}.") for one in noticed):
                    stale[name].add(stage.name)
    assert stale == STALE


def _other_versions(stage: Any, package: Path) -> list[str]:
    """The versions, or tables of them, that are others than when DVC ran a stage."""
    names = []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            file = Path(dep.fs_path)
            for noticed in dep.status().values():
                room = ".".join(file.parent.relative_to(package).parts)
                names += [f"{room}: {name}" for name in noticed]
    return names


def test_the_table_knows_every_version_and_so_does_dvc_yaml(done: Pipeline) -> None:
    params = yaml.safe_load((done.root / "params.yaml").read_text())
    readers = {source["reader"] for source in params["sources"].values()}
    tasks = {entry["task"] for entry in params["evaluate"].values()}
    others = {
        *(f"sources: READER_VERSIONS.{name}." for name in set(READER_VERSIONS) - readers),
        *(f"tasks: TASK_VERSIONS.{name}" for name in set(TASK_VERSIONS) - tasks),
    }
    unknown = set(versions(done.root / "src/mimic")) - set(STALE)
    unlisted = sorted(name for name in unknown if not name.startswith(tuple(others)))
    assert not unlisted, f"add to STALE which stages run again when one is raised: {unlisted}"
    with raised(done.root, *unknown):  # of what no entry of the laptop profile uses
        assert done.status() == {}


def test_every_reader_objective_task_and_kind_has_a_version() -> None:
    assert set(READER_VERSIONS) == set(READERS)
    assert set(OBJECTIVE_VERSIONS) == set(OBJECTIVES)
    assert set(TASK_VERSIONS) == set(TASKS)
    assert set(packaged_presets(PRESETS).content) >= set(TASKS)  # DVC reads each by its name
    assert set(GENERATOR_VERSIONS) == set(synthesize.KINDS)
    engines = {reader for reader, versions in READER_VERSIONS.items() if len(versions) > 1}
    rendered = {name for name in READERS if issubclass(section_type(name), config.SceneBase)}
    assert engines == rendered


def test_what_is_said_beside_the_code_re_runs_nothing(done: Pipeline) -> None:
    """A comment in every file of the package, other words in every docstring at its top, and what
    running leaves behind."""
    files = [path for path in (done.root / "src").rglob("*") if path.suffix in (".py", ".yaml")]
    assert len(files) > 200
    before = {path: path.read_text() for path in [*files, done.root / "dvc.yaml"]}
    for path, text in before.items():
        documented = path.suffix == ".py" and text.startswith('"""')
        path.write_text(
            ("Other words.".join(['"""', text[3:]]) if documented else text) + "# said\n"
        )
        if path.suffix == ".py":
            ast.parse(path.read_text())
    cache = done.root / "src/mimic/geometry/__pycache__"
    cache.mkdir()
    (cache / "patches.cpython-311.pyc").write_bytes(b"bytecode")
    assert done.status() == {}
    assert done.repro() == []
    for path, text in before.items():
        path.write_text(text)
