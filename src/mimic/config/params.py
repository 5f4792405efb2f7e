"""params.yaml, whole: every name that one section uses exists in the section it points to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import model_validator

from mimic.config.base import Section
from mimic.config.evaluation import Report, Table
from mimic.config.machines import Cluster, Habitat, Tracking
from mimic.config.mining import Dataset, Mine
from mimic.config.names import Name, TrackedName
from mimic.config.sources import Source
from mimic.config.synthesize import NothingToSynthesize, Synthesize
from mimic.config.tasks import PairTask, ReconstructionTask, Task
from mimic.config.training import Recipe, Run


class Params(Section):
    """params.yaml, whole."""

    sources: dict[TrackedName, Source]
    synthesize: Synthesize | NothingToSynthesize
    mine: Mine
    datasets: dict[Name, Dataset]
    pretrain: dict[TrackedName, Recipe]
    runs: dict[TrackedName, Run]
    imported: tuple[Name, ...]  # models/<name> that `mimic import-weights` has made; they may be rows of the table
    evaluate: dict[TrackedName, Task]
    table: Table
    report: Report
    cluster: Cluster
    habitat: Habitat
    tracking: Tracking

    @model_validator(mode="after")
    def _references(self) -> Params:
        """Every name that one section uses exists in the section it points to."""
        for name, dataset in self.datasets.items():
            _known(f"datasets.{name}.sources", dataset.sources, self.sources)
            _known(f"datasets.{name}.contains", filter(None, [dataset.contains]), self.datasets)
            _known(f"datasets.{name}.test.sources", dataset.test.sources, self.sources)
            _nested(name, dataset, self.datasets)
        for name, run in self.runs.items():
            _known(f"runs.{name}.recipe", [run.recipe], self.pretrain)
            _known(f"runs.{name}.dataset", [run.dataset], self.datasets)
            _room_to_cut(run.recipe, self.pretrain[run.recipe], self.mine.size_px)
        for name, task in self.evaluate.items():
            if isinstance(task, PairTask):
                _known(f"evaluate.{name}.dataset", [task.dataset], self.datasets)
            if isinstance(task, ReconstructionTask):
                _known(f"evaluate.{name}.features_of", [task.features_of], {**self.runs, **dict.fromkeys(self.imported)})
        both = set(self.runs) & set(self.imported)
        if both:
            raise ValueError(f"imported: {', '.join(sorted(both))} is also the name of a run")
        _told_apart([*self.runs, *self.imported], self.evaluate)
        _known("table.runs", self.table.runs, {**self.runs, **dict.fromkeys(self.imported)})
        _known("table.tasks", self.table.tasks, self.evaluate)
        if not any(name in self.runs and self.runs[name].steps == 0 for name in self.table.runs):
            raise ValueError("table.runs: no run of 0 steps; a random-initialised encoder is always evaluated beside the others")
        return self


def _room_to_cut(name: str, recipe: Recipe, stored_px: int) -> None:
    """A window is cut from views that are stored larger than the model's."""
    wanted_px = max(recipe.model.height_width_px)
    if recipe.augment.crop == "window" and stored_px <= wanted_px:
        raise ValueError(
            f"pretrain.{name}.augment.crop: window needs views stored larger than the model's {wanted_px} px,"
            f" but mine.size_px is {stored_px}; mine at a larger size (CroCo: 256 for 224), or use crop: none"
        )


def _nested(name: str, outer: Dataset, datasets: dict[str, Dataset]) -> None:
    """A dataset can hold all rows of the one it contains, and a clip is on the same side of the split in all of them."""
    for other, dataset in datasets.items():
        if dataset.validation != outer.validation:
            raise ValueError(
                f"datasets.{name}.validation differs from that of {other}: a clip held out in one would be trained on in the other"
            )
        if dataset.test != outer.test:
            raise ValueError(f"datasets.{name}.test differs from that of {other}: what one is tested on, the other would be trained on")
    if outer.contains in datasets and datasets[outer.contains].near_duplicate_bits != outer.near_duplicate_bits:
        raise ValueError(f"datasets.{name}.near_duplicate_bits differs from that of {outer.contains}, which it contains")
    seen, inner = [name], outer.contains
    while inner is not None:
        if inner in seen:
            raise ValueError(f"datasets.{name}.contains: {' > '.join([*seen, inner])} goes round in a circle")
        seen.append(inner)
        inner = datasets[inner].contains if inner in datasets else None
    for source, count in datasets[outer.contains].sources.items() if outer.contains else ():
        if source not in outer.sources:
            raise ValueError(f"datasets.{name}.sources lacks {source}, which {outer.contains} takes from")
        most = outer.sources[source]
        if most is not None and (count is None or count > most):
            raise ValueError(f"datasets.{name}.sources.{source} must not be less than in {outer.contains}, which it contains")


def _told_apart(runs: Iterable[str], tasks: Iterable[str]) -> None:
    """DVC calls an evaluation `evaluate@<run>-<task>`; of two that are called the same, it would run one."""
    seen: dict[str, tuple[str, str]] = {}
    for run in runs:
        for task in tasks:
            other = seen.setdefault(f"{run}-{task}", (run, task))
            if other != (run, task):
                raise ValueError(
                    f"evaluate.{task}: of run {run} it is called {run}-{task}, and so is {other[1]} of run {other[0]}; rename one of them"
                )


def _known(where: str, names: Any, known: dict[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: {name!r} does not exist; known: {', '.join(known)}")
