"""params.yaml, whole: reading it, and every name that one section uses exists in the section it
points to.

What is wrong is one line that names the key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError, model_validator

from mimic.config.base import Section
from mimic.config.evaluation import Report, Table
from mimic.config.machines import Cluster, HabitatRuntime, Tracking
from mimic.config.mining import Dataset, Mine
from mimic.config.missing import ASKED, PROFILES
from mimic.config.names import Name, TrackedName
from mimic.config.presets import read_document
from mimic.config.sources import Source
from mimic.config.synthesize import NothingToSynthesize, Synthesize
from mimic.config.training import Recipe, Run
from mimic.errors import BadInput
from mimic.params.messages import describe_error
from mimic.params.resolution import Resolved, resolve
from mimic.tasks import Task
from mimic.tasks.reconstruction.config import ReconstructionTask
from mimic.tasks.sections import PairTask

T = TypeVar("T")


class Params(Section):
    """params.yaml, whole."""

    sources: dict[TrackedName, Source]
    synthesize: Synthesize | NothingToSynthesize
    mine: Mine
    datasets: dict[Name, Dataset]
    pretrain: dict[Name, Recipe]
    runs: dict[TrackedName, Run]
    imported: tuple[
        Name, ...
    ]  # models/<name> that `mimic import-weights` has made; they may be rows of the table
    adapted: dict[TrackedName, Recipe]  # of runs that change the recipe they name
    evaluate: dict[TrackedName, Task]
    table: Table
    report: Report
    cluster: Cluster
    habitat: HabitatRuntime
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
            _room_to_cut(name, self.recipe(name), self.mine.size_px)
        for name, task in self.evaluate.items():
            if isinstance(task, PairTask):
                _known(f"evaluate.{name}.dataset", [task.dataset], self.datasets)
            if isinstance(task, ReconstructionTask):
                _known(
                    f"evaluate.{name}.features_of",
                    [task.features_of],
                    {**self.runs, **dict.fromkeys(self.imported)},
                )
        both = set(self.runs) & set(self.imported)
        if both:
            raise ValueError(f"imported: {', '.join(sorted(both))} is also the name of a run")
        _told_apart([*self.runs, *self.imported], self.evaluate)
        _known("table.runs", self.table.runs, {**self.runs, **dict.fromkeys(self.imported)})
        _known("table.tasks", self.table.tasks, self.evaluate)
        if not any(name in self.runs and self.runs[name].steps == 0 for name in self.table.runs):
            raise ValueError(
                "table.runs: no run of 0 steps; a random-initialised encoder is always evaluated "
                "beside the others"
            )
        return self

    def recipe(self, run: str) -> Recipe:
        """How a run is pretrained: the recipe it names, with what it changes."""
        return self.adapted.get(run) or self.pretrain[self.runs[run].recipe]


def _room_to_cut(name: str, recipe: Recipe, stored_px: int) -> None:
    """A window is cut from views that are stored larger than the model's."""
    wanted_px = max(recipe.model.height_width_px)
    if recipe.augment.crop == "window" and stored_px <= wanted_px:
        raise ValueError(
            f"runs.{name}.augment.crop: window needs views stored larger than the model's "
            f"{wanted_px} px,"
            f" but mine.size_px is {stored_px}; mine at a larger size (CroCo: 256 for 224), or use "
            "crop: none"
        )


