"""Licences of a parameter file: names that are known, own terms, and what a dataset or a run asks
for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mimic import licences
from mimic.config.training import Run
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, write_json
from mimic.pairs.schema import MANIFEST
from mimic.params import Params, load_params, terms


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((repository / "params.yaml").read_text()))


def _load(tmp_path: Path, raw: dict[str, Any]) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_params(path)


def test_an_unknown_licence_is_one_line_with_the_nearest_names(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    raw["sources"]["phone"]["licence"] = "CC-BY 4"
    with pytest.raises(BadInput) as caught:
        _load(tmp_path, raw)
    assert "\n" not in str(caught.value)
    assert "params.yaml:" in str(caught.value)
    assert "sources.phone.licence: no licence is called 'CC-BY 4'" in str(caught.value)
    assert "did you mean CC-BY-4.0" in str(caught.value)


def test_own_terms_are_declared_with_three_answers(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["sources"]["phone"]["licence"] = "our lab"
    raw["licences"] = {"our lab": {"redistribute": False, "commercial": True}}
    with pytest.raises(BadInput, match=r"licences\.our lab\.derivatives: missing"):
        _load(tmp_path, raw)
    raw["licences"]["our lab"]["derivatives"] = "unknown"
    found = terms.named(_load(tmp_path, raw), "our lab")
    assert (found.redistribute, found.commercial, found.derivatives) == ("no", "yes", "unknown")
    assert found.share_alike == "no"


def test_own_terms_cannot_take_the_name_of_a_known_licence(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    answers = {"redistribute": True, "commercial": True, "derivatives": True}
    raw["licences"] = {"hm3d": answers}
    with pytest.raises(BadInput, match=r"licences\.hm3d: the table of mimic has this name"):
        _load(tmp_path, raw)


def test_a_dataset_refuses_by_name_what_is_not_permissive(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    raw["sources"]["frames"]["licence"] = "HM3D"
    raw["datasets"]["mimic-1m"]["licences"] = "permissive"
    _load(tmp_path, raw)  # it takes nothing of frames
    raw["datasets"]["mimic-3m"]["licences"] = "permissive"
    with pytest.raises(BadInput) as caught:
        _load(tmp_path, raw)
    message = str(caught.value)
    assert "datasets.mimic-3m.licences: permissive is asked for, but source frames is 'HM3D'" in (
        message
    )
    assert "no redistribution, no commercial use" in message
    assert "rooms" not in message
    assert "take it out" in message


def test_a_run_refuses_what_its_dataset_and_the_runs_before_it_took(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    raw["sources"]["frames"]["licence"] = "CC-BY-NC-4.0"
    raw["runs"]["croco-3m"]["licences"] = "commercial"
    with pytest.raises(BadInput, match=r"runs\.croco-3m\.licences.*source frames"):
        _load(tmp_path, raw)
    del raw["runs"]["croco-3m"]["licences"]
    start = {"init": "croco-3m", "recipe": "croco-tiny", "dataset": "mimic-1m", "seed": 0}
    raw["adapt"] = {"own": {**start, "steps": 5, "licences": "commercial"}}
    with pytest.raises(BadInput, match=r"adapt\.own\.licences.*source frames"):
        _load(tmp_path, raw)


def test_what_asks_for_nothing_is_written_as_before(tmp_path: Path, raw: dict[str, Any]) -> None:
    plain = _load(tmp_path, raw)
    assert "licences" not in plain.datasets["mimic-1m"].model_dump()
    assert "licences" not in plain.recipe("croco-1m").model_dump()
    raw["datasets"]["mimic-1m"]["licences"] = "redistributable"
    assert _load(tmp_path, raw).datasets["mimic-1m"].model_dump()["licences"] == "redistributable"


def _manifest(path: Path, licences_of: dict[str, str]) -> None:
    path.parent.mkdir(parents=True)
    empty = {
        "string": "",
        "int32": 0,
        "int64": 0,
        "float": 0.0,
        "double": 0.0,
    }
    rows = []
    for source, licence in licences_of.items():
        row = {field.name: empty.get(str(field.type)) for field in MANIFEST}
        row |= {"source": source, "licence": licence}
        for field in MANIFEST:
            if row[field.name] is None and not field.nullable:
                row[field.name] = [] if pa.types.is_list(field.type) else 0
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), path)


def test_a_run_inherits_the_terms_of_the_weights_it_starts_from(
    tmp_path: Path, raw: dict[str, Any]
) -> None:
    space = Workspace(tmp_path)
    _manifest(space.manifest("mimic-1m"), {"phone": "MIT", "rooms": "terms of an old shard"})
    card: dict[str, Any] = {"run": "mae-in", "model": {}}
    write_json(space.model("mae-in") / "card.json", card)
    raw["imported"] = ["mae-in"]
    start = {"init": "mae-in", "recipe": "croco-tiny", "dataset": "mimic-1m", "seed": 0}
    raw["adapt"] = {"own": {**start, "steps": 5}}
    params = _load(tmp_path, raw)
    found = dict(terms.of_run(params, space, params.runs["own"]))
    assert found["source phone"].name == "MIT"
    assert found["source rooms"].redistribute == "unknown"  # a name that nobody knows any more
    assert found["weights mae-in"].name == "not stated"
    official = licences.resolve("CC-BY-NC-4.0")
    card["licences"] = licences.combine([("weights mae-in", official)])
    write_json(space.model("mae-in") / "card.json", card)
    parts = terms.of_run(params, space, params.runs["own"])
    assert dict(parts)["weights mae-in"].commercial == "no"
    with pytest.raises(BadInput, match="weights mae-in is 'CC-BY-NC-4.0': no commercial use"):
        terms.refuse("adapt.own", parts, "permissive")
    nothing: Run = params.runs["random"]
    assert terms.of_run(params, space, nothing) == []
