"""What one section of params.yaml says of another: every name exists, and what has to agree does.

Whatever is wrong is found, not only the first; each problem is a key and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.config.mining import Dataset
from mimic.config.names import seed_of
from mimic.config.presets import Key
from mimic.config.training import Recipe
from mimic.infra.storage import Workspace
from mimic.params import lineage, terms
from mimic.params.schema import Params
from mimic.tasks.reconstruction.config import ReconstructionTask
from mimic.tasks.sections import PairTask

Gone = Mapping[str, Collection[str]]  # of each section, entries that are there and are wrong


@dataclass(frozen=True)
class Problem:
    path: Key
    message: str


def problems(params: Params, gone: Gone) -> Iterator[Problem]:
    """Everything that is wrong between sections.

    Args:
        gone: names of entries that `params` lacks because something in them is wrong; they exist.
    """
    names = _Names(params, gone)
    for name, dataset in params.datasets.items():
        yield from _of_dataset(name, dataset, params.datasets, names)
    for name, run in params.runs.items():
        path = (params.section(name), name)
        yield from names.lacking((*path, "recipe"), [run.recipe], names.recipes)
        yield from names.lacking((*path, "dataset"), [run.dataset], names.datasets)
        if run.recipe in params.pretrain:
            yield from _room_to_cut(path, params.recipe(name), params.mine.size_px)
    yield from (Problem(*problem) for problem in lineage.problems(params, names.models))
    yield from _of_tasks(params, names)
    both = set(params.runs) & set(params.imported)
    if both:
        yield Problem(("imported",), f"{', '.join(sorted(both))} is also the name of a run")
    yield from _told_apart([*params.runs, *params.imported], params.evaluate)
    yield from _of_table(params, names)
    yield from (Problem(path, message) for path, message in terms.problems(params))


class _Names:
    """What may be named, entries that are wrong themselves included."""

    def __init__(self, params: Params, gone: Gone) -> None:
        self.sources = [*params.sources, *gone.get("sources", ())]
        self.datasets = [*params.datasets, *gone.get("datasets", ())]
        self.recipes = [*params.pretrain, *gone.get("pretrain", ())]
        self.runs = [*params.runs, *gone.get("runs", ()), *gone.get("adapt", ())]
        self.tasks = [*params.evaluate, *gone.get("evaluate", ())]
        self.models = [*self.runs, *params.imported]
        self.any_run_is_wrong = bool(gone.get("runs") or gone.get("adapt"))

    def lacking(self, path: Key, names: Iterable[str], known: Collection[str]) -> Iterator[Problem]:
        for name in names:
            if name not in known:
                listed = ", ".join(known) or "none"
                yield Problem(path, f"{name!r} does not exist; known: {listed}")


def _of_dataset(
    name: str, dataset: Dataset, datasets: dict[str, Dataset], names: _Names
) -> Iterator[Problem]:
    path = ("datasets", name)
    inner = [dataset.contains] if dataset.contains is not None else []
    yield from names.lacking((*path, "sources"), dataset.sources, names.sources)
    yield from names.lacking((*path, "contains"), inner, names.datasets)
    yield from names.lacking((*path, "test", "sources"), dataset.test.sources, names.sources)
    yield from _agreeing(name, dataset, datasets)
    yield from _nested(name, dataset, datasets)


def _agreeing(name: str, outer: Dataset, datasets: dict[str, Dataset]) -> Iterator[Problem]:
    """A clip is on the same side of the split in all datasets. Of two that differ, the later one is
    named."""
    for other, dataset in datasets.items():
        if other == name:
            break
        if dataset.validation != outer.validation:
            yield Problem(
                ("datasets", name, "validation"),
                f"differs from that of {other}: a clip held out in one would be trained on in the "
                "other",
            )
        if dataset.test != outer.test:
            yield Problem(
                ("datasets", name, "test"),
                f"differs from that of {other}: what one is tested on, the other would be trained "
                "on",
            )


def _nested(name: str, outer: Dataset, datasets: dict[str, Dataset]) -> Iterator[Problem]:
    """A dataset can hold all rows of the one it contains."""
    inside = datasets.get(outer.contains or "")
    if inside is None:
        return
    if inside.near_duplicate_bits != outer.near_duplicate_bits:
        yield Problem(
            ("datasets", name, "near_duplicate_bits"),
            f"differs from that of {outer.contains}, which it contains",
        )
    if (inside.places or 1) > (outer.places or 1):
        yield Problem(
            ("datasets", name, "places"),
            f"must not be less than in {outer.contains}, which it contains",
        )
    seen = [name]
    inner = outer.contains
    while inner is not None:
        if inner in seen:
            circle = " > ".join([*seen, inner])
            yield Problem(("datasets", name, "contains"), f"{circle} goes round in a circle")
            break
        seen.append(inner)
        inner = datasets[inner].contains if inner in datasets else None
    for source, count in inside.sources.items():
        if source not in outer.sources:
            yield Problem(
                ("datasets", name, "sources"),
                f"lacks {source}, which {outer.contains} takes from",
            )
            continue
        most = outer.sources[source]
        if most is not None and (count is None or count > most):
            yield Problem(
                ("datasets", name, "sources", source),
                f"must not be less than in {outer.contains}, which it contains",
            )


def _room_to_cut(path: Key, recipe: Recipe, stored_px: int) -> Iterator[Problem]:
    """A window is cut from views that are stored larger than the model's."""
    wanted_px = max(recipe.model.height_width_px)
    if recipe.augment.crop == "window" and stored_px <= wanted_px:
        yield Problem(
            (*path, "augment", "crop"),
            f"window needs views stored larger than the model's {wanted_px} px, but mine.size_px "
            f"is {stored_px}; mine at a larger size (CroCo: 256 for 224), or use crop: none",
        )


