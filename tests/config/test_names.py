"""Names of params and of the command line: one component of a path, checked before anything is
done."""

from __future__ import annotations

import copy
import datetime
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mimic.config.names import LAYOUT, wrong_with
from mimic.errors import BadInput
from mimic.params import load_params, resolve_params
from tests.support.command import call_mimic

WRONG = [
    "",
    ".",
    "..",
    "...",
    "../evil",
    "a/b",
    "/tmp/x",
    ".hidden",
    "-rf",
    "a b",
    "it's",
    "a;echo HI",
    "a\nb",
    "ü",
    "a\\b",
    "a:b",
    "a@b",
    "n" * 101,
    "mine",
    "assemble",
    "Mine",
    "models",
    "data",
    "$(id)",
    "a,b",
    "{a}",
    "~",
]
RIGHT = [
    "a",
    "croco-3m",
    "mimic-1.5m",
    "A_b",
    "1",
    "_x",
    "n" * 100,
    "random",
    "depth",
    "miner",
    "pretrain",
]
SECTIONS = {
    "sources": "phone",
    "datasets": "mimic-3m",
    "pretrain": "mae",
    "runs": "croco-3m",
    "adapt": "own",
    "evaluate": "depth",
}
TRACKED = ("sources", "runs", "adapt", "evaluate")  # entry by entry, as a parameter of DVC


@pytest.fixture(scope="module")
def raw(repository: Path) -> dict:
    raw = resolve_params(repository / "params.yaml").full()
    raw["adapt"] = {"own": {**raw["runs"]["croco-3m"], "init": "croco-1m"}}
    return raw


def _refusal(tmp_path: Path, raw: dict) -> str:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(BadInput) as info:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 300 + len(str(tmp_path))
    return str(info.value)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", [*WRONG, 123, True, 1.5, None, datetime.date(2024, 1, 2)])
def test_a_key_that_cannot_be_a_name_is_one_line(
    tmp_path: Path, raw: dict, section: str, name: object
) -> None:
    raw = copy.deepcopy(raw)
    raw[section][name] = raw[section][SECTIONS[section]]
    message = _refusal(tmp_path, raw)
    assert f": {section}: " in message
    assert "cannot be a name: " in message
    if not isinstance(name, str):
        assert "put it in quotes" in message
        assert type(name).__name__ in message


@pytest.mark.parametrize("name", WRONG)
def test_an_import_is_named_alike(tmp_path: Path, raw: dict, name: str) -> None:
    assert "imported.0: " in (message := _refusal(tmp_path, raw | {"imported": [name]}))
    assert "cannot be a name" in message


@pytest.mark.parametrize("name", RIGHT)
def test_other_names_may_be(tmp_path: Path, raw: dict, name: str) -> None:
    raw = copy.deepcopy(raw)
    for section, like in SECTIONS.items():
        if section == "adapt":  # the name is a run's now
            continue
        if "." not in name or section not in TRACKED:
            raw[section].setdefault(name, raw[section][like])
    raw["imported"] = [name] if "." in name else []  # else it is a run
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert name in load_params(tmp_path / "params.yaml").datasets


@pytest.mark.parametrize("section", TRACKED)
def test_a_dot_is_refused_where_dvc_would_go_a_level_down(
    tmp_path: Path, raw: dict, section: str
) -> None:
    raw = copy.deepcopy(raw)
    raw[section]["a.b"] = raw[section][SECTIONS[section]]
    assert f": {section}: 'a.b' cannot be a name here: DVC" in (message := _refusal(tmp_path, raw))
    assert "call it 'a-b'" in message


def test_dvc_yaml_tracks_those_sections_entry_by_entry(repository: Path) -> None:
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"].values()
    params = [name for stage in stages for name in stage.get("do", stage)["params"]]
    listed = [name for name in params if isinstance(name, str)]  # not of other files
    by_entry = {name.partition(".")[0] for name in listed if "${" in name} - {
        "synthesize"
    }  # whose entries have fixed names
    assert by_entry == set(TRACKED)


def test_what_dvc_makes_of_a_dot(tmp_path: Path) -> None:
    """Tracked by its name an entry with a dot is not found; in a section tracked whole, in a matrix
    and in a file's name it is."""
    (tmp_path / "params.yaml").write_text(
        "runs: {a: {x: 1}, b.c: {x: 2}}\ndatasets: {m-1.5: {x: 1}}\ntable: {runs: [i.1]}\n"
    )
    each = {
        "foreach": "${runs}",
        "do": {
            "cmd": "echo ${key} > ${key}.run",
            "params": ["runs.${key}"],
            "outs": ["${key}.run"],
        },
    }
    whole = {
        "foreach": "${datasets}",
        "do": {"cmd": "echo ${key} > ${key}.set", "params": ["datasets"], "outs": ["${key}.set"]},
    }
    table = {
        "matrix": {"run": "${table.runs}"},
        "cmd": "echo > ${item.run}.row",
        "params": ["table"],
        "outs": ["${item.run}.row"],
    }
    (tmp_path / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"each": each, "whole": whole, "table": table}})
    )

    def dvc(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=tmp_path, capture_output=True, text=True
        )

    assert dvc("init", "--no-scm", "-q").returncode == 0
    assert [dvc("repro", name).returncode for name in ("each@a", "whole@m-1.5", "table@i.1")] == [
        0,
        0,
        0,
    ]
    refused = dvc("repro", "each@b.c")
    assert refused.returncode != 0
    assert "'runs.b.c' are missing" in refused.stdout + refused.stderr


@given(st.text(max_size=120))
def test_a_right_name_is_a_component_and_a_plain_word(name: str) -> None:
    if wrong_with(name) is None:
        assert Path(name).name == name
        assert name not in LAYOUT
        assert name.isascii()
        assert not set(name) & set(" /\\'\"`$&|;<>()*?[]{}!~#@:\n")
        assert len(name) <= 100


def test_evaluations_that_would_be_called_the_same_are_refused(tmp_path: Path, raw: dict) -> None:
    raw = copy.deepcopy(raw)
    raw["runs"] |= {"a": raw["runs"]["croco-3m"], "a-b": raw["runs"]["croco-3m"]}
    raw["evaluate"] |= {"c": raw["evaluate"]["depth"], "b-c": raw["evaluate"]["depth"]}
    message = _refusal(tmp_path, raw)
    assert "of run a-b it is called a-b-c" in message or "of run a it is called a-b-c" in message


@pytest.mark.parametrize("name", ["..", "../c0", "a/b", "", "/etc"])
def test_export_weights_asks_for_a_name(tmp_path: Path, name: str) -> None:
    done = call_mimic(tmp_path, "export-weights", name, "--format", "timm")
    why = "not the name of a folder in models/" if name else "an argument is empty"
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert why in done.stderr
    assert list(tmp_path.iterdir()) == []
