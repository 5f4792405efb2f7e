"""The speed benchmark on a few views: it runs, and both sides agree. Its ratios are measured by
hand, not here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import races, sample_data
from tests.support.views import SYMMETRIC, texture


@pytest.fixture(scope="module")
def views() -> list:
    world = texture(5, 420)
    return [world[y : y + 224, x : x + 224].copy() for y, x in ((0, 0), (40, 60), (150, 190))]


@pytest.fixture(scope="module")
def plain() -> Iterator[Any]:
    with races.plain_side() as run:
        yield run


def test_groups_agree_with_the_plain_rule(views: list, plain: Any) -> None:
    race = races.race_ring(views[:1], views[1:], SYMMETRIC, plain)
    assert race.identical
    assert race.pairs == 2
    assert race.with_homography >= 1
    assert min(race.plain_s, race.plain_kept_s, race.reference_s, race.symmetric_s) > 0
    timed = dataclasses.replace(race, plain_s=6.0, reference_s=2.0, symmetric_s=1.5, sift_s=0.5)
    summary = json.loads(json.dumps(timed.summary()))
    assert (summary["speedup"], summary["speedup_symmetric"], summary["sift_share"]) == (3, 4, 0.25)
    assert summary["plain_ms_per_pair"] == 3000


def test_pair_stage_agrees_and_is_timed(views: list, plain: Any) -> None:
    race = races.race_pair_stage([(views[0], views[1])], SYMMETRIC, plain)
    assert race.identical
    assert race.pairs == 1
    assert min(race.plain_s, race.plain_kept_s, race.reference_s, race.symmetric_s) > 0


def test_stages_are_all_timed(views: list) -> None:
    assert set(races.stages([(views[0], views[1])], SYMMETRIC)) >= {
        "sift_per_image",
        "match",
        "usac",
        "votes_all_both_ways",
    }


def test_rule_comes_from_params() -> None:
    assert sample_data.rule_of_params() == SYMMETRIC
