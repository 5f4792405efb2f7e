"""The plain conclusion, computed from the numbers: what these runs show, and what they cannot show.

A difference counts only if it is larger than the noise of the test items allows; otherwise the text
says that it does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic.infra.conditions import measured_apart
from mimic.reporting.compared.difference import Difference, difference, holm
from mimic.reporting.results import RunRow, SavedResult

PAPER_PAIRS = 200 * 3_163_333  # MIMIC, section 4: 200 epochs of MIMIC-3M


@dataclass(frozen=True)
class Verdict:
    """Sentences: what was run, what the numbers say for each task, and what they cannot say."""

    done: list[str]
    tasks: dict[str, list[str]]
    limits: list[str]


def conclude(rows: Sequence[RunRow], logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Verdict:
    """The conclusion from the results table and the training logs by run; works with anything
    missing."""
    trained = [row for row in rows if row.steps and row.card]
    tasks = list(rows[0].results) if rows else []
    return Verdict(
        done=list(_done(trained, logs)),
        tasks={task: list(_task(rows, task)) for task in tasks},
        limits=list(_limits(trained, rows)),
    )


# ---------------------------------------------------------------------------- what was run


def _done(
    trained: Sequence[RunRow], logs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterable[str]:
    if not trained:
        yield "No encoder has been pretrained yet, so there is nothing to conclude."
        return
    most = max(map(_seen, trained))
    steps = max(row.steps or 0 for row in trained)
    yield (
        f"{_count(sum(len(row.seeds) for row in trained), 'encoder')} pretrained, each for at most "
        f"{steps:,} steps and {most:,} pairs. "
        f"That is {_percent(most / PAPER_PAIRS)} of the pairs that 200 epochs of MIMIC-3M show the "
        "paper's encoder."
    )
    ends = {row.run: _ends(logs.get(row.run, [])) for row in trained}
    falls = [
        f"{run} {pair[0]:.3f} → {pair[1]:.3f}"
        for run, pair in ends.items()
        if pair and pair[1] < pair[0]
    ]
    stays = [
        f"{run} {pair[0]:.3f} → {pair[1]:.3f}"
        for run, pair in ends.items()
        if pair and pair[1] >= pair[0]
    ]
    if falls:
        yield f"The pretraining loss falls ({', '.join(falls)}): the objective is being learned."
    if stays:
        yield f"The pretraining loss does not fall ({', '.join(stays)})."


def _seen(row: RunRow) -> int:
    return (row.steps or 0) * row.batch


def _ends(log: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """First and last loss, each the mean of a tenth of the log, so that one lucky batch decides
    nothing."""
    losses = [float(line["loss"]) for line in log if line.get("loss") is not None]
    if len(losses) < 2:
        return None
    width = max(1, len(losses) // 10)
    return sum(losses[:width]) / width, sum(losses[-width:]) / width


# ---------------------------------------------------------------------------- what the numbers say


def _task(rows: Sequence[RunRow], task: str) -> Iterable[str]:
    measured = {row.run: result for row in rows if (result := row.results[task]) is not None}
    if not measured:
        yield "Not run."
        return
    of_task = [row for row in rows if row.run in measured]
    trained = [row for row in of_task if row.objective is not None]
    if len(trained) == len(of_task):
        yield (
            "The random-initialised encoder has not been measured, so there is nothing to compare "
            "with."
        )
    elif not trained:
        yield (
            "Only the random-initialised encoder has been measured, so there is nothing to compare "
            "with it."
        )
    else:
        yield from _beside_random(of_task, task)
    yield from _floors(measured)


def _beside_random(rows: Sequence[RunRow], task: str) -> Iterable[str]:
    """Every pretrained encoder against the first random one of its size."""
    random = [row for row in rows if row.objective is None]
    raw = {row.run: result.raw for row in rows if (result := row.results[task])}
    groups: dict[str, dict[str, Difference]] = {}
    for row in rows:
        if row.objective is None:
            continue
        like = next((one for one in random if _same_size(one, row)), None)
        if like is None:
            yield (
                f"{row.run} is not compared with random initialisation: no random encoder of its "
                "size was measured."
            )
            continue
        group = groups.setdefault(like.run, {})
        apart = measured_apart({run: raw[run] for run in (like.run, row.run)}, beside=like.run)
        if like.run in apart:
            yield (
                f"The result of {like.run} is of another {apart[like.run]}, so nothing is compared "
                f"with random initialisation until it is measured again."
            )
        elif row.run in apart:
            yield (
                f"{row.run} is not compared with random initialisation: it was measured with "
                f"another {apart[row.run]}."
            )
        else:
            before = like.samples[task]
            after = row.samples[task]
            assert before is not None
            assert after is not None
            group[row.run] = difference(before, after)
    every = {run: one for group in groups.values() for run, one in group.items()}
    shown = dict(zip(every, holm([one.p for one in every.values()]), strict=True))
    for row in random:
        result = row.results[task]
        if result is not None and groups.get(row.run):
            name = f" ({row.run})" if len(random) > 1 else ""
            yield from _compare(name, result, groups[row.run], shown)


def _same_size(one: RunRow, other: RunRow) -> bool:
    """As far as their cards say."""
    model, others = ((row.card or {}).get("model") for row in (one, other))
    if model is None or others is None:
        return True
    return all(model.get(key) == others.get(key) for key in ("width", "depth", "patch_px"))


def _compare(
    name: str, base: SavedResult, others: Mapping[str, Difference], shown: Mapping[str, bool]
) -> Iterable[str]:
    gains = {
        run: other.value * (1 if base.higher_is_better else -1) for run, other in others.items()
    }
    against = _listing(f"{run} {_gain(gain)}{_within(others[run])}" for run, gain in gains.items())
    yield f"Random initialisation{name} scores {number(base.value)}; against it, {against}."
    unknown = [run for run, other in others.items() if other.half is None]
    if unknown:
        yield (
            f"How far chance alone can move {_listing(unknown)} is not known, so no difference is "
            "claimed."
        )
        return
    noise = _noise(base, list(others.values()))
    of_several = f", by Holm's procedure over {len(shown)} differences" if len(shown) > 1 else ""
    clear = {run: gain for run, gain in gains.items() if shown[run]}
    if not clear:
        yield (
            f"No difference is larger than the noise of {noise} allows{of_several}: no effect of "
            "pretraining is shown, for or against."
        )
        return
    better = [run for run, gain in clear.items() if gain > 0]
    worse = [run for run, gain in clear.items() if gain < 0]
    parts = [
        f"{_listing(runs)} {word}" for runs, word in ((better, "better"), (worse, "worse")) if runs
    ]
    rest = [run for run in gains if run not in clear]
    remaining = f"; {_listing(rest)} not" if rest else ""
    yield (
        f"{_listing(parts)} than random by more than the noise of {noise} allows"
        f"{of_several}{remaining}."
    )
    single = [run for run in clear if not others[run].seeds]
    if single:
        yield (
            f"Of {_listing(single)} or of random initialisation one seed was measured: a sign, not "
            "a proof."
        )


def _within(other: Difference) -> str:
    """Half of the interval, by itself."""
    return "" if other.half is None else f" ± {number(other.half)}"


def _noise(base: SavedResult, others: Sequence[Difference]) -> str:
    items = f"{base.test_size} test items" if base.test_size else "this test set"
    return f"seeds and {items}" if all(other.seeds for other in others) else items


def _floors(measured: Mapping[str, SavedResult]) -> Iterable[str]:
    """Answers that need no encoder, and who fails to beat them."""
    words = {"chance": "a blind guess", "same_place": "always answering the same position"}
    groups: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for run, result in measured.items():
        if result.floors:  # they depend on the encoder's grid
            groups.setdefault(tuple(result.floors.items()), []).append(run)
    for floors, runs in groups.items():
        scores = _listing(f"{words[name]} scores {number(value)}" for name, value in floors)
        who = f", where {_listing(runs)} {'is' if len(runs) == 1 else 'are'} measured"
        yield f"For comparison{who if len(groups) > 1 else ''}: {scores}."
    below = [
        run
        for run, result in measured.items()
        if result.value <= result.floors.get("same_place", -math.inf)
    ]
    if below:
        yield f"{_listing(below)} {'does' if len(below) == 1 else 'do'} not beat the latter."


def _limits(trained: Sequence[RunRow], rows: Sequence[RunRow]) -> Iterable[str]:
    if not trained:
        return
    sizes = {
        task: result.test_size
        for row in rows
        for task, result in row.results.items()
        if result and result.test_size
    }
    if len(set(sizes.values())) == 1:
        yield (
            f"{'Each' if len(sizes) > 1 else 'The'} test set holds {next(iter(sizes.values())):,} "
            "items."
        )
    elif sizes:
        yield (
            "The test sets hold "
            f"{_listing(f'{size:,} items ({task})' for task, size in sizes.items())}."
        )
    measured = [
        result
        for row in rows
        for result in row.results.values()
        if result and result.error is not None
    ]
    if any(not result.states_error for result in measured):
        yield (
            "Where a task states no standard error of its own, the noise above is the largest that "
            "so many test items allow; "
            "comparing runs item by item would be sharper."
        )
    once = [row.run for row in trained if len(row.seeds) == 1]
    if once:
        yield (
            f"{_listing(once)} {'has' if len(once) == 1 else 'have'} one seed: what another would "
            "change is not part of the noise above."
        )
    if _seen(max(trained, key=_seen)) < PAPER_PAIRS / 100:
        yield (
            "A training this short can show that every stage works, that the loss falls and that "
            "each number can be traced; "
            "it cannot show whether pretraining helps, nor which dataset or objective is better."
        )


# ---------------------------------------------------------------------------- words


def number(value: float) -> str:
    """Three decimals, or three significant places where that says more: 0.507, 0.016, 12.3,
    0.00416."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 or value == 0 else f"{value:.3g}"


def _gain(gain: float) -> str:
    return f"{'+' if gain >= 0 else '−'}{number(abs(gain))}"


def _listing(words: Iterable[str]) -> str:
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def _count(count: int, noun: str) -> str:
    return f"One {noun} was" if count == 1 else f"{count} {noun}s were"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
