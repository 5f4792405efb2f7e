"""Entries are laid over named presets: what comes out, where it comes from, and what DVC makes of
it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import load_yaml
from typer.testing import CliRunner

from mimic import cli
from mimic.config.presets import FREE, GIVEN, OF, PACKAGE, packaged_presets
from mimic.errors import BadInput
from mimic.params import Params, load_params, resolve_params
from mimic.params.profiles import FILE
from mimic.params.resolution import RECIPES
from mimic.tasks import TASKS
from mimic.tasks.protocols import overrides

# sha256 of each section that an entry's presets have a say in, as both profiles resolved before
# there were presets. A number that changes here changes what the profile measures.
RESOLVED = {
    "laptop": {
        "sources": "6620287664599d0b",
        "synthesize": "b52f987018e2185a",
        "mine": "25fee60f3b43703a",
        "datasets": "0c784c86e9e1cf6c",
        "pretrain": "6dd67b6029a5d8d5",
        "runs": "cc13b61692078ddc",
        "evaluate": "9dfe470b0c84a4f2",
        "cluster": "ac3731cb451a218e",
    },
    "paper": {
        "sources": "ad39d050217930ce",
        "mine": "0e603032ea3e73b6",
        "datasets": "8272483b4a73883d",
        "pretrain": "047cc474c2671935",
        "runs": "b8255464697155cf",
        "evaluate": "7c533eb52f35962f",
        "cluster": "ac3731cb451a218e",
    },
}
# Fields of a task that no preset states: where your data lie, and which of yours is meant.
YOURS = {"task", "preset", "data", "tracked_by", "dataset", "features_of", "splits", "target"}


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((repository / "params.yaml").read_text()))


def _load(tmp_path: Path, raw: dict[str, Any]) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_params(path)


@pytest.mark.parametrize("profile", RESOLVED)
def test_a_profile_resolves_to_the_same_numbers(repository: Path, profile: str) -> None:
    whole = load_params(repository / f"profiles/{profile}.yaml").model_dump(mode="json")
    found = {
        section: hashlib.sha256(json.dumps(whole[section], sort_keys=True).encode()).hexdigest()
        for section in RESOLVED[profile]
    }
    assert {section: digest[:16] for section, digest in found.items()} == RESOLVED[profile], (
        "the profile states other numbers; if that is meant, write the digest found into RESOLVED"
    )


def test_the_laptop_profile_fits_two_screens(repository: Path) -> None:
    assert len((repository / "params.yaml").read_text().splitlines()) <= 150
    assert "&" not in (repository / "params.yaml").read_text()


@pytest.mark.parametrize("profile", RESOLVED)
def test_a_file_that_leaves_nothing_to_presets_says_the_same(
    repository: Path, tmp_path: Path, profile: str
) -> None:
    path = repository / f"profiles/{profile}.yaml"
    assert _load(tmp_path, resolve_params(path).full()) == load_params(path)


def test_every_preset_of_a_task_is_complete() -> None:
    for kind, spec in TASKS.items():
        for name, preset in spec.document.content[kind].items():
            stated = {key for key in preset if key not in (OF, FREE)} | set(preset.get(FREE, {}))
            given = {key for key, value in preset.items() if value == GIVEN}
            fields = set(spec.section.model_fields)
            assert stated <= fields, f"{kind}.{name}"
            assert fields - stated - YOURS <= given | set(spec.section.LATER) | {
                "boxes",
                "masks",
            }, f"{kind}.{name}"


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_has_the_presets_that_profiles_name(kind: str) -> None:
    profiles = packaged_presets(FILE).content
    named = {profile["evaluate"]["preset"] for profile in profiles.values()}
    assert named == {"tiny", "standard"}
    assert named <= TASKS[kind].document.content[kind].keys()


def test_few_shots_of_segmentation_run_under_every_profile(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    task = {"task": "few-shot-segmentation", "data": "ade", "tracked_by": "ade"}
    raw["evaluate"] = {**raw["evaluate"], "few": task}
    for profile in ("laptop", "gpu", "cluster"):
        few = _load(tmp_path, {"profile": profile, **raw}).evaluate["few"]
        assert (few.model_dump()["preset"], bool(overrides(few))) == (
            "published",
            profile == "laptop",
        )


def test_every_file_of_presets_is_tracked_and_read_as_we_read_it(repository: Path) -> None:
    """Two readers of YAML: `1e-3` is a number to one and text to the other."""
    files = [*PACKAGE.rglob("presets.yaml"), RECIPES]
    assert len(files) == 7
    tracked = (repository / "dvc.yaml").read_text()
    for file in files:
        assert load_yaml(str(file)) == yaml.safe_load(file.read_text()), file
        name = file.relative_to(PACKAGE.parent).as_posix()
        assert (f"src/{name}:" in tracked) == ("cluster" not in name), name


def test_an_older_word_for_a_preset_is_read(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["evaluate"]["normals"]["preset"] = "peer"
    older = _load(tmp_path, raw)
    raw["evaluate"]["normals"]["preset"] = "published"
    assert _load(tmp_path, raw) == older
    assert older.evaluate["normals"].model_dump()["preset"] == "published"


def test_a_run_changes_its_recipe_and_no_other(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["runs"]["croco-3m"] |= {"base_lr": 0.5, "model": {"depth": 2}}
    params = _load(tmp_path, raw)
    assert (params.recipe("croco-3m").base_lr, params.recipe("croco-3m").model.depth) == (0.5, 2)
    assert params.recipe("croco-3m").model.width == params.recipe("croco-1m").model.width
    assert params.recipe("croco-1m") == params.pretrain["croco"]
    assert params.runs["croco-3m"].recipe == "croco"
    raw["pretrain"] = {"croco-tiny": {"warmup": 0.25}}
    params = _load(tmp_path, raw)
    assert {params.recipe(run).warmup for run in ("random", "croco-1m", "croco-3m")} == {0.25}
    assert params.recipe("mae-1m").warmup == 0.1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("evaluate", "depth", "stps"), 5, r"stps: unknown key; did you mean 'steps'\?$"),
        (("runs", "mae-1m", "bas_lr"), 5, r"bas_lr: unknown key; did you mean 'base_lr'\?$"),
        (("sources", "phone", "spacing"), 5, r"spacing: unknown key; did you mean 'spacing_s'\?$"),
        (("mine", "ratoi"), 5, r"ratoi: unknown key; did you mean 'ratio'\?$"),
        (
            ("evaluate", "depth", "preset"),
            "tny",
            "no preset of depth is called 'tny'; did you mean",
        ),
        (("runs", "mae-1m", "recipe"), "maee", "no recipe is called 'maee'; did you mean 'mae'"),
        (("mine", "preset"), "x", "no preset of mine is called 'x'; known: standard"),
        (("synthesize", "nyu", "preset"), "x", "no preset of nyu is called 'x'; known: tiny"),
        (("evaluate", "depth", "lr"), -1, r"lr: .*greater than 0 \(found -1\)$"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_where(
    tmp_path: Path, raw: dict[str, Any], path: tuple[str, ...], value: Any, message: str
) -> None:
    section = raw
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(BadInput, match=message) as info:
        _load(tmp_path, raw)
    said = str(info.value)
    lines = (tmp_path / "params.yaml").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line == f"{path[0]}:")
    inside = next((n for n, line in enumerate(lines) if n > start and path[1] in line), start)
    number = next(n for n in range(inside, len(lines)) if f"{path[-1]}:" in lines[n]) + 1
    assert said.startswith(f"{tmp_path}/params.yaml:{number}: {'.'.join(path)}: ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("rooms", "scenes"), 306, "flat 100 would be one of rooms .seeds 0 to 305. and of phone"),
        (
            ("frames", "first_seed"),
            299,
            "flat 300 would be one of frames .seeds 299 to 301. and of nyu",
        ),
        (("phone", "first_seed"), 580, "flat 580 would be one of phone .* of tasks.seven_scenes"),
        (("phone", "first_seed"), 501, "flat 501 would be one of phone .* of tasks.ade20k"),
    ],
)
def test_a_flat_that_is_mined_is_not_measured_on(
    tmp_path: Path, raw: dict[str, Any], path: tuple[str, str], value: int, message: str
) -> None:
    raw["synthesize"][path[0]][path[1]] = value
    with pytest.raises(BadInput, match=r"synthesize: .*" + message):
        _load(tmp_path, raw)


def test_a_value_that_only_a_preset_states_is_named_with_its_file(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    """The size of the preset's frames does not go with what the entry changes."""
    raw["sources"]["phone"] |= {"reader": "scannet", "window": 5}
    with pytest.raises(BadInput, match=r"sources\.phone: second_edge 49 must lie in"):
        _load(tmp_path, raw)


