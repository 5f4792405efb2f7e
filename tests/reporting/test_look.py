"""The page that `mimic pairs` ends with, as a file and as a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from mimic.commands.own import own_data, own_options
from mimic.errors import BadInput
from mimic.pairs.read import read_table
from mimic.pairs.schema import PAIR, index_path, shards_in
from mimic.params import Params, load_params
from mimic.reporting import advice, look
from mimic.reporting.look import PAGE, REJECTED, SUMMARY, look_page
from tests.reporting.test_report import Page
from tests.support import footage
from tests.support.browser import probed
from tests.support.command import MIMIC

ODD = '<b onload=1> "Küche" & 台所.mp4'
# Inside the page: what a reader on a phone, or without eyes or a mouse, meets.
PROBE = """
<script>
const all = selector => [...document.querySelectorAll(selector)];
const pictures = all("img, svg image").map(node => {
  const image = new Image();
  image.src = node.getAttribute("src") || node.getAttribute("href");
  return image.decode().then(() => image.naturalWidth > 1, () => false);
});
Promise.all(pictures).then(seen => parent.postMessage(JSON.stringify({
  pictures: seen.length, blank: seen.filter(one => !one).length,
  width: innerWidth,
  overflow: document.documentElement.scrollWidth - innerWidth,
  silent: all("img").filter(node => !node.alt).length
    + all("svg").filter(node => !node.getAttribute("aria-label")).length,
  unreachable: all(".wide").filter(node => node.tabIndex < 0).length
    + all("a").filter(node => node.tabIndex < 0 || !node.getAttribute("href")).length,
  broken: all('a[href^="#"]').filter(node => !document.querySelector(node.hash)).length,
  names: document.body.innerText,
}), "*"));
</script>
"""
FRAME = """<!doctype html><meta charset="utf-8"><title>frame</title>
<script>addEventListener("message", event => {
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = event.data;
  document.body.append(out);
});</script>
<iframe src="probed.html" style="width:WIDTHpx;height:900px;border:0"></iframe>"""


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


@pytest.fixture(scope="module")
def mined(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of one place, one that hardly moves, one of an odd name, and one that is none."""
    root = tmp_path_factory.mktemp("look")
    footage.video(root / "raw/walk.mp4", footage.pan(0, 6, 80), fps=1)
    shutil.copy(root / "raw/walk.mp4", root / "raw/walk again.mp4")
    with (root / "raw/walk again.mp4").open("ab") as file:
        file.write(b"\0" * 8)  # another file to every digest, the same pictures
    footage.video(root / "raw/still.mp4", footage.pan(1, 30, 2), fps=1)
    footage.video(root / "raw" / ODD, footage.pan(2, 5, 80), fps=1)
    (root / "raw/no video.mp4").write_text("text")
    own_data.pairs(params, [root / "raw"], root / "mined", own_options.Options(), as_json=True)
    return root / "mined"


def test_it_says_what_became_of_all_candidates(mined: Path) -> None:
    summary = json.loads((mined / SUMMARY).read_text())
    text = (mined / PAGE).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert f"all {summary['candidates']} of {summary['candidates']}" in page.text
    assert "every candidate has one outcome" in page.text
    for outcome, count in summary["outcomes"].items():
        assert (f"{outcome.replace('_', ' ')} {count:,} " in page.text) is (count > 0)
    rejected = json.loads((mined / REJECTED).read_text())
    assert len(rejected) >= 1
    for entry in rejected:
        assert " ".join(entry["why"].split()) in page.text  # the numbers that decided
    assert "no video.mp4" in page.text
    assert "Clips that gave nothing" in page.text
    assert not [one for one in page.references if not one.startswith(("data:", "#"))]


