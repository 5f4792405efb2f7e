"""Runs compared by one setting (`mimic compare --by`): the difference on every task, how sure it
is, and what else differs.

Only results of one protocol, one set of test data and one version of the task's code are compared;
others are named. Runs that differ in nothing but their seed are one setting with several seeds.
Every pair is one in which as little as possible differs beside the setting that is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mimic.errors import BadInput
from mimic.infra.storage import Workspace, read_json
from mimic.params import Params
from mimic.reporting.compared.difference import Difference, SeedScores, difference, holm
from mimic.reporting.compared.settings import FACTORS, NEVER, Settings, differing, settings_of
from mimic.reporting.results import SavedResult, comparable, sample, seed_in

SHOWN = "shown"
NOT_SHOWN = "not shown"
ONLY_THESE = "shown of these encoders only"  # no seeds


@dataclass(frozen=True)
class Contender:
    """A setting, and the runs that were trained with it: one, or several that differ in their
    seed."""

    runs: tuple[str, ...]
    settings: Settings

    @property
    def name(self) -> str:
        return " + ".join(self.runs)


@dataclass(frozen=True)
class Contrast:
    """`b` - `a` on one task."""

    task: str
    metric: str
    higher_is_better: bool
    by: str
    a: Contender
    b: Contender
    sample_a: SeedScores
    sample_b: SeedScores
    difference: Difference
    also: dict[str, tuple[Any, Any]]  # what differs beside `by`: of a, and of b
    holds: bool  # whether it is shown, with all others of the list

    @property
    def verdict(self) -> str:
        if not self.holds:
            return NOT_SHOWN
        return SHOWN if self.difference.seeds else ONLY_THESE

    @property
    def better(self) -> str | None:
        """The better run, where that is shown."""
        if self.verdict != SHOWN:
            return None
        return (self.b if (self.difference.value > 0) == self.higher_is_better else self.a).name

    def label(self, one: Contender) -> str:
        """What a side is called: its value of the setting that is asked about."""
        return one.name if self.by == "run" else f"{one.settings[self.by]}"


@dataclass(frozen=True)
class Compared:
    """Every comparison by one setting, and the results that could not be compared."""

    comparisons: list[Contrast]
    apart: list[str]  # one line each


def compare(params: Params, workspace: Workspace, by: Sequence[str]) -> Compared:
    """The runs of the table compared by these settings, each pair of runs once.

    Raises:
        BadInput: no such setting.
    """
    for one in by:
        if one not in FACTORS:
            raise BadInput(f"--by {one}: expected one of {', '.join(FACTORS)}")
    apart: list[str] = []
    contrasts: list[Contrast] = []
    for task in params.table.tasks:
        results, others = comparable(params, workspace, task)
        for run, what in others.items():
            apart.append(f"not comparable: {task} of {run}, measured with another {what}")
        seen: set[tuple[str, str]] = set()
        for one in by:
            contenders = list(_contenders(params, workspace, results, pooled=one != "run"))
            for a, b, also in _pairs(contenders, one):
                if (a.name, b.name) not in seen:
                    seen.add((a.name, b.name))
                    contrasts.append(_compared(workspace, results, task, one, a, b, also))
    return Compared(_decided(contrasts), apart)


# ---------------------------------------------------------------------------- who is compared


def _contenders(
    params: Params, workspace: Workspace, results: Iterable[str], *, pooled: bool
) -> Iterator[Contender]:
    groups: dict[str, list[str]] = {}
    settings: dict[str, Settings] = {}
    for run in params.table.runs:
        folders = workspace.encoders(run)
        if run not in results or not folders:
            continue
        card = read_json(next(iter(folders.values())) / "card.json") or {}
        settings[run] = settings_of(run, card)
        same = {key: value for key, value in settings[run].items() if key not in NEVER}
        one_seed = run in folders and run not in params.imported
        alike = repr(sorted(same.items())) if pooled and one_seed else run
        groups.setdefault(alike, []).append(run)
    for runs in groups.values():
        seeds = {seed_in(workspace, run) for run in runs}
        for part in [runs] if len(seeds) == len(runs) else [[run] for run in runs]:
            yield Contender(tuple(part), settings[part[0]])


def _pairs(
    contenders: Sequence[Contender], by: str
) -> Iterator[tuple[Contender, Contender, dict[str, tuple[Any, Any]]]]:
    """Pairs that differ in the setting: each is, among those of the other's value, one of those
    that differ least in the rest."""
    stated = [one for one in contenders if one.settings.get(by) is not None]
    rest = {
        (i, j): differing(a.settings, b.settings, by)
        for i, a in enumerate(stated)
        for j, b in enumerate(stated)
        if a.settings[by] != b.settings[by]
    }

    def least(i: int, value: Any) -> int:
        return min(
            len(also) for (k, j), also in rest.items() if k == i and stated[j].settings[by] == value
        )

    for (i, j), also in rest.items():
        a = stated[i]
        b = stated[j]
        if j > i and len(also) == least(i, b.settings[by]) == least(j, a.settings[by]):
            yield a, b, also


# ---------------------------------------------------------------------------- what comes out


def _compared(
    workspace: Workspace,
    results: dict[str, SavedResult],
    task: str,
    by: str,
    a: Contender,
    b: Contender,
    also: dict[str, tuple[Any, Any]],
) -> Contrast:
    first = results[a.runs[0]]
    one = _pooled([sample(workspace, run, task, results[run]) for run in a.runs])
    other = _pooled([sample(workspace, run, task, results[run]) for run in b.runs])
    return Contrast(
        task=task,
        metric=first.name,
        higher_is_better=first.higher_is_better,
        by=by,
        a=a,
        b=b,
        sample_a=one,
        sample_b=other,
        difference=difference(one, other),
        also=also,
        holds=False,
    )


def _pooled(samples: Sequence[SeedScores]) -> SeedScores:
    """Runs of one setting as the seeds of one."""
    if len(samples) == 1:
        return samples[0]
    errors = [one.error for one in samples]
    known = [error for error in errors if error is not None]
    mean = sum(error**2 for error in known) / len(samples) if len(known) == len(errors) else None
    return SeedScores(
        {seed: value for one in samples for seed, value in one.values.items()},
        {seed: items for one in samples for seed, items in one.items.items()},
        None if mean is None else mean**0.5,
    )


def _decided(contrasts: Sequence[Contrast]) -> list[Contrast]:
    shown = holm([one.difference.p for one in contrasts])
    return [replace(one, holds=holds) for one, holds in zip(contrasts, shown, strict=True)]
