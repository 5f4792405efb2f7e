"""Trainings as params.yaml plans them: the numbers, pairs and versions that decide an encoder's
weights, and the folder of its work. Not imported with the package: it needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mimic import config
from mimic.config.names import seed_of
from mimic.infra.progress import say
from mimic.infra.storage import SEED, Workspace, file_digest, fingerprint
from mimic.models.objectives import OBJECTIVE_VERSIONS
from mimic.pairs.images import read_manifest
from mimic.params import starting, terms
from mimic.params.schema import Params
from mimic.training import LOOP_VERSION, START_VERSION
from mimic.training.fit import choose_device
from mimic.training.precision import choose_precision
from mimic.training.pretraining import EXECUTION_ONLY_KEYS, describe
from mimic.training.start import Start


@dataclass(frozen=True)
class TrainingPlan:
    """One encoder of params.yaml, with what decides its weights."""

    run: config.Run
    recipe: config.Recipe
    manifest: Path
    digest: str  # of the manifest
    pairs: int
    made_by: tuple[Any, ...]
    folder: Path  # of the work in progress
    begin: Start | None  # None: random weights

    def description(self, params: Params, root: Path, name: str) -> dict[str, Any]:
        """What a training process is told, wherever it runs."""
        shards = params.cluster.shards
        numbers = describe(root, self.recipe, self.run, self.manifest, name, shards, self.begin)
        return numbers | {"manifest_digest": self.digest}

    @property
    def parts(self) -> dict[str, int]:
        """Versions of our code that decides the weights."""
        return _parts(self.recipe, self.begin)


def plan_training(params: Params, root: Path, name: str) -> TrainingPlan:
    """The training of one encoder, and the folder where it goes on from what was begun.

    Args:
        name: of an encoder: a run with one seed, or a seed of one with several.

    Raises:
        BadInput: what it starts from or its manifest is missing or does not fit, or the terms of
            its data are not among those that the recipe allows.
    """
    of, _ = seed_of(name)
    run = params.runs[of].encoders(of)[name]
    recipe = params.recipe(of)
    if recipe.licences is not None:
        terms.refuse(
            f"{params.section(of)}.{of}",
            terms.of_run(params, Workspace(root), run),
            recipe.licences,
        )
    begin = starting.begin(params, root, name)
    manifest = Workspace(root).manifest(run.dataset)
    pairs = len(read_manifest(manifest, "train"))
    digest = file_digest(manifest)
    if params.cluster.executor == "local":  # a job finds out where it runs
        recipe = recipe.model_copy(
            update={"precision": choose_precision(recipe.precision, choose_device())}
        )
    made_by = (
        recipe.model_dump(mode="json", exclude=EXECUTION_ONLY_KEYS),
        run.model_dump(mode="json"),
        digest,
        version("mimic"),
        *_raised(_parts(recipe, begin)),
        *(begin.made_by if begin else []),
    )
    folder = Workspace(root).progress("pretrain", name, fingerprint(*made_by))
    _say_anew(name, folder)
    return TrainingPlan(run, recipe, manifest, digest, pairs, made_by, folder, begin)


def _parts(recipe: config.Recipe, begin: Start | None) -> dict[str, int]:
    """Versions of our code that decides the weights."""
    parts = {"objective": OBJECTIVE_VERSIONS[recipe.objective], "loop": LOOP_VERSION}
    return parts if begin is None else parts | {"start": START_VERSION}


def _raised(parts: dict[str, int]) -> list[dict[str, int]]:
    """Nothing while all are first versions: what was begun before there were any goes on."""
    return [] if set(parts.values()) == {1} else [parts]


def _say_anew(name: str, folder: Path) -> None:
    """A changed number, other pairs or another version of mimic make another training: it never
    goes on from what came before."""
    others = [
        other
        for other in folder.parent.iterdir()
        if other.is_dir()
        and other != folder
        and not other.name.startswith(SEED)  # the other seeds, or this run when it had some
        and any(other.iterdir())
    ]
    if others and not any(folder.iterdir()):
        say(
            f"pretrain {name}: starts from step 0; other numbers, pairs or another version made "
            f"what {folder.parent} keeps"
        )
