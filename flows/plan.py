"""prefect.yaml of the workspace: its deployments, and the work pool that its worker serves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mimic.errors import BadInput

FILE = "prefect.yaml"
POOL = "mimic"  # where prefect.yaml names none
BANNED = re.compile(r"[/%&><]|^\s*$")  # in a name, by Prefect, which answers with its schema


def read(path: Path = Path(FILE)) -> dict[str, Any]:
    """
    Raises:
        BadInput: prefect.yaml is missing, or is no mapping.
    """
    if not path.is_file():
        raise BadInput(f"deploy: no {FILE} here; `mimic serve` writes one")
    try:
        plan: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{FILE} cannot be read: {error}") from error
    if not isinstance(plan, dict) or not isinstance(plan.get("deployments"), list):
        raise BadInput(f"{FILE}: it has no list `deployments`; remove it: `mimic serve` writes one")
    mapping: dict[str, Any] = plan
    return mapping


def deployments(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """What is no mapping is left to Prefect to refuse."""
    return [one for one in plan["deployments"] if isinstance(one, dict)]


def switches(plan: dict[str, Any]) -> dict[str, dict[str | None, bool]]:
    """Of each deployment, whether a schedule is to be active, by its slug; those without one have
    None together."""
    return {
        str(one.get("name")): {
            None if schedule.get("slug") is None else str(schedule["slug"]): is_active(schedule)
            for schedule in _schedules(one)
        }
        for one in deployments(plan)
    }


def _schedules(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    given = deployment.get("schedules")
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def is_active(schedule: dict[str, Any]) -> bool:
    """As Prefect takes it."""
    active = schedule.get("active")
    return active is None or bool(active)


def pools(plan: dict[str, Any]) -> set[str]:
    """The work pools that its deployments name."""
    named = [one.get("work_pool") for one in deployments(plan)]
    return {str(one["name"]) for one in named if isinstance(one, dict) and "name" in one}


def pool() -> str:
    """Of all deployments of this workspace; without a prefect.yaml the usual one.

    Raises:
        BadInput: prefect.yaml cannot be read, or names several, or one that Prefect refuses.
    """
    if not Path(FILE).is_file():
        return POOL
    names = sorted(pools(read()))
    if len(names) > 1:
        raise BadInput(
            f"{FILE}: the deployments name the work pools {' and '.join(names)}; the worker of a "
            "workspace serves one: give them the same"
        )
    if names and (bad := BANNED.search(names[0])):
        raise BadInput(
            f"{FILE}: the work pool {names[0]!r} has {bad[0]!r} in its name; Prefect refuses it"
        )
    return names[0] if names else POOL
