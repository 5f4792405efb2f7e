"""Pages of mined sources and the figure of a dataset, from a workspace that was really mined and
assembled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mimic import assemble, ingest, mine, report
from mimic.errors import BadInput
from mimic.params import load_params, resolve_params
from tests.reporting.test_report import Page
from tests.support import footage
from tests.support.published import files_below


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    root = tmp_path_factory.mktemp("sources")
    raw = resolve_params(repository / "params.yaml").full()
    raw["cluster"] |= {"workers": 1, "executor": "local"}
    recipe = raw["datasets"]["mimic-1m"]
    raw["datasets"]["mimic-1m"] = recipe | {"sources": {"phone": 3}}
    raw["datasets"]["mimic-3m"] = recipe | {
        "sources": {"phone": 400},
        "contains": "mimic-1m",
        "allow_short": True,
    }
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for number, step_px in enumerate((20, 60, 90, 140)):
        footage.video(root / f"data/raw/phone/{number}.mp4", footage.pan(number, 8, step_px))
    (root / "data/raw/phone/<i>odd.mp4").write_text("no video")
    params = load_params(root / "params.yaml")
    ingest.main(params, root, "phone")
    mine.main(params, root, "phone")
    for dataset in ("mimic-1m", "mimic-3m"):
        assemble.main(params, root, dataset)
    report.main(params, root)
    return root


def test_a_source_has_a_page_of_its_own(mined: Path) -> None:
    (path,) = (mined / "report").glob("source-*.html")
    text = path.read_text()
    page = Page(text)
    metrics = json.loads((mined / "metrics/mine/phone.json").read_text())
    listing = json.loads((mined / "samples/mine/phone/samples.json").read_text())
    assert page.open == []
    assert page.tags.count("img") == len(listing) > 3
    for outcome, count in metrics["outcomes"].items():
        assert (
            f"{outcome.replace('_', ' ')} {count:,} {100 * count / metrics['candidates']:.1f} %"
            in page.text
        ) is (count > 0)
    for entry in listing:
        assert " ".join(entry["caption"].split()) in page.text
    assert text.count('class="pair"') == min(
        load_params(mined / "params.yaml").report.pairs, metrics["kept"]
    )
    assert "<i>odd.mp4 (Invalid data found" in page.text
    assert "<i>odd" not in text  # escaped
    assert {reference for reference in page.references if not reference.startswith("data:")} == {
        "index.html#pairs"
    }
    assert path.name in Page((mined / "report/index.html").read_text()).references


def test_the_index_shows_what_datasets_are_made_of(mined: Path) -> None:
    text = Page((mined / "report/index.html").read_text()).text
    counted = {
        name: json.loads((mined / f"metrics/assemble/{name}.json").read_text())
        for name in ("mimic-1m", "mimic-3m")
    }
    for name, found in counted.items():
        assert f"{name} , {found['pairs']:,} pairs: phone {found['pairs']:,} (100.0 %" in text
    assert "phone : damaged, mined as far as they could be read: <i>odd.mp4 (Invalid data" in text
    assert "left out" not in text
    assert f"{400 - counted['mimic-3m']['pairs']:,} too few" in text


def test_the_same_files_make_the_same_pages(mined: Path) -> None:
    before = files_below(mined / "report")
    report.main(load_params(mined / "params.yaml"), mined)
    assert files_below(mined / "report") == before


def test_a_listing_that_is_damaged_is_one_line(mined: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(mined, copy)
    (copy / "samples/mine/phone/samples.json").write_text('[{"file": "gone.jpg"}]')
    with pytest.raises(BadInput, match=r"samples\.json: not a list of pictures"):
        report.main(load_params(copy / "params.yaml"), copy)
