"""All that is wrong with a resolved parameter file, at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from mimic.config.base import Section
from mimic.config.missing import ASKED, PROFILES
from mimic.config.presets import Key
from mimic.params import references
from mimic.params.messages import broken_entries, describe_errors, located
from mimic.params.reading import resolve_params
from mimic.params.resolution import Resolved
from mimic.params.schema import Params


def look_through(resolved: Resolved) -> tuple[Params | None, list[str]]:
    """The typed parameters and a line for each problem.

    What is wrong in one entry hides nothing that is wrong between the others. Where there are
    problems, the parameters lack the entries that they lie in, or are None.
    """
    lines = list(resolved.problems.values())
    if "adapted" in resolved.content:
        lines.append(f"{resolved.where(('adapted',))}: adapted: unknown key")
    raw = resolved.checked()
    broken: set[Key] = set(resolved.problems)
    params: Params | None = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        lines += describe_errors(error, resolved, _profiles)
        broken |= broken_entries(error, resolved)
    if broken:
        params = _without(raw, broken)
    if params is not None:
        problems = references.problems(params, _by_section(broken))
        new = (one for one in problems if not broken & {one.path[:1], one.path[:2]})
        lines += [located(resolved, one.path, one.message) for one in new]
    return params, lines


def _by_section(broken: set[Key]) -> dict[str, list[str]]:
    """Names of the entries that are wrong."""
    gone: dict[str, list[str]] = {}
    for section, *name in broken:
        gone.setdefault(str(section), []).extend(map(str, name))
    return gone


def _without(raw: dict[str, Any], broken: set[Key]) -> Params | None:
    """What is right, with the laptop profile's values for keys that every file has; None where that
    makes no whole, either."""
    right = {section: value for section, value in raw.items() if section in Params.model_fields}
    instead = Params.model_validate(resolve_params(PROFILES / "laptop.yaml").checked())
    for path in broken & {(section,) for section in Params.model_fields}:
        right.pop(str(path[0]), None)
    for section, name in [path for path in broken if len(path) > 1]:
        if isinstance(right.get(str(section)), dict):
            right[str(section)] = {
                key: one for key, one in right[str(section)].items() if key != name
            }
    for section in Params.model_fields:
        filled = getattr(instead, section)
        if isinstance(filled, Section):
            right[section] = {**filled.model_dump(), **right.get(section, {})}
        elif section not in right:
            right[section] = type(filled)()
    try:
        return Params.model_validate(right)
    except ValidationError:
        return None


def _profiles() -> Iterator[tuple[str, dict[str, Any]]]:
    """The profiles of this package, resolved, the laptop's first."""
    for name in ASKED:
        yield name, resolve_params(PROFILES / f"{name}.yaml").content