def _nested(name: str, outer: Dataset, datasets: dict[str, Dataset]) -> None:
    """A dataset can hold all rows of the one it contains, and a clip is on the same side of the
    split in all of them."""
    for other, dataset in datasets.items():
        if dataset.validation != outer.validation:
            raise ValueError(
                f"datasets.{name}.validation differs from that of {other}: a clip held out in one "
                "would be trained on in the other"
            )
        if dataset.test != outer.test:
            raise ValueError(
                f"datasets.{name}.test differs from that of {other}: what one is tested on, the "
                "other would be trained on"
            )
    if (
        outer.contains in datasets
        and datasets[outer.contains].near_duplicate_bits != outer.near_duplicate_bits
    ):
        raise ValueError(
            f"datasets.{name}.near_duplicate_bits differs from that of {outer.contains}, which it "
            "contains"
        )
    seen = [name]
    inner = outer.contains
    while inner is not None:
        if inner in seen:
            raise ValueError(
                f"datasets.{name}.contains: {' > '.join([*seen, inner])} goes round in a circle"
            )
        seen.append(inner)
        inner = datasets[inner].contains if inner in datasets else None
    for source, count in datasets[outer.contains].sources.items() if outer.contains else ():
        if source not in outer.sources:
            raise ValueError(
                f"datasets.{name}.sources lacks {source}, which {outer.contains} takes from"
            )
        most = outer.sources[source]
        if most is not None and (count is None or count > most):
            raise ValueError(
                f"datasets.{name}.sources.{source} must not be less than in {outer.contains}, "
                "which it contains"
            )


def _told_apart(runs: Iterable[str], tasks: Iterable[str]) -> None:
    """DVC calls an evaluation `evaluate@<run>-<task>`; of two that are called the same, it would
    run one."""
    seen: dict[str, tuple[str, str]] = {}
    for run in runs:
        for task in tasks:
            other = seen.setdefault(f"{run}-{task}", (run, task))
            if other != (run, task):
                raise ValueError(
                    f"evaluate.{task}: of run {run} it is called {run}-{task}, and so is "
                    f"{other[1]} of run {other[0]}; rename one of them"
                )


def _known(where: str, names: Any, known: dict[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: {name!r} does not exist; known: {', '.join(known)}")


# ---------------------------------------------------------------------------- reading


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read, resolve and check params.yaml.

    Raises:
        BadInput: the file is missing, cannot be read, is not YAML, or a key or value is wrong; one
            line that names the key, and the file and line that say it.
    """
    return check_params(resolve_params(path))


def resolve_params(path: Path) -> Resolved:
    """params.yaml with every entry laid over the preset that it names; nothing is checked yet.

    Raises:
        BadInput: the file is missing, cannot be read or is not YAML, or a preset is unknown.
    """
    try:
        document = read_document(path.read_bytes(), str(path))  # UTF-8 or UTF-16, as it says
    except FileNotFoundError:
        raise BadInput(
            f"{path}: no such file; run mimic in the folder that holds params.yaml, or pass "
            "--params"
        ) from None
    except OSError as error:
        raise BadInput(
            f"{path}: {error.strerror}; name a parameter file that you can read"
        ) from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document.content, dict):
        raise BadInput(
            f"{path}: expected sections such as 'mine:' and 'pretrain:', found "
            f"{type(document.content).__name__}"
        )
    return resolve(document)


def check_params(resolved: Resolved) -> Params:
    """The typed whole.

    Raises:
        BadInput: a key or value is wrong.
    """
    if "adapted" in resolved.whole:
        raise BadInput(f"{resolved.where(('adapted',))}: adapted: unknown key")
    try:
        return Params.model_validate(resolved.checked())
    except ValidationError as error:
        raise BadInput(describe_error(error, resolved, _profiles)) from None


def load_here_or_packaged(path: Path | None) -> Params:
    """The file named; without one, params.yaml of the current folder; without that, the laptop
    profile that comes with the package."""
    if path is not None:
        return load_params(path)
    here = Path("params.yaml")
    return load_params(here) if here.exists() else packaged()


def packaged() -> Params:
    """The laptop profile that comes with the package: what params.yaml holds in a fresh clone."""
    return load_params(PROFILES / "laptop.yaml")


def _profiles() -> Iterator[tuple[str, dict[str, Any]]]:
    """The profiles of this package, resolved, the laptop's first."""
    for name in ASKED:
        yield name, resolve_params(PROFILES / f"{name}.yaml").whole


def pick(table: dict[str, T], name: str, what: str) -> T:
    """`table[name]`, or one line that lists what there is."""
    if name not in table:
        close = difflib.get_close_matches(name, table, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(table)}"
        raise BadInput(f"params.yaml: no {what} named {name!r}; {hint}")
    return table[name]
