"""`mimic licences`, and what exports and imports say and refuse by licences."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner, Result

from mimic import cli, licences
from mimic.commands.hand_out.export_weights import present_terms
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, write_json
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from mimic.params import load_params, terms
from tests.support import published


def _workspace(root: Path, repository: Path, licence: str) -> Path:
    """A dataset mimic-1m of two sources, one of them under a licence."""
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["licences"] = {"lab": {"redistribute": "unknown", "commercial": False, "derivatives": True}}
    raw["sources"]["rooms"]["licence"] = licence
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    rows: list[dict[str, Any]] = []
    for source in ("phone", "rooms"):
        for row in published.publish_pairs(root, source, ["a.mp4", "b.mp4"], 2):
            rows.append(row | {"licence": licence} if source == "rooms" else row)
    table = pa.Table.from_pylist(rows, schema=MANIFEST)
    write_table(table, Workspace(root).manifest("mimic-1m"))
    return root


def _call(root: Path, *words: str) -> Result:
    return CliRunner().invoke(cli.app, [*words, "--params", str(root / "params.yaml")])


def _export(root: Path, *more: str) -> Result:
    out = str(root / "out")
    return _call(root, "export", "mimic-1m", "--format", "webdataset", "--out", out, *more)


def test_pictures_that_may_not_be_handed_on_need_a_word(tmp_path: Path, repository: Path) -> None:
    root = _workspace(tmp_path, repository, "HM3D")
    with pytest.raises(BadInput) as caught:
        raise _export(root).exception
    assert "source rooms is 'HM3D': no redistribution" in str(caught.value)
    assert "phone" not in str(caught.value)
    assert "--despite-licences" in str(caught.value)
    assert not (root / "out").exists()
    done = _export(root, "--despite-licences")
    assert done.exit_code == 0, done.output
    text = (root / "out/README.md").read_text()
    assert "* may be handed on: no (source rooms: HM3D)" in text


@pytest.mark.parametrize("licence", ["lab", "CC-BY-NC-4.0", "a text of an old shard"])
def test_what_is_not_forbidden_is_said(tmp_path: Path, repository: Path, licence: str) -> None:
    root = _workspace(tmp_path, repository, "lab")
    rows = published.publish_pairs(root, "rooms", ["a.mp4"], 2)
    table = pa.Table.from_pylist([row | {"licence": licence} for row in rows], schema=MANIFEST)
    write_table(table, Workspace(root).manifest("mimic-1m"))
    done = _export(root)
    assert done.exit_code == 0, done.output
    answer = "no" if licence in ("lab", "CC-BY-NC-4.0") else "unknown"
    assert (
        f"* may be used commercially: {answer} (source rooms: {licence})"
        in (root / "out/README.md").read_text()
    )


def test_versions_that_may_not_be_changed_are_no_pairs(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(BadInput, match="'CC-BY-ND-4.0': no modified versions"):
        raise _export(_workspace(tmp_path, repository, "CC-BY-ND-4.0")).exception


def test_the_table_names_what_decides(tmp_path: Path, repository: Path) -> None:
    root = _workspace(tmp_path, repository, "lab")
    done = _call(root, "licences", "mimic-1m")
    assert done.exit_code == 0, done.output
    assert re.search(r"source rooms +unknown +no +yes +no +lab", done.output)
    assert "may be handed on: unknown (source rooms: lab)" in done.output
    found = json.loads(_call(root, "licences", "mimic-1m", "--json").output)
    assert found["because"]["commercial"] == ["source rooms"]


def test_a_run_that_is_not_made_yet_a_model_and_no_name(tmp_path: Path, repository: Path) -> None:
    root = _workspace(tmp_path, repository, "HM3D")
    before = _call(root, "licences", "croco-1m")
    assert "may be handed on: no (source rooms: HM3D)" in before.output
    nothing = _call(root, "licences", "random")
    assert "no data and no weights of others went into it" in nothing.output
    card = {"run": "croco-1m", "model": {}}  # of an earlier version
    write_json(Workspace(root).model("croco-1m") / "card.json", card)
    after = _call(root, "licences", "croco-1m")
    assert "may be handed on: unknown (weights croco-1m: not stated)" in after.output
    known = _call(root, "licences").output
    for name in (*licences.known(), "lab"):
        assert f"\n{name} " in known, name
    assert "source rooms: HM3D" in known
    with pytest.raises(BadInput, match="no dataset, run or model is called 'croco'"):
        raise _call(root, "licences", "croco").exception


def test_an_answer_that_changed_counts_from_then_on(tmp_path: Path, repository: Path) -> None:
    """Of a model that was made before: for what starts from it, and where it is handed out."""
    root = _workspace(tmp_path, repository, "lab")
    params = load_params(root / "params.yaml")
    made_of = licences.combine(terms.of_sources(params, ["phone", "rooms"]))
    write_json(root / "models/croco-1m/card.json", {"model": {}, "licences": made_of})
    read = json.loads((root / "models/croco-1m/card.json").read_text())
    assert present_terms(read, root / "models/croco-1m") == read
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("commercial: false", "commercial: true"))
    assert read["licences"]["commercial"] == "no"
    now = present_terms(read, root / "models/croco-1m")
    assert now["licences"]["commercial"] == "yes"
    assert now["licences"]["parts"][0] == read["licences"]["parts"][0]  # of the table of mimic
    start = terms.of_model(load_params(path), Workspace(root), "croco-1m")
    assert [licence.commercial for part, licence in start] == ["yes", "yes"]
    path.unlink()
    assert present_terms(read, root / "models/croco-1m") == read
