"""The benchmark behind docs/experiments/mining-rule.md: its variants differ as they say, and its
numbers are those of the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import truth
from mimic.geometry import features, overlap
from tests.support.views import SIZE_PX, SYMMETRIC, texture


@pytest.fixture(scope="module")
def pair() -> tuple[features.Features, features.Features]:
    world = texture(5, 500)
    a, b = (
        features.extract(world[y : y + SIZE_PX, x : x + SIZE_PX].copy())
        for y, x in ((0, 0), (40, 60))
    )
    return a, b


def test_the_default_is_one_of_the_variants(
    pair: tuple[features.Features, features.Features],
) -> None:
    default = truth.Variant(truth.BEST, "USAC_ACCURATE", "area")
    assert default in truth.VARIANTS
    with truth.rule_of(default):
        found = overlap.compare(*pair, SYMMETRIC, None)
    plain = overlap.compare(*pair, SYMMETRIC, None)
    assert (found.overlap, found.matches, found.inliers) == (
        plain.overlap,
        plain.matches,
        plain.inliers,
    )


def test_matches_are_subsets_of_one_another(
    pair: tuple[features.Features, features.Features],
) -> None:
    found = {
        name: set(zip(*map(tuple, match(*pair, 0.7)), strict=True))
        for name, match in truth.MATCHES.items()
    }
    assert found["ratio both ways"] <= found["one way + mutual"] <= found["one way"]
    assert found["one way"] <= found["ratio either way, not mutual"]
    assert (
        found["one way + mutual"]
        <= found["ratio either way, mutual"]
        <= found["ratio either way, not mutual"]
    )
    assert len(found["ratio both ways"]) > 50


def test_the_documented_row_is_what_the_benchmark_prints(real_data: Path, repository: Path) -> None:
    """The chosen rule's row, run again; a processor's rounding may move a pair."""
    default = truth.Variant(truth.BEST, "USAC_ACCURATE", "area")
    found = truth.measure(real_data, SYMMETRIC, [default], truth.PHOTOS[:1])
    row, walk = found["rows"][0], found["photos"][0]
    assert (walk["kept, bilinear"], walk["kept, area"]) == (10, 16)
    line = next(
        line
        for line in (repository / "docs/experiments/mining-rule.md").read_text().splitlines()
        if "**USAC_ACCURATE**" in line
    )
    cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
    assert cells[:3] == [row["matches"], row["estimator"], row["shrink"]]
    for cell, name in zip(
        cells[3:], ("homographies", "kept", "recall", "corr", "precision"), strict=True
    ):
        assert row[name] == pytest.approx(float(cell), rel=0.02), name
