"""What runs again after a change, and what does not: the real dvc.yaml of few runs and tasks, and
the real DVC."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mimic.params import load_params
from tests.support.stand_in_pipeline import Pipeline, make_pipeline
from tests.support.stated_versions import raised

RUNS = ("random", "mae-1m", "croco-3m")
TASKS = ("depth-frozen", "correspondence")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Pipeline:
    """A clone with few runs and tasks, after `dvc repro`."""
    made = make_pipeline(tmp_path_factory.mktemp("clone"), repository, RUNS, TASKS)
    assert made.repro()[-1] == "mimic report"
    return made


def test_one_number_of_evaluate_re_runs_evaluation_and_the_report(done: Pipeline) -> None:
    done.change(r"(  correspondence:\n)", r"\g<1>    pairs: 123\n")
    ran = done.repro()
    assert len(ran) > 2
    assert ran[-1] == "mimic report"
    assert (
        ran[0] == "mimic prepare correspondence"
    )  # asks the data again: fewer pairs may be too few
    assert all(re.fullmatch(r"mimic evaluate \S+ correspondence", command) for command in ran[1:-1])


def test_one_number_of_a_recipe_re_runs_its_pretraining_and_what_follows(done: Pipeline) -> None:
    runs = yaml.safe_load((done.root / "params.yaml").read_text())["runs"]
    using = {name for name, run in runs.items() if run["recipe"] == "mae-tiny"}
    recipes = "src/mimic/training/recipes.yaml"
    done.change(r"^(mae-tiny:.*?base_lr: )\S+", r"\g<1>1.0e-3", recipes)
    ran = done.repro()
    assert {command.split()[2] for command in ran if command.startswith("mimic pretrain")} == using
    assert {command.split()[2] for command in ran if command.startswith("mimic evaluate")} == using
    assert {command.split()[1] for command in ran} == {"recipe", "pretrain", "evaluate", "report"}


@pytest.mark.long
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


@pytest.mark.long
def test_an_engine_that_renders_otherwise_has_its_own_scenes_mined_again(done: Pipeline) -> None:
    """The inventory says which engine its source uses: raising another one ends there."""
    with raised(done.root, "sources: READER_VERSIONS.scenes.habitat"):
        assert done.repro() == ["mimic ingest rooms"]
    with raised(done.root, "sources: READER_VERSIONS.scenes.embree"):
        ran = done.repro()
        assert ran[:2] == ["mimic ingest rooms", "mimic mine rooms"]
        assert not {"mimic mine phone", "mimic mine frames"} & set(ran)
    done.repro()


def test_an_objective_trains_its_own_runs_again_and_a_task_measures_again(done: Pipeline) -> None:
    with raised(done.root, "models.objectives: OBJECTIVE_VERSIONS.mae"):
        ran = done.repro()
        assert {f"mimic recipe {run}" for run in RUNS} < set(ran)
        trained = [command for command in ran if command.startswith("mimic pretrain")]
        measured = [command for command in ran if command.startswith("mimic evaluate")]
        assert trained == ["mimic pretrain mae-1m"]
        assert {command.split()[2] for command in measured} == {"mae-1m"}
    done.repro()
    with raised(done.root, "tasks: TASK_VERSIONS.correspondence"):
        again = {f"mimic evaluate {run} correspondence" for run in RUNS}
        assert set(done.repro()) == {"mimic prepare correspondence", *again, "mimic report"}
    done.repro()


def test_how_a_run_is_trained_re_runs_no_training(done: Pipeline) -> None:
    """Threads that decode, checkpoints that are kept, pictures on the way: equal weights."""
    before = (done.root / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params["pretrain"]["croco-tiny"] = {"workers": 7, "keep": 5, "pictures_every": 3}
    params["runs"]["mae-1m"] |= {"workers": 3, "licences": "research"}
    (done.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert set(done.status()) == {f"recipe@{run}" for run in RUNS}
    assert {command.split()[1] for command in done.repro()} == {"recipe"}
    (done.root / "params.yaml").write_text(before)
    done.repro()
