"""The results table, read back from published files: one row a run, one column a task, None where
nothing was run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mimic.errors import BadInput
from mimic.infra.conditions import OF_ANOTHER, measured_apart
from mimic.infra.storage import Workspace, read_json
from mimic.params import Params
from mimic.reporting.compared.difference import SeedScores
from mimic.tasks.item_files import ONLY, read_items

# Key of the headline metric by the name of the value, in files from before they stated it.
EARLIER_HEADLINES = {"recall": "exact"}
POOLED = ("AP",)  # over people, several an image: no mean over test items


@dataclass(frozen=True)
class SavedResult:
    """One metrics file, metrics/<run>/<task>.json; `raw` is all of it."""

    value: float
    name: str
    higher_is_better: bool
    test_size: int | None
    protocol: str
    checkpoint: str | None
    raw: dict[str, Any]

    @property
    def by_seed(self) -> dict[int, float] | None:
        """The value of each seed; None of a run with one."""
        seeds = self.raw.get("seeds")
        return seeds and {int(one["run_seed"]): float(one["value"]) for one in seeds}

    @property
    def deviation(self) -> float | None:
        """Over seeds, n - 1; None of a single one."""
        return self.raw.get("sd")

    @property
    def checkpoints(self) -> dict[str, str]:
        """sha256 of the encoders that were measured, by name."""
        if self.checkpoint:
            return {str(self.raw.get("run")): self.checkpoint}
        return {one["encoder"]: one["checkpoint"] for one in self.raw.get("seeds", [])}

    @property
    def states_error(self) -> bool:
        return self.raw.get("standard_error") is not None

    @property
    def error(self) -> float | None:
        """Standard error of `value` over the test items: the file's own, else the largest one
        possible, else None.

        A score between 0 and 1 with mean m has a variance of at most m (1 - m) (Bhatia and Davis,
        2000), hence the bound. It holds for means over independent items alone.
        """
        if self.states_error:
            return float(self.raw["standard_error"])
        if self.name in POOLED:
            return None
        if self.test_size and self.higher_is_better and 0 <= self.value <= 1:
            return math.sqrt(self.value * (1 - self.value) / self.test_size)
        return None

    @property
    def floors(self) -> dict[str, float]:
        """Scores that need no encoder (chance, same_place), where the task states them for its
        headline."""
        metrics = self.raw.get("metrics", {})
        headline = self.raw.get("headline", EARLIER_HEADLINES.get(self.name, self.name))
        floors = {name: metrics.get(name) for name in ("chance", "same_place")}
        return {
            name: values[headline]
            for name, values in floors.items()
            if isinstance(values, dict) and headline in values
        }


@dataclass(frozen=True)
class RunRow:
    """A run and its results; what the card does not say (not trained yet) comes from params."""

    run: str
    dataset: str
    digest: str | None  # sha256 of the manifest
    objective: str | None  # None: random initialisation, nothing was optimised
    steps: int | None  # None: imported, nobody knows
    batch: int
    seeds: tuple[int, ...]
    card: dict[str, Any] | None  # of the first of several encoders
    results: dict[str, SavedResult | None]
    samples: dict[str, SeedScores | None]  # the same by seed and test item

    @property
    def checkpoint(self) -> str | None:
        """sha256 of the encoder that was measured; None of several."""
        return next(iter(self.checkpoints.values())) if len(self.checkpoints) == 1 else None

    @property
    def checkpoints(self) -> dict[str, str]:
        """The same of all its encoders, by name; not of one that was replaced since."""
        known = (
            result.checkpoints
            for result in self.results.values()
            if result and not result.raw.get(OF_ANOTHER)
        )
        return next((one for one in known if one), {})

    @property
    def commit(self) -> str | None:
        """The git commit that trained it."""
        return (self.card or {}).get("git_commit")

    def summary(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "run": self.run,
            "dataset": self.dataset,
            "digest": self.digest,
            "objective": self.objective,
            "steps": self.steps,
            "seed": self.seeds[0] if len(self.seeds) == 1 else None,
            "seeds": list(self.seeds),
            "checkpoint": self.checkpoint,
            "checkpoints": self.checkpoints,
            "commit": self.commit,
            "values": {task: result and result.value for task, result in self.results.items()},
            "deviations": {
                task: result and result.deviation for task, result in self.results.items()
            },
            "by_seed": {task: result and result.by_seed for task, result in self.results.items()},
        }


def read_table(params: Params, workspace: Workspace) -> list[RunRow]:
    """Rows and columns that `table` of params asks for, whatever of it exists."""
    return [_row(params, workspace, run) for run in params.table.runs]


def _row(params: Params, workspace: Workspace, run: str) -> RunRow:
    if run in params.imported:
        return _imported(params, workspace, run)
    planned = params.runs[run]
    recipe = params.recipe(run)
    card = _card(workspace, run)
    stated = card or {}
    results = _results(params, workspace, run)
    steps = int(stated.get("steps", planned.steps))
    return RunRow(
        run=run,
        dataset=stated.get("dataset", planned.dataset),
        digest=stated.get("manifest_digest"),
        objective=stated.get("objective", recipe.objective)
        if steps or run in params.adapt
        else None,
        steps=steps,
        batch=int(stated.get("batch", recipe.batch)),
        seeds=planned.all_seeds if planned.seeds else (int(stated.get("seed", planned.only_seed)),),
        card=card,
        results=results,
        samples=_samples(workspace, run, results),
    )


def _card(workspace: Workspace, run: str) -> dict[str, Any] | None:
    """Of a run's only encoder, or the first."""
    folder = next(iter(workspace.encoders(run).values()), None)
    return None if folder is None else read_json(folder / "card.json")


