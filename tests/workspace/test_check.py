"""`mimic check`, profiles, and what a reader without a row says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml

from mimic import ingest, recipe, sources
from mimic.commands.workspace import asked, check
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.params import load_params, resolve_params
from tests.support import footage
from tests.support.command import MIMIC

SHORT = """\
profile: laptop
profiles:
  laptop: {runs: {steps: 77, batch: 16}}
  gpu: {runs: {steps: 5000}}
sources:
  home:
    {reader: videos, root: videos, tracked_by: videos, licence: private, spacing_s: 0.4,
    retry_spacing_s: 0.8}
datasets:
  own: {sources: {home: null}}
runs:
  random: {dataset: own, steps: 0}
  own: {dataset: own}
  twice: {dataset: own, seeds: [0, 1], batch: 8}
evaluate:
  views: {task: correspondence, dataset: own, tracked_by: data/manifests/own.parquet}
table: {runs: [random, own], tasks: [views]}
"""


@pytest.fixture
def short(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    (tmp_path / "params.yaml").write_text(SHORT)
    return tmp_path / "params.yaml"


def _with(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def test_a_profile_states_what_the_file_does_not(short: Path) -> None:
    params = load_params(short)
    assert check.problems(short) == []
    assert (params.runs["own"].steps, params.runs["random"].steps) == (77, 0)
    assert (params.recipe("own").batch, params.recipe("twice").batch) == (16, 8)
    assert (params.runs["own"].seed, params.runs["twice"].seeds) == (0, (0, 1))
    assert params.datasets["own"].validation == 0.2
    assert params.cluster.executor == "local"
    assert not params.synthesize.model_dump()
    _with(short, "profile: laptop", "profile: gpu")
    large = load_params(short)
    assert (large.runs["own"].steps, large.recipe("own").model.width) == (5000, 768)
    assert large.mine == params.mine
    _with(short, "profile: gpu", "profile: cluster")
    assert load_params(short).cluster.executor == "slurm"
    assert load_params(short).runs["own"].recipe == "croco-v1"


def test_seed_and_seeds_give_way_to_each_other(short: Path) -> None:
    """The packaged profile states `seed`; of a task that has both, each is its own."""
    _with(short, "steps: 77", "seeds: [3, 4], steps: 77")
    _with(short, "random: {dataset: own", "random: {dataset: own, seed: 5")
    runs = load_params(short).runs
    assert (runs["own"].seed, runs["own"].seeds) == (None, (3, 4))
    assert (runs["random"].seed, runs["random"].seeds) == (5, None)
    assert runs["twice"].seeds == (0, 1)
    _with(short, "16}}", "16}, evaluate: {seeds: 2}}")
    _with(
        short, "  views: {task", "  few: {task: few-shot-depth, data: nyu, seed: 7}\n  views: {task"
    )
    content = resolve_params(short).content
    assert (content["evaluate"]["few"]["seed"], content["evaluate"]["few"]["seeds"]) == (7, 2)
    _with(short, "seeds: [3, 4], ", "seed: 1, seeds: [3, 4], ")
    with pytest.raises(BadInput, match="seed and seeds: state one of them"):
        load_params(short)


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("profile: laptop", "profile: labtop", ":1: profile: no profile is called 'labtop'; did "),
        ("profile: laptop\n", "", ": profile: no profile is called None; known: laptop, gpu"),
        ("  gpu: {runs", "  gpx: {runs", ":4: profiles: say what runs or evaluations have"),
        ("  gpu: {runs", "  gpu: {mine", ":4: profiles.gpu.mine: only what each of runs or "),
    ],
)
def test_a_wrong_profile_is_one_line(short: Path, old: str, new: str, wrong: str) -> None:
    _with(short, old, new)
    with pytest.raises(BadInput) as info:
        load_params(short)
    assert wrong in str(info.value)
    assert "\n" not in str(info.value)


def test_a_value_of_a_profile_is_named_with_its_file(short: Path) -> None:
    _with(short, "steps: 77", "steps: -1")
    with pytest.raises(BadInput) as info:
        load_params(short)
    head, *lines = str(info.value).splitlines()
    assert head.endswith("params.yaml: 2 problems")
    for name, line in zip(("own", "twice"), lines, strict=True):
        assert line.startswith(f"{short}:3: runs.{name}.steps: ")


def test_a_section_that_is_no_table_is_one_line(short: Path) -> None:
    """The recipe of a run is a part of it until it is read, whatever the other sections are."""
    with short.open("a") as file:
        file.write("adapt: null\n")
    with pytest.raises(
        BadInput, match=r"adapt: Input should be a valid dictionary \(found None\)$"
    ):
        load_params(short)
    _with(short, "adapt: null", "pretrain: 5")
    with pytest.raises(BadInput) as info:
        load_params(short)
    assert "unknown key" not in str(info.value)
    assert "pretrain: Input should be a valid dictionary (found 5)" in str(info.value)


def test_check_lists_everything_and_exits_with_2(short: Path) -> None:
    _with(short, "root: videos", "root: films")
    _with(short, " spacing_s: 0.4", " spacing: 0.4")
    _with(short, "own: {dataset: own}", "own: {dataset: owm}")
    _with(short, "task: correspondence,", "task: correspondence, batch: none,")
    _with(short, "licence: private", "licence: MITT")
    _with(short, "table:", "imported: [mae-in]\ntable:")
    done = subprocess.run([MIMIC, "check", short], cwd=short.parent, capture_output=True, text=True)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    for wrong in (
        "sources.home.spacing: unknown key; did you mean 'spacing_s'?",
        "runs.own.dataset: 'owm' does not exist; known: own",
        "evaluate.views.batch: Input should be a valid integer",
        "imported.0: models/mae-in: no such file or folder; `mimic import-weights FILE --out",
    ):
        assert sum(wrong in line for line in lines) == 1, (wrong, lines)
    assert len(lines) == 4
    _with(short, " spacing: 0.4", " spacing_s: 0.4")
    rest = check.problems(short)
    assert sum("sources.home.root: films: no such file or folder" in line for line in rest) == 1
    assert sum("sources.home.licence: no licence is called 'MITT'" in line for line in rest) == 1


def test_a_reader_without_a_version_is_one_line(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(short)
    footage.video(short.parent / "videos/walk.mp4", footage.pan(0, 3, 16))
    monkeypatch.delitem(sources.READER_VERSIONS, "videos")
    (line,) = check.problems(short)
    assert "sources.home.reader: 'videos' has no row in READER_VERSIONS" in line
    with pytest.raises(BadInput, match="reader 'videos' has no row in READER_VERSIONS"):
        ingest.main(params, short.parent, "home")


def test_what_only_the_reader_refuses_is_listed_too(short: Path) -> None:
    assert check.problems(short) == []
    _with(short, "retry_spacing_s: 0.8", "retry_spacing_s: 0.7")
    (line,) = check.problems(short)
    assert f"{short}:6: sources.home: retry_spacing_s: 0.7 is no multiple" in line


def test_the_file_of_a_run_says_all_that_decides_it_wherever_it_is_stated(short: Path) -> None:
    """DVC sees no profile: pretraining depends on this file."""

    def written() -> bytes:
        recipe.main(load_params(short), short.parent, "own")
        return Workspace(short.parent).recipe("own").read_bytes()

    made = [written()]
    _with(short, "steps: 77", "steps: 78")
    made.append(written())
    _with(short, "steps: 78", "steps: 78, seeds: [0, 1, 2]")
    made.append(written())
    assert len(set(made)) == 3
    for same in ("seeds: [2, 0, 1]", "seeds: [2, 0, 1], workers: 3"):
        short.write_text(re.sub(r"seeds: \[[^]]*\]", same, short.read_text(), count=1))
        assert written() == made[-1]


def test_a_training_that_dvc_runs_is_the_one_that_it_records(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """params.yaml may be edited while other runs train: between the recipe and its training."""
    recipe.main(load_params(short), short.parent, "own")
    _with(short, "steps: 77", "steps: 78")
    recipe.require_recorded(load_params(short), short.parent, "own")  # by hand: nothing is recorded
    monkeypatch.setenv("DVC_STAGE", "pretrain@own")
    with pytest.raises(
        BadInput, match=r"recipes/own\.json: params.yaml says something else of own"
    ):
        recipe.require_recorded(load_params(short), short.parent, "own")
    recipe.main(load_params(short), short.parent, "own")
    recipe.require_recorded(load_params(short), short.parent, "own")


def test_what_dvc_would_leave_unreadable_is_said(short: Path) -> None:
    """`dvc exp run -S` writes the file anew, and drops the quotes of words in braces."""
    _with(short, "table:", 'tracking: {uri: "sqlite:///mlflow.db", experiment_prefix: x}\ntable:')
    (line,) = check.problems(short)
    assert line.startswith(f"{short}:17: sqlite:///mlflow.db: a colon inside braces; give its key")
    apply_overrides(short, ["table.tasks=[views]"])
    with pytest.raises(YAMLFileCorruptedError):
        load_yaml(short)
    lines = "tracking:\n  uri: sqlite:///mlflow.db\n  experiment_prefix: x\n"
    short.write_text(SHORT + lines)
    assert check.problems(short) == []
    apply_overrides(short, ["table.tasks=[views]"])
    assert check.problems(short) == []
    assert load_params(short).tracking.uri == "sqlite:///mlflow.db"


@pytest.mark.parametrize(
    ("key", "stage", "target"),
    [
        ("adapt", "adapt", "adapt"),
        ("runs.croco-1m.dataset", "pretrain", "pretrain"),
        ("pretrain", "adapt-recipe", "recipe"),
    ],
)
def test_what_a_profile_states_and_dvc_does_not_find_is_named(
    tmp_path: Path, repository: Path, key: str, stage: str, target: str
) -> None:
    """By the real DVC, which stops there."""
    for name in (
        "src/mimic/training/recipes.yaml",
        "src/mimic/training/__init__.py",
        "src/mimic/models/objectives/__init__.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    shutil.copytree(repository / ".dvc", tmp_path / ".dvc", ignore=lambda *_: ["tmp", "cache"])
    shutil.copy(repository / "dvc.yaml", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert list(asked.missing(path)) == []
    *above, last = key.split(".")
    table = raw
    for name in above:
        table = table[name]
    del table[last]
    path.write_text(yaml.safe_dump(raw))
    ((missing, message),) = asked.missing(path)
    assert ".".join(missing) == key
    assert f"missing, and {stage} of dvc.yaml asks for it" in message
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", target, "--single-item"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert key.rpartition(".")[2] in done.stderr
