"""DVC's graph, and what of it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

# The stages that each list of names narrows, by what their entries are called after.
NARROWS = {
    "sources": ("synthesize", "ingest", "mine"),
    "datasets": ("assemble",),
    "runs": ("recipe", "pretrain", "adapt-recipe", "adapt", "evaluate"),
    "tasks": ("prepare", "evaluate"),
}
Names = Mapping[str, Sequence[str]]  # by the keys of NARROWS


def graph() -> dict[str, list[str]]:
    """Every stage of dvc.yaml with the stages it needs, those before it."""
    with Repo() as repository:
        dvc_graph = repository.index.graph
        needs = {
            stage.addressing: [
                other.addressing for other in dvc_graph.successors(stage) if other.cmd
            ]
            for stage in dvc_graph
            if stage.cmd
        }
    return {
        stage: sorted(needs[stage])
        for stage in TopologicalSorter(dict(sorted(needs.items()))).static_order()
    }


def choices(folder: Path = Path()) -> dict[str, list[str]]:
    """What a form can offer: stages of dvc.yaml, and the names that params.yaml gives to sources,
    datasets, runs and tasks. Empty where a file is not there.

    Raises:
        yaml.YAMLError: a file is no YAML.
    """
    params = _read(folder / "params.yaml")
    table = params.get("table") or {}
    named = {
        "sources": [*_keys(params, "synthesize"), *_keys(params, "sources")],
        "datasets": _keys(params, "datasets"),
        "runs": [*_keys(params, "runs"), *_keys(params, "adapt"), *(table.get("runs") or [])],
        "tasks": [*_keys(params, "evaluate"), *(table.get("tasks") or [])],
    }
    stages = _keys(_read(folder / "dvc.yaml"), "stages")
    return {
        "targets": stages,
        **{what: list(dict.fromkeys(names)) for what, names in named.items()},
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _keys(section: Mapping[str, Any], name: str) -> list[str]:
    return [str(key) for key in section.get(name) or {}]


def stage_of(name: str) -> str:
    """The stage of dvc.yaml that an entry belongs to: `mine` of mine@phone."""
    return name.partition("@")[0]


def select(
    needs: dict[str, list[str]], targets: Sequence[str], names: Names
) -> tuple[set[str], dict[str, list[str]]]:
    """The stages asked for, and these together with everything they need, in order.

    Without targets, names ask for the stages that they narrow: a source for those that read it.

    Raises:
        ValueError: nothing has such a name.
    """
    chosen = {what: list(some) for what, some in names.items() if some}
    named = {stage for what in chosen for stage in NARROWS[what]}
    tasks = [stage.partition("@")[2] for stage in needs if stage_of(stage) == "prepare"]
    kinds = set(targets) or named or set(map(stage_of, needs))
    wanted = {
        stage
        for stage in needs
        if stage_of(stage) in kinds
        and all(
            _is_named(stage, what, some, tasks)
            for what, some in chosen.items()
            if stage_of(stage) in NARROWS[what]
        )
    }
    _refuse_unknown(chosen, wanted, needs, tasks)
    needed = set(wanted)
    for stage in reversed(needs):
        if stage in needed:
            needed.update(needs[stage])
    return wanted, {stage: others for stage, others in needs.items() if stage in needed}


def _is_named(stage: str, what: str, names: Sequence[str], tasks: Sequence[str]) -> bool:
    """Whether an entry is called after one of the names; evaluate@<run>-<task> after two."""
    entry = stage.partition("@")[2]
    if stage_of(stage) != "evaluate" or not tasks:
        return entry in names
    if what == "tasks":  # of tasks that fit, the longest: r-relative-pose is not of `pose`
        fitting = [task for task in tasks if entry.endswith(f"-{task}")]
        return max(fitting, key=len, default="") in names
    return any(entry == f"{name}-{task}" for name in names for task in tasks)


def _refuse_unknown(
    chosen: Names, wanted: set[str], needs: Mapping[str, Any], tasks: Sequence[str]
) -> None:
    for what, names in chosen.items():
        for name in names:
            if not any(
                stage_of(stage) in NARROWS[what] and _is_named(stage, what, [name], tasks)
                for stage in wanted
            ):
                kinds = {stage for stage in needs if stage_of(stage) in NARROWS[what]}
                known = sorted({stage.partition("@")[2] for stage in kinds} - {""})
                raise ValueError(f"no such name: {name}; known: {', '.join(known)}")
