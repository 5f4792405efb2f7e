"""Results say which versions of our parts made them, work in progress is bound to them, and files
from before there were versions open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from safetensors import safe_open

from mimic import config, ingest, mine, mining, recipe, sources
from mimic.infra.storage import Workspace
from mimic.models.objectives import OBJECTIVE_VERSIONS
from mimic.pairs.read import read_table
from mimic.pairs.schema import PAIR, PARTS
from mimic.params import load_params, trainings
from mimic.sources.base import INVENTORY
from tests.support import footage, toy_runs

pytestmark = pytest.mark.usefixtures("one_thread")


def _said(parquet: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(pq.read_schema(parquet).metadata[PARTS])
    return found


@pytest.fixture
def walk(tmp_path: Path, repository: Path) -> Path:
    """A workspace whose only raw data is one video."""
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["tracking"]["uri"] = None
    raw["cluster"]["workers"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    footage.video(tmp_path / "data/raw/phone/walk.mp4", footage.pan(0, 8, 40))
    return tmp_path


def test_shards_and_metrics_say_what_made_them(walk: Path) -> None:
    params = load_params(walk / "params.yaml")
    ingest.main(params, walk, "phone")
    mine.main(params, walk, "phone")
    (shard,) = Workspace(walk).pairs("phone").glob("*.parquet")
    made_by = {"reader": 5, "rule": 1, "writer": 1}
    assert _said(shard) == made_by
    assert json.loads(Workspace(walk).metrics("mine", "phone").read_text())["parts"] == made_by
    assert _said(Workspace(walk).inventory("phone")) == {"reader": 5}
    # as written before there were versions
    for path, schema in ((shard, PAIR), (Workspace(walk).inventory("phone"), INVENTORY)):
        table = pq.read_table(path).replace_schema_metadata(None)
        pq.write_table(table, path)
        assert len(read_table(path, schema=schema)) == len(table)


def test_a_raised_reader_makes_another_inventory_and_another_engine_does_not(
    walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inventory() -> bytes:
        ingest.main(load_params(walk / "params.yaml"), walk, "phone")
        return Workspace(walk).inventory("phone").read_bytes()

    first = inventory()
    for reader, same in (("images", True), ("videos", False)):
        higher = sources.READER_VERSIONS[reader]["reader"] + 1
        monkeypatch.setitem(sources.READER_VERSIONS, reader, {"reader": higher})
        assert (inventory() == first) == same


def test_a_source_is_bound_to_the_engine_it_uses(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = load_params(repository / "params.yaml").sources["rooms"]
    assert isinstance(rooms, config.Scenes)
    versions = {"reader": 5, "embree": 6, "habitat": 7}
    monkeypatch.setitem(sources.READER_VERSIONS, "scenes", versions)
    assert sources.parts(rooms) == {"reader": 5, "embree": 6}
    other = rooms.model_copy(update={"engine": "habitat"})
    assert sources.parts(other) == {"reader": 5, "habitat": 7}


def test_what_is_mined_half_way_is_kept_while_the_versions_are(
    walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(walk / "params.yaml")
    ingest.main(params, walk, "phone")

    def folders() -> set[str]:
        mine.main(params, walk, "phone")
        return {folder.name for folder in (walk / "runs/mine/phone").iterdir()}

    first = folders()
    assert folders() == first
    monkeypatch.setattr(mining, "RULE_VERSION", 2)
    assert len(folders() - first) == 1


def test_a_card_says_what_trained_it_and_equal_weights_stay_equal_files(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = toy_runs.write_workspace(tmp_path, repository)
    toy_runs.change(workspace, "runs", "mae", steps=2)
    first = toy_runs.files(toy_runs.run(workspace, "mae"))
    assert json.loads(first["card.json"])["parts"] == {"objective": 1, "loop": 1}
    with safe_open(workspace / "models/mae/encoder.safetensors", "pt") as weights:
        assert "parts" not in json.dumps(weights.metadata())
    monkeypatch.setattr(trainings, "LOOP_VERSION", 2)
    other = toy_runs.files(toy_runs.run(workspace, "mae"))
    assert json.loads(other["card.json"])["parts"] == {"objective": 1, "loop": 2}
    assert json.loads(other["card.json"])["progress"] != json.loads(first["card.json"])["progress"]


def test_a_recipe_is_what_decides_its_weights(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(repository / "params.yaml")
    before = params.recipe("croco-1m")

    def written(**change: Any) -> bytes:
        adapted = {"croco-1m": before.model_copy(update=change)}
        recipe.main(params.model_copy(update={"adapted": adapted}), tmp_path, "croco-1m")
        return Workspace(tmp_path).recipe("croco-1m").read_bytes()

    first = written()
    assert json.loads(first)["parts"] == {"objective": 1}
    assert written(workers=9, keep=7, pictures_every=4) == first
    assert written(base_lr=1.0) != first
    monkeypatch.setitem(OBJECTIVE_VERSIONS, "mae", 2)
    assert written() == first
    monkeypatch.setitem(OBJECTIVE_VERSIONS, "croco", 2)
    assert written() != first
