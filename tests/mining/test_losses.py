"""Everything that gives nothing is counted, and named with the reason."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic import ingest, mine, sources
from mimic.geometry.overlap import Outcome
from mimic.infra import storage
from mimic.mining import loop, shard_job, stats
from mimic.params import Params, load_params
from mimic.sources import base
from mimic.sources.base import Group, NoCandidates, Unreadable, View
from tests.support import footage


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


class Made:
    """A source of one clip: its views by name, an exception where a view cannot be read."""

    name = "made"

    def __init__(self, groups: list[Group], end: Exception | None = None) -> None:
        self.skipped: dict[str, str] = {}
        self._groups, self._end = groups, end

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:
        yield from self._groups
        if self._end is not None:
            raise self._end


def _view(key: str, found: np.ndarray | Exception) -> View:
    def read() -> np.ndarray:
        if isinstance(found, Exception):
            raise found
        return found

    return View(key, read, None)


def _mined(source: Made, params: Params) -> tuple[int, stats.MiningStats]:
    found = stats.MiningStats()
    rule = shard_job.rule_of(params.mine)
    pairs = list(loop.mine_clip(source, "clip", rule, 0.0, 0, found))  # type: ignore[arg-type]
    found.check(len(pairs))
    return len(pairs), found


FRAMES = footage.pan(3, 2, 90)
GONE = OSError(errno.ENOENT, "No such file or directory", "/secret/b.jpg")


@pytest.mark.parametrize("given", [None, lambda: None], ids=["judged", "given"])
def test_a_picture_that_cannot_be_read_is_named_with_the_reason(
    params: Params, given: Callable[..., Any] | None
) -> None:
    good, cut = _view("good", FRAMES[0]), _view("cut", Unreadable("image file is truncated"))
    gone = _view("gone", GONE)
    pairs = ((0, 1), (0, 2), (1, 2))
    groups = [Group((good, cut, gone), (pair,), precomputed=given) for pair in pairs]
    if given is not None:
        groups = [
            Group((group.views[a], group.views[b]), ((0, 1),), precomputed=given)
            for group in groups
            for a, b in group.pairs
        ]
    kept, found = _mined(Made(groups), params)
    assert kept == 0
    assert found.outcomes == {Outcome.UNREADABLE: 3}
    summary = found.summary()
    assert summary["unreadable_views"] == {
        "clip": {"cut": "image file is truncated", "gone": "No such file or directory"}
    }
    assert summary["without_pairs"] == {
        "clip": {"why": "none of 3 candidates was kept", "outcomes": {"unreadable": 3}}
    }
    assert summary["totals"] == {"without_pairs": 1, "unreadable_views": 2, "skipped": 0}


def test_a_map_that_cannot_be_read_is_named_by_its_pair(params: Params) -> None:
    def given() -> None:
        raise Unreadable("corresponding.npy: damaged pickle")

    group = Group((_view("a", FRAMES[0]), _view("b", FRAMES[1])), ((0, 1),), precomputed=given)
    _, found = _mined(Made([group]), params)
    assert found.unreadable_views == {("clip", "a and b"): "corresponding.npy: damaged pickle"}


@pytest.mark.parametrize(
    ("end", "why", "outcomes", "damaged"),
    [
        (None, "no two views to compare", {}, {}),
        (NoCandidates("one frame in 0.2 s"), "one frame in 0.2 s", {}, {}),
        (Unreadable("no video"), "no video", {"unreadable": 1}, {"clip": "no video"}),
        (
            GONE,
            "No such file or directory",
            {"unreadable": 1},
            {"clip": "No such file or directory"},
        ),
    ],
)
def test_a_clip_without_pairs_is_named_with_the_reason(
    params: Params,
    end: Any,
    why: str,
    outcomes: dict[str, Any] | dict[str, int],
    damaged: dict[str, Any] | dict[str, str],
) -> None:
    kept, found = _mined(Made([], end), params)
    assert kept == 0
    assert found.damaged == damaged
    assert found.without_pairs == {"clip": stats.WithoutPairs(why, outcomes)}


def test_a_clip_with_pairs_is_not_named(params: Params) -> None:
    group = Group((_view("a", FRAMES[0]), _view("b", FRAMES[1])), ((0, 1),))
    kept, found = _mined(Made([group], Unreadable("breaks off")), params)
    assert kept == 1
    assert found.without_pairs == {}
    assert found.damaged == {"clip": "breaks off"}


def test_a_full_disk_or_too_many_open_files_are_no_damage(params: Params) -> None:
    with pytest.raises(OSError, match="Too many"):
        _mined(Made([], OSError(errno.EMFILE, "Too many open files")), params)


def test_a_clip_that_cannot_be_described_is_named_and_ends_nothing() -> None:
    class Odd:
        def describe(self, clip: str) -> base.Description:
            raise {"gone": GONE, "odd": ValueError("what\nis this")}[clip]

    found = {clip: base.describe(Odd(), clip) for clip in ("gone", "odd")}  # type: ignore[arg-type]
    assert found["gone"]["error"] == "No such file or directory"
    assert found["odd"]["error"] == "failed: ValueError: what is this"
    assert found["gone"]["digest"] != found["odd"]["digest"]


def test_a_summary_may_name_the_first_and_counts_all_in_any_order() -> None:
    parts = []
    for number in range(3000):
        part = stats.MiningStats()
        part.begin_clip()
        part.end_clip(f"{number:06}")
        part.add_unreadable_view(f"{number:06}", "a", "cut")
        parts.append(part)
    sums = []
    for order in (parts, parts[::-1]):
        total = stats.MiningStats()
        for part in order:
            total.add(part)
        sums.append(total.summary(most=1000))
    assert sums[0] == sums[1]
    assert len(sums[0]["without_pairs"]) == len(sums[0]["unreadable_views"]) == 1000
    assert list(sums[0]["without_pairs"])[-1] == "000999"
    assert sums[0]["totals"] == {"without_pairs": 3000, "unreadable_views": 3000, "skipped": 0}
    whole = total.summary()
    assert len(list(stats.problem_entries(whole))) == 6000
    told = list(stats.summary_lines(whole, Path("all.json"), Path("log")))
    assert len(told) == 2 * (stats.LINES + 1)
    assert told[-1] == "no pairs: 2995 more, all named in all.json: 2995 no two views to compare"


def test_a_summary_of_an_earlier_version_opens() -> None:
    new = stats.MiningStats(1, 0).summary()
    old = {
        key: value
        for key, value in new.items()
        if key not in ("without_pairs", "unreadable_views", "skipped", "totals")
    }
    assert stats.MiningStats.from_summary(old).summary() == new


def test_metrics_and_the_list_beside_the_shards_name_everything(
    tmp_path: Path, params: Params
) -> None:
    root = tmp_path / "raw"
    footage.folder(root / "good", footage.pan(1, 3, 80))
    footage.folder(root / "still", footage.pan(2, 1, 80) * 2)
    (root / "good/frame000009.png").write_text("no picture")
    (root / "notes.txt").write_text("x")
    (root / "good/dead.png").symlink_to("gone.png")
    section = footage.images_section(params, root, pairing="all")
    made = params.model_copy(update={"sources": {"photos": section}})
    ingest.main(made, tmp_path, "photos")
    mine.main(made, tmp_path, "photos")
    space = storage.Workspace(tmp_path)
    metrics = json.loads(space.metrics("mine", "photos").read_text())
    assert metrics["unreadable_views"] == {
        "good": {"frame000009.png": "not an image that is read here"}
    }
    assert list(metrics["without_pairs"]) == ["still"]
    assert metrics["without_pairs"]["still"]["outcomes"] == {"too_similar": 1}
    assert metrics["skipped"] == {
        "good/dead.png": "a dead link (No such file or directory)",
        "notes.txt": "not an image that is read here",
    }
    listed = [
        json.loads(line) for line in (space.pairs("photos") / mine.LOST).read_text().splitlines()
    ]
    assert sorted(listed, key=str) == sorted(
        [
            {"kind": "without_pairs", "clip": "still", **metrics["without_pairs"]["still"]},
            {
                "kind": "unreadable_view",
                "clip": "good",
                "view": "frame000009.png",
                "why": "not an image that is read here",
            },
            *(
                {"kind": "skipped", "path": path, "why": why}
                for path, why in metrics["skipped"].items()
            ),
        ],
        key=str,
    )
    assert sources.open_source("photos", section, tmp_path, 224).describe("good")["frames"] == 4


def test_a_rare_reason_is_among_the_lines(tmp_path: Path) -> None:
    named = {f"{number:03}": "hidden" for number in range(90)} | {"photo.heic": "cannot be opened"}
    lines = list(stats.first_lines(named, tmp_path / "all.json"))
    assert lines[0] == "photo.heic: cannot be opened"
    assert lines[-1] == f"86 more, all named in {tmp_path}/all.json: 86 hidden"
