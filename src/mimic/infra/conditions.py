"""Under which conditions results were measured: only those of one protocol, with one set of
settings, on the same test data and by one version of the task's code are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

# Key of a result that is read back: its encoder is not the one that the workspace holds.
OF_ANOTHER = "of another checkpoint"
FREE = ("samples", "tracked_by", "save_every", "data")  # fields of a task that decide no comparison


def conditions(result: Mapping[str, Any]) -> dict[str, Any]:
    """What two results (files of metrics/) must have in common."""
    section = {key: value for key, value in result.get("section", {}).items() if key not in FREE}
    return {
        "protocol": result.get("protocol", ""),
        "settings": sorted(section.items(), key=lambda pair: pair[0]),
        "test data": result.get("data_digest"),
        "code": (result.get("parts"), result.get("versions", {}).get("mimic")),
        "checkpoint than models/ holds": bool(result.get(OF_ANOTHER)),
    }


def measured_apart(
    results: Mapping[str, Mapping[str, Any]], beside: str | None = None
) -> dict[str, str]:
    """Runs that cannot be compared with the others, and what is another: "test data".

    Args:
        results: of one task, by run.
        beside: the run that others are compared with; null = those that most were measured like.
    """
    if not results:
        return {}
    measured = {run: conditions(result) for run, result in results.items()}
    if beside is None:
        (usual, _), *_ = Counter(map(repr, measured.values())).most_common()
        beside = next(run for run, one in measured.items() if repr(one) == usual)
    reference = measured[beside] | {"checkpoint than models/ holds": False}
    differing = {
        run: [what for what in one if repr(one[what]) != repr(reference[what])]
        for run, one in measured.items()
    }
    return {run: ", ".join(what) for run, what in differing.items() if what}
