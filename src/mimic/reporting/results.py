"""The results table, read back from published files: one row a run, one column a task, None where
nothing was run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.errors import BadInput
from mimic.infra.storage import Workspace, read_json
from mimic.params import Params

# Key of the headline metric by the name of the value, in files from before they stated it.
EARLIER_HEADLINES = {"recall": "exact"}


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
    def states_error(self) -> bool:
        return self.raw.get("standard_error") is not None

    @property
    def error(self) -> float | None:
        """Standard error of `value` over the test items: the file's own, else the largest one
        possible, else None.

        A score between 0 and 1 with mean m has a variance of at most m (1 - m) (Bhatia and Davis,
        2000), hence the bound.
        """
        if self.states_error:
            return float(self.raw["standard_error"])
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
    seed: int
    card: dict[str, Any] | None
    results: dict[str, SavedResult | None]

    @property
    def checkpoint(self) -> str | None:
        """sha256 of the encoder that was measured."""
        return next(
            (result.checkpoint for result in self.results.values() if result and result.checkpoint),
            None,
        )

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
            "seed": self.seed,
            "checkpoint": self.checkpoint,
            "commit": self.commit,
            "values": {task: result and result.value for task, result in self.results.items()},
        }


def read_table(params: Params, workspace: Workspace) -> list[RunRow]:
    """Rows and columns that `table` of params asks for, whatever of it exists."""
    return [_row(params, workspace, run) for run in params.table.runs]


def _row(params: Params, workspace: Workspace, run: str) -> RunRow:
    if run in params.imported:
        return _imported(params, workspace, run)
    planned = params.runs[run]
    recipe = params.recipe(run)
    card = read_json(workspace.model(run) / "card.json")
    said = card or {}
    steps = int(said.get("steps", planned.steps))
    return RunRow(
        run=run,
        dataset=said.get("dataset", planned.dataset),
        digest=said.get("manifest_digest"),
        objective=said.get("objective", recipe.objective) if steps or run in params.adapt else None,
        steps=steps,
        batch=int(said.get("batch", recipe.batch)),
        seed=int(said.get("seed", planned.all_seeds[0])),
        card=card,
        results={task: read_result(workspace.metrics(run, task)) for task in params.table.tasks},
    )


def _imported(params: Params, workspace: Workspace, run: str) -> RunRow:
    """A row of somebody else's encoder: how long it was trained is not known."""
    card = read_json(workspace.model(run) / "card.json")
    said = card or {}
    return RunRow(
        run=run,
        dataset=said.get("dataset") or "unknown",
        digest=None,
        objective=said.get("objective") or "imported",
        steps=None,
        batch=0,
        seed=0,
        card=card,
        results={task: read_result(workspace.metrics(run, task)) for task in params.table.tasks},
    )


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


def best(results: list[SavedResult | None]) -> set[int]:
    """Positions of the best value of a column, ties included; empty where there is nothing to
    compare."""
    values = {
        index: result.value if result.higher_is_better else -result.value
        for index, result in enumerate(results)
        if result
    }
    return (
        {index for index, value in values.items() if value == max(values.values())}
        if len(values) > 1
        else set()
    )


def noise(one: SavedResult, other: SavedResult) -> float | None:
    """The difference between two results that chance alone may make: two standard errors of a
    difference, or None if unknown."""
    if one.error is None or other.error is None:
        return None
    return 2 * math.hypot(one.error, other.error)