def _of_tasks(params: Params, names: _Names) -> Iterator[Problem]:
    for name, task in params.evaluate.items():
        path = ("evaluate", name)
        if isinstance(task, PairTask):
            yield from names.lacking((*path, "dataset"), [task.dataset], names.datasets)
            yield from _tracked_by_its_own(path, task)
        if isinstance(task, ReconstructionTask):
            model, _ = seed_of(task.features_of)
            yield from names.lacking((*path, "features_of"), [model], names.models)


def _tracked_by_its_own(path: Key, task: PairTask) -> Iterator[Problem]:
    """Pairs that are made anew are another test, and DVC sees it only in what the task is tracked
    by."""
    own = Workspace(Path()).manifest(task.dataset)
    if task.tracked_by.parent == own.parent and task.tracked_by != own:
        yield Problem(
            (*path, "tracked_by"),
            f"{task.tracked_by} is not what the task measures on: its dataset is {task.dataset}, "
            f"so {own}",
        )


def _told_apart(runs: Iterable[str], tasks: Iterable[str]) -> Iterator[Problem]:
    """DVC calls an evaluation `evaluate@<run>-<task>`; of two that are called the same, it would
    run one."""
    seen: dict[str, tuple[str, str]] = {}
    for run in runs:
        for task in tasks:
            other = seen.setdefault(f"{run}-{task}", (run, task))
            if other != (run, task):
                yield Problem(
                    ("evaluate", task),
                    f"of run {run} it is called {run}-{task}, and so is {other[1]} of run "
                    f"{other[0]}; rename one of them",
                )


def _of_table(params: Params, names: _Names) -> Iterator[Problem]:
    yield from names.lacking(("table", "runs"), params.table.runs, names.models)
    yield from names.lacking(("table", "tasks"), params.table.tasks, names.tasks)
    runs: Mapping[str, Any] = params.runs
    fresh = any(
        name in runs and name not in params.adapt and runs[name].steps == 0
        for name in params.table.runs
    )
    if not fresh and not names.any_run_is_wrong:
        yield Problem(
            ("table", "runs"),
            "no run of 0 steps; a random-initialised encoder is always evaluated beside the others",
        )