def _results(params: Params, workspace: Workspace, run: str) -> dict[str, SavedResult | None]:
    return {task: result_of(workspace, run, task) for task in params.table.tasks}


def _samples(
    workspace: Workspace, run: str, results: dict[str, SavedResult | None]
) -> dict[str, SeedScores | None]:
    return {
        task: None if result is None else sample(workspace, run, task, result)
        for task, result in results.items()
    }


def _imported(params: Params, workspace: Workspace, run: str) -> RunRow:
    """A row of somebody else's encoder: how long it was trained is not known."""
    card = _card(workspace, run)
    stated = card or {}
    results = _results(params, workspace, run)
    return RunRow(
        run=run,
        dataset=stated.get("dataset") or "unknown",
        digest=None,
        objective=stated.get("objective") or "imported",
        steps=None,
        batch=0,
        seeds=(0,),
        card=card,
        results=results,
        samples=_samples(workspace, run, results),
    )


def result_of(workspace: Workspace, run: str, task: str) -> SavedResult | None:
    """The result of a run, or None where there is none; marked where its encoder was trained or
    imported anew since."""
    result = read_result(workspace.metrics(run, task))
    if result is None:
        return None
    cards = (read_json(folder / "card.json") or {} for folder in workspace.encoders(run).values())
    held = {card.get("weights", {}).get("encoder.safetensors") for card in cards} - {None}
    if held and set(result.checkpoints.values()) - held:
        return replace(result, raw=result.raw | {OF_ANOTHER: True})
    return result


def comparable(
    params: Params, workspace: Workspace, task: str
) -> tuple[dict[str, SavedResult], dict[str, str]]:
    """
    Returns:
        The results of a task that stand beside each other, by run of the table; and of each other
        run, with what else it was measured.
    """
    results = {
        run: result
        for run in params.table.runs
        if (result := result_of(workspace, run, task)) is not None
    }
    apart = measured_apart({run: result.raw for run, result in results.items()})
    return {run: result for run, result in results.items() if run not in apart}, apart


def read_result(path: Path) -> SavedResult | None:
    """A metrics file, or None where there is none."""
    raw = read_json(path)
    if raw is None:
        return None
    try:
        return SavedResult(
            value=float(raw["value"]),
            name=str(raw["name"]),
            higher_is_better=bool(raw["higher_is_better"]),
            test_size=raw.get("test_size"),
            protocol=str(raw.get("protocol", "")),
            checkpoint=raw.get("checkpoint"),
            raw=raw,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: not a metrics file ({error!r}); run mimic evaluate {path.parent.name} "
            f"{path.stem} again"
        ) from None


def sample(workspace: Workspace, run: str, task: str, result: SavedResult) -> SeedScores:
    """A run's result on a task, by seed and test item."""
    items = read_items(workspace.items(run, task))
    values = result.by_seed
    if values is None:
        seed = seed_in(workspace, run)
        own = {seed: items[ONLY]} if ONLY in items else {}
        return SeedScores({seed: result.value}, own, result.error)
    by_seed = {seed: items[f"seed-{seed}"] for seed in values if f"seed-{seed}" in items}
    return SeedScores(values, by_seed, result.error)


def seed_in(workspace: Workspace, run: str) -> int:
    """What the card of a run with one seed says."""
    card = read_json(workspace.model(run) / "card.json") or {}
    return int(card.get("seed") or 0)
