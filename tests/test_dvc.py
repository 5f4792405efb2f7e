"""dvc.yaml as a graph: the real file and the real DVC, with a stand-in for the `mimic` command that
writes the outputs at once."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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
from mimic.params import load_params
from mimic.sources import READER_VERSIONS, READERS, section_type
from mimic.synthetic import GENERATOR_VERSIONS
from mimic.tasks import TASK_VERSIONS, TASKS
from mimic.tasks.api import PRESETS
from tests.support.stand_in_pipeline import Pipeline, make_pipeline

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


def test_one_number_of_evaluate_re_runs_evaluation_and_the_report(done: Pipeline) -> None:
    done.change(r"(  correspondence:\n)", r"\g<1>    pairs: 123\n")
    ran = done.repro()
    assert len(ran) > 2
    assert ran[-1] == "mimic report"
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


def test_one_number_of_a_recipe_re_runs_its_pretraining_and_what_follows(done: Pipeline) -> None:
    runs = yaml.safe_load((done.root / "params.yaml").read_text())["runs"]
    using = {name for name, run in runs.items() if run["recipe"] == "mae-tiny"}
    recipes = "src/mimic/training/recipes.yaml"
    done.change(r"^(mae-tiny:.*?base_lr: )\S+", r"\g<1>1.0e-3", recipes)
    ran = done.repro()
    assert {command.split()[2] for command in ran if command.startswith("mimic pretrain")} == using
    assert {command.split()[2] for command in ran if command.startswith("mimic evaluate")} == using
    assert {command.split()[1] for command in ran} == {"recipe", "pretrain", "evaluate", "report"}


def test_a_recipe_may_stand_under_pretrain_alone(done: Pipeline) -> None:
    """And a recipe of the package that a run does not name trains it no more."""
    recipes = "src/mimic/training/recipes.yaml"
    filed = yaml.safe_load((done.root / recipes).read_text())
    before = (done.root / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params["pretrain"]["our-own"] = {
        key: value for key, value in filed["mae-tiny"].items() if key != "of"
    }
    params["runs"]["mae-1m"]["recipe"] = "our-own"
    (done.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    load_params(done.root / "params.yaml")
    trained = [command for command in done.repro() if command.startswith("mimic pretrain")]
    assert trained == ["mimic pretrain mae-1m"]
    done.change(r"^(mae-tiny:.*?base_lr: )\S+", r"\g<1>7.0e-4", recipes)
    assert {command.split()[1] for command in done.repro()} == {"recipe"}
    (done.root / "params.yaml").write_text(before)
    done.repro()


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


def _numbers(node: ast.expr, name: str) -> dict[str, ast.Constant]:
    """The numbers of an assignment, by dotted name."""
    if isinstance(node, ast.Dict):
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            found |= _numbers(value, f"{name}.{ast.literal_eval(key)}")
        return found
    assert isinstance(node, ast.Constant), f"{name}: DVC reads plain numbers and tables of them"
    return {name: node}


def _versions(package: Path) -> dict[str, tuple[Path, ast.Constant]]:
    """Every version that a room of the package states: its file, and the number in it."""
    found = {}
    for file in sorted(package.rglob("__init__.py")):
        room = ".".join(file.parent.relative_to(package).parts)
        body = ast.parse(file.read_text()).body
        for node in [node for node in body if isinstance(node, ast.Assign)]:
            name = ast.unparse(node.targets[0])
            if name.endswith(("_VERSION", "_VERSIONS")):
                for full, number in _numbers(node.value, name).items():
                    found[f"{room}: {full}"] = (file, number)
    return found


@contextmanager
def _raised(root: Path, *names: str) -> Iterator[None]:
    """Versions one higher than they are."""
    before: dict[Path, str] = {}
    for name in names:
        file, number = _versions(root / "src/mimic")[name]
        before.setdefault(file, file.read_text())
        lines = file.read_text().splitlines(keepends=True)
        line = lines[number.lineno - 1]
        assert isinstance(number.value, int)
        new = str(number.value + 1)
        lines[number.lineno - 1] = line[: number.col_offset] + new + line[number.end_col_offset :]
        file.write_text("".join(lines))
    try:
        yield
    finally:
        for file, text in before.items():
            file.write_text(text)


def test_a_raised_version_makes_its_stages_stale_and_no_other(done: Pipeline) -> None:
    assert done.status() == {}
    with Repo(str(done.root)) as repo:
        found = list(repo.index.stages)
        for name, expected in STALE.items():
            with _raised(done.root, name):
                assert {stage.name for stage in found if _other_versions(stage)} == expected


def _other_versions(stage: Any) -> bool:
    """Whether DVC finds a parameter of a stage changed; it compares nothing else of it."""
    return any(dep.status() for dep in stage.deps if isinstance(dep, ParamsDependency))


def test_the_table_knows_every_version_and_so_does_dvc_yaml(done: Pipeline) -> None:
    params = yaml.safe_load((done.root / "params.yaml").read_text())
    readers = {source["reader"] for source in params["sources"].values()}
    tasks = {entry["task"] for entry in params["evaluate"].values()}
    others = {
        *(f"sources: READER_VERSIONS.{name}." for name in set(READER_VERSIONS) - readers),
        *(f"tasks: TASK_VERSIONS.{name}" for name in set(TASK_VERSIONS) - tasks),
    }
    unknown = set(_versions(done.root / "src/mimic")) - set(STALE)
    unlisted = sorted(name for name in unknown if not name.startswith(tuple(others)))
    assert not unlisted, f"add to STALE which stages run again when one is raised: {unlisted}"
    with _raised(done.root, *unknown):  # of what no entry of the laptop profile uses
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


def test_an_engine_that_renders_otherwise_has_its_own_scenes_mined_again(done: Pipeline) -> None:
    """The inventory says which engine its source uses: raising another one ends there."""
    with _raised(done.root, "sources: READER_VERSIONS.scenes.habitat"):
        assert done.repro() == ["mimic ingest rooms"]
    with _raised(done.root, "sources: READER_VERSIONS.scenes.embree"):
        ran = done.repro()
        assert ran[:2] == ["mimic ingest rooms", "mimic mine rooms"]
        assert not {"mimic mine phone", "mimic mine frames"} & set(ran)
    done.repro()


def test_an_objective_trains_its_own_runs_again_and_a_task_measures_again(done: Pipeline) -> None:
    with _raised(done.root, "models.objectives: OBJECTIVE_VERSIONS.mae"):
        ran = done.repro()
        assert {name.replace("@", " ") for name in RECIPES} < {
            command.removeprefix("mimic ") for command in ran
        }
        trained = [command for command in ran if command.startswith("mimic pretrain")]
        measured = [command for command in ran if command.startswith("mimic evaluate")]
        assert trained == ["mimic pretrain mae-1m"]
        assert {command.split()[2] for command in measured} == {"mae-1m"}
    done.repro()
    runs = yaml.safe_load((done.root / "params.yaml").read_text())["table"]["runs"]
    with _raised(done.root, "tasks: TASK_VERSIONS.correspondence"):
        again = {f"mimic evaluate {run} correspondence" for run in runs}
        assert set(done.repro()) == {"mimic prepare correspondence", *again, "mimic report"}
    done.repro()


def test_how_a_run_is_trained_re_runs_no_training(done: Pipeline) -> None:
    """Threads that decode, checkpoints that are kept, pictures on the way: equal weights."""
    before = (done.root / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params["pretrain"]["croco-tiny"] = {"workers": 7, "keep": 5, "pictures_every": 3}
    (done.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert set(done.status()) == RECIPES
    assert {command.split()[1] for command in done.repro()} == {"recipe"}
    (done.root / "params.yaml").write_text(before)
    done.repro()
