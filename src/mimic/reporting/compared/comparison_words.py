"""A comparison in one line, and as JSON for figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimic.reporting.compared.comparison import SHOWN, Compared, Contender, Contrast
from mimic.reporting.compared.difference import LEVEL, SeedScores
from mimic.reporting.verdict import number

ALIKE = 4  # further differences that are named; the rest are counted


def line(one: Contrast) -> str:
    """depth: mimic-3m - mimic-1m: delta1 +0.013 ± 0.060 (95 %, n = 3 + 3 seeds, 96 items): not
    shown."""
    arrow = "" if one.higher_is_better else ", lower is better"
    half = one.difference.half
    spread = "" if half is None else f" ± {number(half)}"
    level = "no interval" if half is None else f"{LEVEL:.0%}".replace("%", " %")
    runs = _runs(one)
    verdict = f"{one.verdict}, {one.better} is better" if one.verdict == SHOWN else one.verdict
    also = _also(one.also)
    return (
        f"{one.task}: {one.label(one.b)} - {one.label(one.a)}{runs}: {one.metric} "
        f"{signed(one.difference.value)}{spread} ({level}, {_over(one)}{arrow}): {verdict}"
        f"{f'; differs in {also}, too' if also else ''}"
    )


def rule(count: int) -> str:
    """How it is decided what is shown."""
    many = (
        f"{count} differences are looked at together: one is shown if Holm's procedure over all of "
        f"them finds it at {1 - LEVEL:.0%} in all".replace("%", " %")
        if count > 1
        else "shown: the interval does not hold 0"
    )
    return (
        f"{many}. Each interval is for itself; it covers other seeds and other test items where "
        "both are known (docs/compare.md)."
    )


def as_json(compared: Compared) -> dict[str, Any]:
    """Everything that a figure needs: means, intervals, the value of each seed."""
    return {
        "level": LEVEL,
        "rule": "Holm over all comparisons of this list",
        "comparisons": [_entry(one) for one in compared.comparisons],
        "not_comparable": compared.apart,
    }


def signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{number(abs(value))}"


def _runs(one: Contrast) -> str:
    if one.by == "run":
        return ""
    return f" ({one.b.name} - {one.a.name})"


def _over(one: Contrast) -> str:
    """What the interval is over."""
    counts = (len(one.sample_b.values), len(one.sample_a.values))
    if one.difference.seeds:
        paired = ", paired" if one.difference.seeds_paired else ""
        seeds = f"n = {counts[0]} + {counts[1]} seeds{paired}"
    else:
        seeds = f"n = {counts[0]} + {counts[1]}, seeds: not known"
    return f"{seeds}, {_items(one)}"


def _items(one: Contrast) -> str:
    if not one.difference.items:
        return "test items: not known"
    return "the same test items" if one.difference.items_paired else "test items not paired"


def _also(also: dict[str, tuple[Any, Any]]) -> str:
    # in the order of the line, which is b - a
    named = [f"{key} {b} / {a}" for key, (a, b) in list(also.items())[:ALIKE]]
    rest = len(also) - ALIKE
    return ", ".join([*named, f"{rest} more settings"] if rest > 0 else named)


def _entry(one: Contrast) -> dict[str, Any]:
    return {
        "task": one.task,
        "metric": one.metric,
        "higher_is_better": one.higher_is_better,
        "by": one.by,
        "a": _side(one, one.a, one.sample_a),
        "b": _side(one, one.b, one.sample_b),
        "difference": one.difference.value,
        "half_width": one.difference.half,
        "interval": one.difference.interval,
        "p": one.difference.p,
        "verdict": one.verdict,
        "shown": one.verdict == SHOWN,
        "better": one.better,
        "over": {
            "seeds": one.difference.seeds,
            "seeds_paired": one.difference.seeds_paired,
            "items": one.difference.items,
            "items_paired": one.difference.items_paired,
        },
        "also_differs": {key: list(pair) for key, pair in one.also.items()},
        "text": line(one),
    }


def _side(one: Contrast, side: Contender, sample: SeedScores) -> dict[str, Any]:
    return {
        "label": one.label(side),
        "runs": list(side.runs),
        "mean": sample.mean,
        "sd": sample.deviation,
        "n": len(sample.values),
        "seeds": {str(seed): value for seed, value in sample.values.items()},
        "standard_error_over_items": sample.error,
    }


def table(comparisons: Sequence[Contrast]) -> list[str]:
    """The lines, and the rule below them."""
    lines = [line(one) for one in comparisons]
    return [*lines, rule(len(comparisons))] if lines else lines
