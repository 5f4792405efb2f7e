"""Section `adapt`: runs that start from weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mimic import cli
from mimic.config import Adaptation
from mimic.errors import BadInput
from mimic.params import Params, load_params, resolve_params

ENTRY = {"init": "mae-in", "recipe": "croco-tiny", "dataset": "mimic-1m", "steps": 30, "seed": 0}


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    raw = dict(yaml.safe_load((repository / "params.yaml").read_text()))
    return raw | {"imported": ["mae-in"], "adapt": {"own": dict(ENTRY)}}


def _write(tmp_path: Path, raw: dict[str, Any]) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def _load(tmp_path: Path, raw: dict[str, Any]) -> Params:
    return load_params(_write(tmp_path, raw))


def test_an_entry_is_a_run_that_knows_where_it_starts(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["adapt"]["longer"] = {**ENTRY, "init": "own", "base_lr": 0.5, "layer_decay": 0.75}
    raw["table"]["runs"].append("longer")
    params = _load(tmp_path, raw)
    assert list(params.runs)[-2:] == ["own", "longer"]
    own, longer = params.runs["own"], params.runs["longer"]
    assert isinstance(own, Adaptation)
    assert isinstance(longer, Adaptation)
    assert (own.init, own.layer_decay, own.optimizer) == ("mae-in", 1.0, "fresh")
    assert (longer.init, longer.layer_decay) == ("own", 0.75)
    assert params.recipe("own") == params.recipe("croco-1m")
    assert params.recipe("longer").base_lr == 0.5
    assert [params.section(name) for name in ("croco-1m", "own")] == ["runs", "adapt"]


def test_a_file_without_the_section_is_read(tmp_path: Path, raw: dict[str, Any]) -> None:
    del raw["adapt"]
    assert _load(tmp_path, raw).adapt == {}


def test_what_leaves_nothing_to_presets_says_the_same(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["adapt"]["own"]["base_lr"] = 0.5
    path = _write(tmp_path, raw)
    said = load_params(path)
    assert _load(tmp_path, resolve_params(path).full()) == said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": "mae-inn"}, r"own\.init: 'mae-inn' is no run and no import \(did you mean 'mae"),
        ({"init": "own"}, r"own\.init: own > own goes round in a circle"),
        ({"init": "b"}, r"own\.init: own > b > own goes round in a circle"),
        ({"init": None}, r"own\.init: "),
        ({"recipe": "crco-tiny"}, r"own\.recipe: no recipe is called 'crco-tiny'; did you mean"),
        ({"dataset": "mimic"}, r"own\.dataset: 'mimic' does not exist"),
        ({"layer_decay": 0}, r"own\.layer_decay: "),
        ({"optimizer": "kept"}, r"own\.optimizer: "),
        ({"stps": 5}, r"own\.stps: unknown key; did you mean 'steps'\?"),
        ({"model": {"width": 130}}, r"own\.model: heads 4 does not divide width 130"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, raw: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    raw["adapt"]["own"] |= change
    raw["adapt"]["b"] = {**ENTRY, "init": "own"}
    with pytest.raises(BadInput, match=rf"^[^\n]*adapt\.{message}[^\n]*$"):
        _load(tmp_path, raw)


def test_a_missing_key_and_a_name_of_two_things_are_one_line(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    for key in ENTRY:
        entry = {name: value for name, value in ENTRY.items() if name != key}
        with pytest.raises(BadInput, match=r"^[^\n]*adapt\.own\.[^\n]*missing[^\n]*$"):
            _load(tmp_path, raw | {"adapt": {"own": entry}})
    with pytest.raises(BadInput, match=r"adapt\.croco-1m: is also the name of a run"):
        _load(tmp_path, raw | {"adapt": {"croco-1m": ENTRY}})


def test_mimic_params_shows_what_it_comes_to(tmp_path: Path, raw: dict[str, Any]) -> None:
    path = _write(tmp_path, raw)
    done = CliRunner().invoke(cli.app, ["params", "adapt", "--params", str(path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["values"]["own"]["base_lr"] == 64.0e-3
    assert found["values"]["own"]["init"] == "mae-in"
    assert found["from"]["adapt.own.layer_decay"].startswith("mimic/training/presets.yaml:")
    assert found["from"]["adapt.own.init"].startswith(str(path))