def test_it_counts_pairs_of_each_clip_and_what_is_twice_there(mined: Path) -> None:
    page = Page((mined / PAGE).read_text(encoding="utf-8"))
    for name in ("walk.mp4", "walk again.mp4", ODD):
        assert re.search(rf"{re.escape(name)} [45]\b", page.text), name
    assert "Of 14 pairs 5 look like a pair of another clip, in 5 groups" in page.text


def test_it_says_what_to_change_with_the_command(mined: Path) -> None:
    page = Page((mined / PAGE).read_text(encoding="utf-8"))
    assert "of the candidates are too similar" in page.text
    command = re.search(r"mimic pairs \S+ --out NEW_FOLDER --spacing-s (\S+)", page.text)
    assert command is not None
    settings = json.loads((mined / SUMMARY).read_text())["settings"]
    (source,) = settings["sources"].values()
    assert float(command[1]) == 2 * source["spacing_s"]


def test_a_name_cannot_write_markup(mined: Path) -> None:
    text = (mined / PAGE).read_text(encoding="utf-8")
    assert "<b onload" not in text
    assert str(escape(ODD)) in text


def test_the_same_folder_makes_the_same_page(mined: Path) -> None:
    before = (mined / PAGE).read_bytes()
    assert look_page(mined) == mined / PAGE
    assert (mined / PAGE).read_bytes() == before


def test_a_folder_of_an_earlier_version_still_gets_one(mined: Path, tmp_path: Path) -> None:
    old = shutil.copytree(mined, tmp_path / "old")
    (old / REJECTED).unlink()
    (old / PAGE).unlink()
    summary = json.loads((old / SUMMARY).read_text())
    for key in ("settings", "licences"):
        del summary[key]
    (old / SUMMARY).write_text(json.dumps(summary))
    page = Page(look_page(old).read_text(encoding="utf-8"))
    assert "There is no picture of a rejected candidate." in page.text
    assert "may be handed on: unknown (not stated)" in page.text


def test_a_folder_without_a_result_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no _pairs.json of `mimic pairs`"):
        look_page(tmp_path)


def test_a_page_of_somebody_else_is_left_alone(params: Params, tmp_path: Path) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80), "IMG_{}.jpg")
    out = tmp_path / "mined"
    options = own_options.Options()
    own_data.pairs(params, [tmp_path / "photos"], out, options, as_json=True)
    (out / PAGE).unlink()
    own_data.pairs(params, [tmp_path / "photos"], out, options, as_json=True)
    assert (out / PAGE).exists()  # made again, and nothing mined
    (out / PAGE).write_text("<p>mine</p>")
    with pytest.raises(BadInput, match=r"holds _index\.html"):
        own_data.pairs(params, [tmp_path / "photos"], out, options, as_json=True)
    assert (out / PAGE).read_text() == "<p>mine</p>"


