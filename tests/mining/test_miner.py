"""The mining loop on a source that is made of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from mimic import config
from mimic.geometry import resize
from mimic.geometry.overlap import Outcome
from mimic.mining import loop, shard_job, view_cache
from mimic.params import load_params
from mimic.sources.base import Group, Unreadable, View
from tests.support import footage


class Frames:
    """Views of a pan, read by number; 16 px a step: neighbours overlap too much, eight frames apart
    too little."""

    name = "frames"
    skipped: dict[str, str] = {}

    def __init__(self, groups: list[Group] | None = None, count: int = 12) -> None:
        self.images = footage.pan(3, count, 16)
        self.reads: list[int] = []
        self.given = groups
        self.breaks = False

    def view(self, number: int) -> View:
        def read() -> np.ndarray:
            self.reads.append(number)
            if number == 99:
                raise Unreadable("no such frame")
            if number == 50:
                return np.full((224, 224, 3), 128, np.uint8)
            return self.images[number]

        return View(str(number), read, None)

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:
        yield from self.given or ()
        if self.breaks:
            raise Unreadable("the rest is gone")


@pytest.fixture(scope="module")
def mine(repository: Path) -> config.Mine:
    return load_params(repository / "params.yaml").mine


def _mined(
    source: Any, mine: config.Mine, sharpness_min: float = 0.0
) -> tuple[list[loop.Pair], loop.MiningStats]:
    stats = loop.MiningStats()
    pairs = list(loop.mine_clip(source, "clip", shard_job.rule_of(mine), sharpness_min, 0, stats))
    stats.check(len(pairs))
    return pairs, stats


def test_the_least_overlap_in_the_band_is_kept_and_the_others_are_counted(
    mine: config.Mine,
) -> None:
    source = Frames()
    group = Group(tuple(map(source.view, (0, 1, 4, 6, 11))), ((0, 1), (0, 2), (0, 3), (0, 4)))
    source.given = [group]
    pairs, stats = _mined(source, mine)
    assert [(pair.a.key, pair.b.key) for pair in pairs] == [("0", "6")]
    assert abs(pairs[0].comparison.overlap - (1 - 6 * 16 / 224)) < 0.08
    assert stats.candidates == 4
    assert (
        stats.outcomes[Outcome.KEPT]
        == stats.outcomes[Outcome.NOT_BEST]
        == stats.outcomes[Outcome.TOO_SIMILAR]
        == 1
    )
    assert (pairs[0].image_b == source.images[6]).all()


def test_each_view_is_read_and_its_features_are_found_once(mine: config.Mine) -> None:
    source = Frames()
    ring = tuple(map(source.view, range(8)))
    source.given = [
        Group(ring, tuple((a, b) for a in range(4) for b in range(4, 8))),
        Group(ring, ((0, 5), (1, 6))),
    ]
    _mined(source, mine)
    assert sorted(source.reads) == list(range(8))


def test_a_retry_is_tried_only_when_all_overlap_too_much_and_then_skips(mine: config.Mine) -> None:
    source = Frames()
    close, wide = (0, 1), (0, 2)
    views = [
        tuple(map(source.view, numbers)) for numbers in ((0, 1, 5), (1, 2, 6), (2, 3, 7), (3, 8, 9))
    ]
    source.given = [Group(part, (close,), (wide,), 1) for part in views]
    pairs, stats = _mined(source, mine)
    # the first takes its retry and skips the second; the third the same, and skips the fourth
    assert [(pair.a.key, pair.b.key) for pair in pairs] == [("0", "5"), ("2", "7")]
    assert stats.candidates == 4
    assert stats.outcomes[Outcome.TOO_SIMILAR] == 2


def test_a_retry_that_fails_skips_nothing(mine: config.Mine) -> None:
    source = Frames()
    source.given = [
        Group(tuple(map(source.view, numbers)), ((0, 1),), ((0, 2),), 1)
        for numbers in ((0, 1, 11), (1, 6, 7))
    ]
    pairs, _ = _mined(source, mine)
    assert [(pair.a.key, pair.b.key) for pair in pairs] == [("1", "6")]


def test_unreadable_and_blurred_views_are_counted_per_candidate(mine: config.Mine) -> None:
    source = Frames()
    source.given = [
        Group(tuple(map(source.view, (0, 99, 50, 6))), ((0, 1), (1, 2), (0, 2), (0, 3)))
    ]
    pairs, stats = _mined(source, mine, sharpness_min=5.0)
    assert len(pairs) == 1
    assert stats.outcomes == {Outcome.UNREADABLE: 2, Outcome.BLURRED: 1, Outcome.KEPT: 1}


def test_a_given_pair_with_a_blurred_view_is_counted_and_left_out(mine: config.Mine) -> None:
    source = Frames()
    source.given = [
        dataclasses.replace(
            Group(tuple(map(source.view, numbers)), ((0, 1),)), precomputed=lambda: None
        )
        for numbers in ((0, 5), (0, 50), (50, 5))
    ]
    pairs, stats = _mined(source, mine, sharpness_min=5.0)
    assert [(pair.a.key, pair.b.key) for pair in pairs] == [("0", "5")]
    assert stats.outcomes == {Outcome.BLURRED: 2, Outcome.KEPT: 1}
    assert len(_mined(source, mine)[0]) == 3


def test_a_clip_that_breaks_off_keeps_what_came_before_and_is_named(mine: config.Mine) -> None:
    source = Frames()
    source.given, source.breaks = [Group((source.view(0), source.view(5)), ((0, 1),))], True
    pairs, stats = _mined(source, mine)
    assert len(pairs) == 1
    assert stats.candidates == 2
    assert stats.outcomes[Outcome.UNREADABLE] == 1
    assert stats.damaged == {"clip": "the rest is gone"}


@pytest.mark.parametrize("mode", ["symmetric", "reference"])
def test_views_are_shrunk_as_their_mode_says(
    mine: config.Mine, mode: Literal["symmetric", "reference"]
) -> None:
    """Averaged, so that nothing flickers that was too fine; or as published. Judged and stored."""
    rows, columns = np.mgrid[0:560, 0:560]
    board = np.repeat((255 * ((rows + columns) % 2))[..., None], 3, axis=2).astype(np.uint8)
    wanted = resize.to_square(board, mine.size_px, mode)
    rule = shard_job.rule_of(mine.model_copy(update={"mode": mode}))
    seen = view_cache.ViewCache(rule, 0.0).get(View("board", lambda: board, None))
    assert seen.image is not None
    np.testing.assert_array_equal(seen.image, wanted)
    assert (wanted.std() < 12) == (mode == "symmetric")
    given = Group(
        (View("a", lambda: board, None), View("b", lambda: board, None)),
        ((0, 1),),
        precomputed=lambda: np.full((mine.size_px // mine.patch_px) ** 2, -1, np.int16),
    )
    (pair,), _ = _mined(Frames([given]), mine.model_copy(update={"mode": mode}))
    np.testing.assert_array_equal(pair.image_a, wanted)


def test_sharpness_is_that_of_the_picture_as_the_published_scripts_shrink_it() -> None:
    """A threshold that was set on such pictures rejects the same views, whichever way the mined
    square is shrunk."""
    fine = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    published = cv2.resize(fine, (224, 224), interpolation=cv2.INTER_LINEAR)
    expected = cv2.Laplacian(cv2.cvtColor(published, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()
    assert view_cache.sharpness(fine, 224) == pytest.approx(expected)


def test_memory_is_bounded_by_the_group_not_the_clip(mine: config.Mine) -> None:
    source = Frames(count=40)
    cache = view_cache.ViewCache(shard_job.rule_of(mine), 0.0)
    for number in range(39):
        group = Group((source.view(number), source.view(number + 1)), ((0, 1),))
        cache.reserve(group)
        for view in group.views:
            cache.get(view)
        assert len(cache._cache) <= 2
    assert source.reads == list(range(40))


def test_a_tally_survives_json_and_adds_up() -> None:
    first, second = loop.MiningStats(1, 3), loop.MiningStats(2, 2)
    first.outcomes.update({Outcome.KEPT: 1, Outcome.TOO_SIMILAR: 2})
    first.overlaps.update({12: 1, 19: 2})
    second.outcomes.update({Outcome.UNREADABLE: 2})
    second.damaged["x"] = "gone"
    first.add(second)
    first.check(pairs=1)
    summary = first.summary()
    assert loop.MiningStats.from_summary(summary).summary() == summary
    assert (summary["clips"], summary["candidates"], summary["kept"]) == (3, 5, 1)
    assert sum(summary["outcomes"].values()) == 5
    assert set(summary["outcomes"]) == {outcome.value for outcome in Outcome}
    with pytest.raises(AssertionError, match="1 kept but 2 pairs"):
        first.check(pairs=2)


def test_reference_mode_draws_the_same_for_the_same_clip(mine: config.Mine) -> None:
    reference = mine.model_copy(update={"mode": "reference"})
    group = lambda source: [Group((source.view(0), source.view(5)), ((0, 1),))]  # noqa: E731
    found = []
    for _ in range(2):
        source = Frames()
        source.given = group(source)
        pairs, _ = _mined(source, reference)
        found.append(pairs[0].comparison.correspondences)
    assert (found[0] == found[1]).all()
