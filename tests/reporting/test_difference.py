"""The interval of a difference, on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mimic.reporting.compared.difference import SeedScores, difference, holm

DRAWS = 400
TRUE = 0.3
# deviations of a seed, of an item's difference, of what all items share, and of the rest
WORLDS = {
    "seeds decide": (1.0, 0.1, 1.0, 0.1),
    "items decide": (0.02, 2.0, 5.0, 0.1),
    "both": (0.3, 2.0, 5.0, 0.5),
    "neither": (0.01, 0.01, 5.0, 3.0),
}


def _sample(values: np.ndarray, first: int = 0) -> SeedScores:
    """Of a table [seeds, items]."""
    means = {first + seed: float(row.mean()) for seed, row in enumerate(values)}
    return SeedScores(means, {first + seed: row for seed, row in enumerate(values)}, None)


def _covered(world: tuple[float, ...], seeds: int, items: int, *, same_seeds: bool) -> float:
    """How often the interval holds the true difference."""
    seed_sd, item_sd, common_sd, rest_sd = world
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(DRAWS):
        shared = rng.normal(0, common_sd, items)
        sides = []
        for mean in (0.0, TRUE):
            of_items = shared + rng.normal(0, item_sd / math.sqrt(2), items)
            of_seeds = rng.normal(0, seed_sd, (seeds, 1))
            sides.append(mean + of_seeds + of_items + rng.normal(0, rest_sd, (seeds, items)))
        b = _sample(sides[1], 0 if same_seeds else 100)
        interval = difference(_sample(sides[0]), b).interval
        assert interval is not None
        hits += interval[0] <= TRUE <= interval[1]
    return hits / DRAWS


@pytest.mark.parametrize("same_seeds", [True, False])
@pytest.mark.parametrize("world", WORLDS)
def test_it_covers_the_truth_as_often_as_it_says_at_three_seeds(
    world: str, same_seeds: bool
) -> None:
    covered = _covered(WORLDS[world], seeds=3, items=60, same_seeds=same_seeds)
    chance = 2.5 * math.sqrt(0.95 * 0.05 / DRAWS)
    assert covered >= 0.95 - chance
    if world in ("seeds decide", "items decide"):  # nothing is counted twice there
        assert covered <= 0.95 + chance


def test_pairing_makes_it_as_narrow_as_the_differences_are() -> None:
    """Items of very different difficulty, on which b is always better by the same."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 100)
    a = np.stack([hard + offset for offset in (0.0, 0.1, 0.2)])
    found = difference(_sample(a), _sample(a + 0.5))
    assert found.value == pytest.approx(0.5)
    assert found.half == pytest.approx(0, abs=1e-9)
    assert found.seeds_paired
    assert found.items_paired
    apart = difference(_sample(a), _sample(a + 0.5, first=3))
    assert not apart.seeds_paired
    assert apart.half is not None
    assert apart.half > 0.1


def test_it_is_b_minus_a_and_the_other_way_round_it_is_the_mirror_image() -> None:
    rng = np.random.default_rng(1)
    one = _sample(rng.normal(1, 1, (3, 20)))
    other = _sample(rng.normal(2, 1, (3, 20)))
    there = difference(one, other)
    back = difference(other, one)
    assert there.value == pytest.approx(other.mean - one.mean)
    assert back.value == pytest.approx(-there.value)
    assert back.half == pytest.approx(there.half)
    assert back.p == pytest.approx(there.p)


def test_with_seeds_alone_it_is_students_interval() -> None:
    a = SeedScores({0: 1.0, 1: 2.0, 2: 4.0}, {}, None)
    b = SeedScores({0: 1.5, 1: 2.9, 2: 4.2}, {}, None)
    found = difference(a, b)
    reference = stats.ttest_rel([1.5, 2.9, 4.2], [1.0, 2.0, 4.0])
    low, high = reference.confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high))
    assert found.p == pytest.approx(reference.pvalue, rel=1e-6)
    assert not found.items


def test_other_seeds_are_compared_as_welch_does() -> None:
    a = SeedScores({0: 1.0, 1: 2.0, 2: 4.0}, {}, None)
    b = SeedScores({5: 6.0, 6: 6.5}, {}, None)
    reference = stats.ttest_ind([6.0, 6.5], [1.0, 2.0, 4.0], equal_var=False)
    found = difference(a, b)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.p == pytest.approx(reference.pvalue, rel=1e-6)


def test_one_seed_leaves_the_items_and_says_so() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (2, 1, 50))
    found = difference(_sample(a), _sample(b))
    reference = stats.ttest_rel(b[0], a[0])
    assert not found.seeds
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_without_items_the_stated_errors_count_and_without_both_there_is_no_interval() -> None:
    found = difference(SeedScores({0: 1.0}, {}, 0.3), SeedScores({0: 2.0}, {}, 0.4))
    assert found.half == pytest.approx(stats.norm.ppf(0.975) * 0.5)
    assert not found.items_paired
    nothing = difference(SeedScores({0: 1.0}, {}, None), SeedScores({0: 2.0}, {}, 0.4))
    assert nothing.interval is None
    assert nothing.p is None


def test_items_that_are_not_scored_do_not_count() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, (2, 1, 50))

    def gapped(values: np.ndarray) -> SeedScores:
        return SeedScores({0: float(values.mean())}, {0: np.append(values[0], np.nan)}, None)

    found = difference(gapped(a), gapped(b))
    assert found.half == pytest.approx(difference(_sample(a), _sample(b)).half)


def test_equal_results_differ_by_nothing() -> None:
    a = SeedScores({0: 1.0, 1: 1.0}, {}, None)
    assert difference(a, a).p == 1.0
    assert difference(a, SeedScores({0: 2.0, 1: 2.0}, {}, None)).p == 0.0


def test_holm_is_stricter_the_more_there_are() -> None:
    assert holm([0.03]) == [True]
    assert holm([0.03, 0.9]) == [False, False]
    assert holm([0.03, None]) == [True, False]
    assert holm([0.04, 0.001, 0.02]) == [True, True, True]
    assert holm([0.04, 0.001, 0.03]) == [False, True, False]
