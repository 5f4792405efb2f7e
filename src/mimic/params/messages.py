"""What is wrong with params.yaml, in one line that names the key, the file and the line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mimic.config.missing import advice
from mimic.config.presets import Key
from mimic.params.resolution import Resolved

FURTHER = 5  # missing keys that are named beside the first
Profiles = Callable[[], Iterable[tuple[str, dict[str, Any]]]]


def describe_error(error: ValidationError, resolved: Resolved, profiles: Profiles) -> str:
    """The first problem, with its dotted key; further missing keys are named, other problems
    counted.

    Args:
        profiles: names and resolved contents of the profiles that advice is taken from.
    """
    problems = error.errors()
    first, *rest = problems
    path = _path(first, resolved)
    message = _message(first, path, problems, resolved, profiles)
    more = f" ({_further(rest, resolved)})" if rest else ""
    where = ".".join(map(str, path))
    said_by = resolved.where(path)
    return f"{said_by}: {where}: {message}{more}" if where else f"{said_by}: {message}{more}"


def _message(
    problem: ErrorDetails,
    path: Key,
    problems: list[ErrorDetails],
    resolved: Resolved,
    profiles: Profiles,
) -> str:
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key{_nearest(path, problems, resolved)}"
        case "missing":
            return advice(path, resolved.whole, profiles())
        case "value_error":
            return str(problem["ctx"]["error"])
        case _:
            return f"{problem['msg']} (found {problem['input']!r})"


def _nearest(path: Key, problems: list[ErrorDetails], resolved: Resolved) -> str:
    """The key beside it that was probably meant."""
    section: Any = resolved.whole
    for key in path[:-1]:
        section = section[key]
    others = [_path(problem, resolved) for problem in problems]
    unknown = [
        other[-1]
        for other, problem in zip(others, problems, strict=True)
        if problem["type"] == "extra_forbidden" and other[:-1] == path[:-1]
    ]
    absent = [
        other[-1]
        for other, problem in zip(others, problems, strict=True)
        if problem["type"] == "missing" and other[:-1] == path[:-1]
    ]
    known = [str(key) for key in (*absent, *section) if key not in unknown]
    close = difflib.get_close_matches(str(path[-1]), known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _path(problem: ErrorDetails, resolved: Resolved) -> Key:
    """The keys that lead to a problem as params.yaml has them, without what pydantic adds."""
    path = list(problem["loc"])
    if path[-1:] == ["[key]"]:
        del path[-2:]  # the message says which
    elif path[:1] == ["synthesize"]:
        del path[1:2]  # so does a union without a tag, with the name of the class
    elif path[:1] in (["sources"], ["evaluate"]):
        del path[2:3]  # the union's tag
    elif path[:1] == ["adapted"]:
        path[0] = "runs"
    elif path[:1] == ["pretrain"] and len(path) > 1:
        path[:2] = _who_names(str(path[1]), resolved)
    return tuple(path)


def _who_names(recipe: str, resolved: Resolved) -> list[str]:
    """A recipe of the file itself, else the first run that names it."""
    if recipe in resolved.whole["pretrain"]:
        return ["pretrain", recipe]
    runs = resolved.whole["runs"]
    return ["runs", next(name for name, run in runs.items() if run.get("recipe") == recipe)]


def _further(rest: list[ErrorDetails], resolved: Resolved) -> str:
    missing = [
        ".".join(map(str, _path(problem, resolved)))
        for problem in rest
        if problem["type"] == "missing"
    ]
    names = ", ".join(missing[:FURTHER]) + (", ..." if len(missing) > FURTHER else "")
    return f"and {len(rest)} more" + (f"; missing, too: {names}" if missing else "")