def test_the_address_is_printed_in_ascii(tmp_path: Path) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80), "IMG_{}.jpg")
    done = subprocess.run(
        [MIMIC, "pairs", "photos", "--out", "Bilder & 写真"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.isascii()
    assert last == f"look at them: {(tmp_path / 'Bilder & 写真' / PAGE).resolve().as_uri()}"


def test_many_pairs_make_a_small_page_in_seconds(mined: Path, tmp_path: Path) -> None:
    big = shutil.copytree(mined, tmp_path / "big")
    (index,) = [index_path(tar) for tar in shards_in(big)][:1]
    rows = read_table(index)
    count = 120_000
    taken = rows.take(pa.array(np.arange(count) % len(rows)))
    rng = np.random.default_rng(0)
    for name in ("dhash_a", "dhash_b"):
        codes = rng.integers(0, 2**63, count).astype(np.uint64)
        taken = taken.set_column(taken.column_names.index(name), PAIR.field(name), pa.array(codes))
    clips = pa.array([f"clip {number // 50}" for number in range(count)])
    taken = taken.set_column(taken.column_names.index("clip"), PAIR.field("clip"), clips)
    pq.write_table(taken.cast(PAIR), index, row_group_size=10_000)
    started = time.monotonic()
    page = look_page(big)
    took = time.monotonic() - started
    print(f"{count} pairs: {took:.1f} s, {page.stat().st_size / 1e6:.2f} MB")
    assert page.stat().st_size < 5e6
    assert took < 60
    assert "more, with 50 pairs or fewer" in Page(page.read_text(encoding="utf-8")).text


@pytest.mark.parametrize("width", [375, 1280])
def test_a_reader_on_any_screen_sees_everything(
    mined: Path, require_program: Callable[[str], str], tmp_path: Path, width: int
) -> None:
    text = (mined / PAGE).read_text(encoding="utf-8")
    (tmp_path / "probed.html").write_text(text.replace("</body>", PROBE + "</body>"))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    chromium = require_program("chromium")
    window = "--window-size=1400,1000"
    seen, console = probed(chromium, frame, tmp_path / "profile", window)
    assert console == ""
    assert seen["width"] == width
    assert seen["overflow"] <= 0, "the page scrolls sideways; only tables may"
    assert seen["pictures"] >= 2 * 12 + 1
    faults = {key: seen[key] for key in ("blank", "silent", "unreachable", "broken")}
    assert faults == dict.fromkeys(faults, 0)
    assert ODD in seen["names"]


@pytest.mark.parametrize(
    ("outcomes", "spacing", "said"),
    [
        ({"too_similar": 60, "kept": 40}, 1.0, "--spacing-s 2"),
        ({"few_matches": 60, "kept": 40}, 2.0, "--spacing-s 1"),
        ({"static": 15, "kept": 85}, 1.0, "--crop-bottom 0.2"),
        ({"too_similar": 60, "kept": 40}, None, None),
        ({"too_similar": 20, "kept": 80}, 1.0, ""),
    ],
)
def test_the_rules_read_the_counts(
    outcomes: dict[str, int], spacing: float | None, said: str | None
) -> None:
    summary = {
        "candidates": 100,
        "clips": 2,
        "outcomes": outcomes,
        "paths": ["my videos"],
        "without_pairs": {},
    }
    settings = {"sources": {"own": {"spacing_s": spacing}}}
    found = advice.findings(summary, settings, [20, 20], (0, 40))
    if said == "":
        assert found == []
        return
    (finding,) = found
    assert "% of the candidates" in finding.seen
    if said is None:
        assert finding.command is None
    else:
        assert finding.command == f"mimic pairs 'my videos' --out NEW_FOLDER {said}"
        summary["options"] = {"--licence": "own", said.split()[0]: "7", "--params": "my lab.yaml"}
        (finding,) = advice.findings(summary, settings, [20, 20], (0, 40))
        flags = f"--licence own {said} --params 'my lab.yaml'"
        assert finding.command == f"mimic pairs 'my videos' --out NEW_FOLDER {flags}"


def test_equal_pairs_are_compared_with_each_other_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = np.random.default_rng(0).integers(0, 2**64, 5000, np.uint64)
    both = np.concatenate([codes, codes])
    assert len(look._compared(both)) == 10_000
    monkeypatch.setattr(look, "COMPARED", 1000)
    chosen = look._compared(both)
    assert len(chosen) == 1000
    assert np.array_equal(chosen[chosen >= 5000] - 5000, chosen[chosen < 5000])
    one_look = np.full(5000, codes[0])
    assert len(look._compared(one_look)) == 1000


def test_copies_are_a_finding_by_what_was_compared() -> None:
    summary = {"candidates": 9, "clips": 2, "outcomes": {"kept": 9}, "without_pairs": {}}
    (finding,) = advice.findings(summary, {}, [500_000, 500_000], (50_000, 100_000))
    assert finding.seen == "50,000 of 100,000 pairs look like a pair of another clip"
    assert advice.findings(summary, {}, [500_000, 500_000], (5_000, 100_000)) == []