def _shown(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["params", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_all_that_is_shown_is_a_parameter_file_that_says_the_same(
    repository: Path, tmp_path: Path
) -> None:
    for path in (repository / "params.yaml", repository / "profiles/paper.yaml"):
        (tmp_path / "params.yaml").write_text(_shown("--params", str(path)))
        assert load_params(tmp_path / "params.yaml") == load_params(path)


def test_the_origin_of_a_value_is_the_line_that_states_it(repository: Path) -> None:
    said = json.loads(_shown("evaluate", "--json", "--params", str(repository / "params.yaml")))
    checked = 0
    for key, where in said["from"].items():
        name, number = where.rsplit(":", 1)
        file = Path(name) if Path(name).is_absolute() else PACKAGE.parent / name
        line = file.read_text().splitlines()[int(number) - 1]
        assert key.rsplit(".", 1)[1] in line, (key, where)
        checked += 1
    assert checked > 200
    assert said["values"]["depth"]["lr"] == 1e-3
    assert said["from"]["evaluate.depth.lr"].startswith("mimic/tasks/presets.yaml:")


def test_a_key_that_is_not_there_is_one_line(repository: Path) -> None:
    command = ["params", "evaluate.dept", "--params", str(repository / "params.yaml")]
    done = CliRunner().invoke(cli.app, command)
    assert isinstance(done.exception, BadInput)
    assert str(done.exception).endswith("did you mean 'depth'?")


def test_dvc_sets_a_parameter_of_an_entry(repository: Path, tmp_path: Path) -> None:
    """`-S` changes what the file states, and adds with a `+` what it leaves to the preset; what DVC
    writes is read as meant."""
    (tmp_path / "params.yaml").write_text((repository / "params.yaml").read_text())
    each = {"cmd": "cp params.yaml ${key}.out", "params": ["runs.${key}"], "outs": ["${key}.out"]}
    stages = {"stages": {"each": {"foreach": "${runs}", "do": each}}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(stages))

    def call(*words: str) -> None:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    git = ("git", "-c", "user.name=x", "-c", "user.email=x")
    dvc = (sys.executable, "-m", "dvc")
    call("git", "init", "-q")
    call("git", "config", "user.name", "x")
    call("git", "config", "user.email", "x")
    call(*dvc, "init", "-q")
    call("git", "add", ".")
    call(*git, "commit", "-qm", "x")
    changes = ("runs.mae-1m.steps=45", "+runs.mae-1m.base_lr=0.5", "+evaluate.depth.lr=0.002")
    call(*dvc, "exp", "run", *[word for one in changes for word in ("-S", one)], "each@mae-1m")
    params = load_params(tmp_path / "params.yaml")
    assert params.runs["mae-1m"].steps == 45
    assert params.recipe("mae-1m").base_lr == 0.5
    assert params.evaluate["depth"].model_dump()["lr"] == 0.002
    before = load_params(repository / "params.yaml")
    assert params.recipe("croco-1m") == before.recipe("croco-1m")
    assert params.tracking == before.tracking


def test_presets_are_read_once() -> None:
    assert packaged_presets(RECIPES) is packaged_presets(RECIPES)
