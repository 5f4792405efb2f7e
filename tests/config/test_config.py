"""params.yaml is complete, checked, and wrong keys and values are one clear line."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from mimic import config
from mimic.errors import BadInput
from mimic.params import Params, load_params, pick, resolve_params


@pytest.fixture
def raw(repository: Path) -> dict:
    return resolve_params(repository / "params.yaml").full()


def _load(tmp_path: Path, raw: object) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load_params(path)


def test_every_profile_is_valid(repository: Path) -> None:
    for path in [repository / "params.yaml", *(repository / "profiles").glob("*.yaml")]:
        load_params(path)


def test_python_holds_no_defaults() -> None:
    """A field with a default would be a second place where a number lives."""

    def fields(model: type[BaseModel]) -> list[str]:
        return [
            f"{model.__name__}.{name}"
            for name, field in model.model_fields.items()
            if not field.is_required()
        ]

    models = [
        value
        for value in vars(config).values()
        if isinstance(value, type) and issubclass(value, config.Section)
    ]
    assert len(models) > 10
    assert [name for model in models for name in fields(model)] == []


def test_every_key_may_not_be_dropped_or_misspelt(tmp_path: Path, raw: dict) -> None:
    for section, keys in (("mine", list(raw["mine"])), ("report", list(raw["report"]))):
        for key in keys:
            broken = copy.deepcopy(raw)
            broken[section][key + "x"] = broken[section].pop(key)
            with pytest.raises(BadInput, match=rf"{section}\.{key}") as info:
                _load(tmp_path, broken)
            assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("mine", "overlap_min"), 50, r"mine\.overlap_min: .*less than or equal to 1.*found 50"),
        (("mine", "patch_px"), 15, "patch_px 15 does not divide size_px"),
        (("mine", "mode"), "fast", r"mine\.mode: .*'symmetric' or 'reference'"),
        (
            ("runs", "mae-1m", "dataset"),
            "mimic-9m",
            r"runs\.mae-1m\.dataset: 'mimic-9m' does not exist; known: mimic-1m",
        ),
        (
            ("evaluate", "correspondence", "tracked_by"),
            "data/manifests/mimic-1m.parquet",
            r"evaluate\.correspondence\.tracked_by: .* its dataset is mimic-3m, so data/manifests/",
        ),
        (("table", "runs"), ["mae-1m"], "random-initialised encoder is always evaluated"),
        (("sources", "phone", "reader"), "film", r"sources\.phone\.reader: .*'film'"),
    ],
)
def test_wrong_value_is_one_line(
    tmp_path: Path, raw: dict, path: tuple[str, ...], value: object, message: str
) -> None:
    section = raw
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(BadInput, match=message) as info:
        _load(tmp_path, raw)
    assert "\n" not in str(info.value)


def _leaves(content: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(content, dict) or not content:
        return [path]
    return [leaf for key, value in content.items() for leaf in _leaves(value, (*path, key))]


def _yours(path: tuple[str, ...]) -> bool:
    """Whether no preset states a key of an entry that names one."""
    if path[0] in ("evaluate", "sources"):
        return path[-1] in ("root", "licence", "data", "tracked_by", "dataset", "splits", "target")
    return path[0] != "pretrain"


@pytest.mark.parametrize("share", range(4))
def test_a_missing_key_says_what_to_add_and_where(tmp_path: Path, raw: dict, share: int) -> None:
    """Whatever key is left out, adding what the message says makes the file whole again."""
    named = {"sources", "datasets", "pretrain", "runs", "evaluate"}
    leaves = [path for path in _leaves(raw) if path[0] not in named or len(path) > 2]
    leaves = [path for path in leaves if _yours(path) and path[:2] != ("synthesize", "tasks")]
    chosen = random.Random(share).sample(leaves, 6)
    for path in chosen:
        less = json.loads(json.dumps(raw))  # what the file shares by an anchor is here twice
        section = less
        for key in path[:-1]:
            section = section[key]
        del section[path[-1]]
        with pytest.raises(BadInput) as info:
            _load(tmp_path, less)
        message = str(info.value)
        assert "\n" not in message, path
        assert f": {'.'.join(path)}: missing; add `{path[-1]}:" in message, path
        assert f"under {'.'.join(path[:-1])} (" in message or len(path) == 1
        section |= yaml.safe_load(message.split("`")[1])
        _load(tmp_path, less)


def test_what_a_file_of_the_first_release_does_not_state_its_preset_does(
    tmp_path: Path, raw: dict
) -> None:
    """Keys that came later: the presets say what was done before there were these."""
    before = {
        name: {"linear-depth": True}.get(task["task"], False)
        for name, task in raw["evaluate"].items()
        if "last_norm" in task
    }
    for name in before:
        del raw["evaluate"][name]["last_norm"]
    for name in ("flow", "stereo"):
        del raw["evaluate"][name]["masks"]
    tasks: Any = _load(tmp_path, raw).evaluate
    assert {name: tasks[name].last_norm for name in before} == before
    assert tasks["flow"].masks is True
    assert tasks["stereo"].masks is True


def test_further_missing_keys_are_named(tmp_path: Path, raw: dict) -> None:
    del raw["mine"]["seed"], raw["mine"]["ratio"], raw["mine"]["mode"]
    more = r"mine\.seed: missing; .* \(2 more missing here: mode, ratio\)$"
    with pytest.raises(BadInput, match=more):
        _load(tmp_path, raw)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, raw: dict) -> None:
    """Keys, values, names of presets, and names that one section uses of another."""
    raw["mine"]["ratoi"] = raw["mine"].pop("ratio")
    raw["sources"]["phone"]["spacing_s"] = -1
    raw["evaluate"]["knn"]["preset"] = "tny"
    raw["runs"]["mae-1m"]["recipe"] = "maee"
    raw["runs"]["croco-1m"]["dataset"] = "mimic-9m"
    raw["datasets"]["mimic-3m"]["sources"]["attic"] = None
    raw["table"]["tasks"] = ["depth", "knn", "depht"]
    del raw["tracking"]
    with pytest.raises(BadInput) as info:
        _load(tmp_path, raw)
    head, *lines = str(info.value).splitlines()
    assert head == f"{tmp_path}/params.yaml: 8 problems"
    for part, wrong in (
        ("evaluate.knn.preset", "no preset of knn is called 'tny'; did you mean 'tiny'?"),
        ("runs.mae-1m.recipe", "no recipe is called 'maee'; did you mean 'mae'?"),
        ("mine.ratoi", "unknown key; did you mean 'ratio'?"),
        ("sources.phone.spacing_s", "Input should be greater than 0 (found -1)"),
        ("tracking", "missing; add `tracking:"),
        ("datasets.mimic-3m.sources", "'attic' does not exist; known: "),
        ("runs.croco-1m.dataset", "'mimic-9m' does not exist; known: mimic-1m, mimic-3m"),
        ("table.tasks", "'depht' does not exist; known: "),
    ):
        (line,) = [line for line in lines if f": {part}: {wrong}" in line]
        assert line.startswith(f"{tmp_path}/params.yaml"), line
    assert len(lines) == 8


def test_a_key_that_no_profile_states_is_said_to_be_yours(tmp_path: Path, raw: dict) -> None:
    raw["sources"]["phone"] = {"reader": "crops", "root": "a", "tracked_by": "a", "licence": "x"}
    with pytest.raises(BadInput) as info:
        _load(tmp_path, raw)
    assert "sources.phone.list: missing; add `list:` under sources.phone: no profile" in str(
        info.value
    )
    assert "profiles/paper.yaml" not in str(info.value)
    assert str(info.value).endswith("(2 more missing here: form, images)")


def test_missing_or_broken_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("mine: [")
    with pytest.raises(BadInput, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("- 1")
    with pytest.raises(BadInput, match="found list"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("section", ["runs", "adapt"])
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"base_lr": 0.5}, r"\.own\.recipe: missing; add `recipe: croco` under \w+\.own "),
        ({"recipe": None, "base_lr": 0.5}, r"\.own\.recipe: .*valid string \(found None\)"),
        (None, r"\.own: .*valid dictionary .*\(found None\)"),
    ],
)
def test_a_run_that_names_no_recipe_is_one_line(
    tmp_path: Path, raw: dict, section: str, entry: dict | None, message: str
) -> None:
    stated = {"dataset": "mimic-1m", "steps": 3, "seed": 0}
    start = {"init": "mae-1m", "matching": "none"} if section == "adapt" else {}
    raw.setdefault(section, {})["own"] = entry and {**stated, **start, **entry}
    with pytest.raises(BadInput, match=rf"^[^\n]*: {section}{message}") as info:
        _load(tmp_path, raw)
    assert "\n" not in str(info.value)


def test_a_wrong_key_of_a_recipe_is_told_beside_a_run_that_is_empty(
    tmp_path: Path, repository: Path
) -> None:
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["runs"] = {"none": None} | raw["runs"]
    raw["runs"]["mae-1m"]["batch"] = "x"
    with pytest.raises(BadInput, match=r": runs\.mae-1m\.batch: .*\(found 'x'\)") as info:
        _load(tmp_path, raw)
    head, *lines = str(info.value).splitlines()
    assert head.endswith(": 2 problems")
    assert any("runs.none: " in line for line in lines)
    raw["pretrain"] = {1: {"batch": "x"}}
    with pytest.raises(BadInput, match="1 cannot be a name: YAML reads it as int"):
        _load(tmp_path, raw)
    del raw["runs"]
    raw["pretrain"] = {}
    raw["adapt"] = {"own": {"recipe": "mae-tiny", "batch": "x"}}
    with pytest.raises(BadInput, match=r": adapt\.own\.batch: .*\(found 'x'\)"):
        _load(tmp_path, raw)


@pytest.mark.parametrize("value", ["2024-13-01", "2024-02-30", "0x_", "0b_"])
def test_what_looks_like_a_date_or_a_number_and_is_none_is_one_line(
    tmp_path: Path, value: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"mine: &all {{size_px: 224}}\nmore: *all\nsources:\n  - {{a: {value}}}\n")
    says = rf"^{re.escape(f'{path}:4: not valid YAML: {value!r}: ')}[^\n]*; correct it, or put it"
    with pytest.raises(BadInput, match=says):
        load_params(path)


def test_a_file_that_is_no_text_is_one_line_and_any_encoding_of_unicode_is_read(
    tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xd2\x00\xff")
    with pytest.raises(BadInput, match=r"^[^\n]*not valid YAML[^\n]*$"):
        load_params(path)
    with pytest.raises(
        BadInput, match=r"^[^\n]*Is a directory; name a parameter file that you can read$"
    ):
        load_params(tmp_path)
    text = (repository / "params.yaml").read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(text, encoding=encoding)
        assert load_params(path) == load_params(repository / "params.yaml")


def test_pick_suggests_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="did you mean 'phone'"):
        pick({"phone": 1, "rooms": 2}, "phones", "source")


def test_the_paper_profile_has_the_published_counts(repository: Path) -> None:
    datasets = load_params(repository / "profiles/paper.yaml").datasets
    assert {
        name: sum(count or 0 for count in dataset.sources.values())
        for name, dataset in datasets.items()
    } == {
        "mimic-1m": 1_316_202,  # the paper states 1,316,199
        "mimic-3m": 3_161_333,  # the paper states 3,163,333
        "mv-habitat": 1_785_209,
    }


def test_a_window_needs_views_stored_larger_than_the_model(
    repository: Path, tmp_path: Path
) -> None:
    raw = resolve_params(repository / "profiles/paper.yaml").full()
    raw["runs"]["croco-v1"]["augment"] = {"crop": "window"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(
        BadInput,
        match=r"croco-v1\.augment\.crop: window needs .* 224 px, but mine\.size_px is 224; mine at",
    ):
        load_params(tmp_path / "params.yaml")
    raw["mine"]["size_px"] = 256
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert load_params(tmp_path / "params.yaml").mine.size_px == 256


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runs: {a: 1}\nmine: {}\nruns: {b: 1}\n", "3: runs stands in line 1 already"),
        ("runs:\n  own: {steps: 1}\n  own: {steps: 2}\n", "3: own stands in line 2 already"),
        ("runs: {own: {steps: 1, steps: 2}}\n", "1: steps stands in line 1 already"),
        ("runs:\n  - {a: 1, a: 1}\n", "2: a stands in line 2 already"),
        ("runs: &all {own: *all}\n", "1: what is anchored here holds itself"),
    ],
)
def test_no_key_is_written_over_by_another(tmp_path: Path, text: str, says: str) -> None:
    """YAML's reader keeps the last of two, and DVC refuses the file."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=f"^{re.escape(f'{path}:{says}')}"):
        load_params(path)
