"""What is wrong with params.yaml: a line a problem, which names the file, the line and the key, and
says what to do."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mimic.config.missing import advice
from mimic.config.presets import Key
from mimic.config.synthesize import NothingToSynthesize
from mimic.params.resolution import RUNS, Resolved

FURTHER = 5  # missing keys of a section that are named beside the first
Profiles = Callable[[], Iterable[tuple[str, dict[str, Any]]]]


def describe_errors(error: ValidationError, resolved: Resolved, profiles: Profiles) -> list[str]:
    """A line for each problem, in the order of the file. Missing keys of one section share a line,
    and one that an unknown key was probably meant for is not named again.

    Args:
        profiles: names and resolved contents of the profiles that advice is taken from.
    """
    problems = [(_path(problem, resolved), problem) for problem in _errors(error)]
    known_before = tuple(resolved.problems)
    problems = [one for one in problems if not _is_below(one[0], known_before)]
    absent = _by_section(problems, "missing")
    unknown = _by_section(problems, "extra_forbidden")
    meant = dict(_meant(unknown, absent, resolved))
    lines: dict[str, None] = {}
    for path, problem in problems:
        if problem["type"] == "missing":
            left = [key for key in absent[path[:-1]] if (*path[:-1], key) not in meant.values()]
            if path[-1] != next(iter(left), None):
                continue
            message = advice(path, resolved.content, profiles()) + _further(left[1:])
        else:
            message = _message(problem, path, meant)
        lines[located(resolved, path, message)] = None
    return list(lines)


def located(resolved: Resolved, path: Key, message: str) -> str:
    """One problem: where, which key, what."""
    where = ".".join(map(str, path))
    return (
        f"{resolved.where(path)}: {where}: {message}"
        if where
        else (f"{resolved.where(path)}: {message}")
    )


def joined(name: str, lines: list[str]) -> str:
    """What an error says: the one problem, or how many there are and a line for each."""
    if len(lines) == 1:
        return lines[0]
    return "\n".join([f"{name}: {len(lines)} problems", *lines])


def broken_entries(error: ValidationError, resolved: Resolved) -> set[Key]:
    """Which entries (section and name) have something wrong in them; of a section that is no table
    of entries, which keys."""
    broken = set()
    for problem in _errors(error):
        loc = problem["loc"]
        path = tuple(loc[:2]) if loc[-1:] == ("[key]",) else _path(problem, resolved)[:2]
        broken.add(path)
        if loc[0] in ("adapted", "pretrain"):
            broken.add(tuple(loc[:2]))
    return broken


def _errors(error: ValidationError) -> Iterator[ErrorDetails]:
    """Without those of a union's empty member: a section that says anything is not meant to be
    it."""
    for problem in error.errors():
        if problem["loc"][:2] != ("synthesize", NothingToSynthesize.__name__):
            yield problem


def _message(problem: ErrorDetails, path: Key, meant: dict[Key, Key]) -> str:
    match problem["type"]:
        case "extra_forbidden":
            near = meant.get(path)
            return f"unknown key; did you mean {str(near[-1])!r}?" if near else "unknown key"
        case "value_error":
            return str(problem["ctx"]["error"])
        case _:
            return f"{problem['msg']} (found {problem['input']!r})"


def _is_below(path: Key, above: Iterable[Key]) -> bool:
    return any(path[: len(one)] == one for one in above)


def _by_section(problems: Iterable[tuple[Key, ErrorDetails]], kind: str) -> dict[Key, list[Any]]:
    by_section: dict[Key, list[Any]] = defaultdict(list)
    for path, problem in problems:
        if problem["type"] == kind and path and path[-1] not in by_section[path[:-1]]:
            by_section[path[:-1]].append(path[-1])
    return by_section


def _meant(
    unknown: dict[Key, list[Any]], absent: dict[Key, list[Any]], resolved: Resolved
) -> Iterator[tuple[Key, Key]]:
    """For unknown keys, the key beside it that was probably meant: first one that is missing."""
    for above, keys in unknown.items():
        section: Any = resolved.content
        for key in above:
            section = section[key]
        known = [str(key) for key in (*absent.get(above, ()), *section) if key not in keys]
        for key in keys:
            if close := difflib.get_close_matches(str(key), known, 1):
                yield (*above, key), (*above, close[0])


def _path(problem: ErrorDetails, resolved: Resolved) -> Key:
    """The keys that lead to a problem as params.yaml has them, without what pydantic adds."""
    path = list(problem["loc"])
    if path[-1:] == ["[key]"]:
        del path[-2:]  # the message says which
    elif path[:1] == ["synthesize"]:
        del path[1:2]  # so does a union without a tag, with the name of the class
    elif path[:1] == ["evaluate"]:
        del path[2:3]  # the union's tag
    elif path[:1] == ["adapted"]:
        path[0] = _section_of(path[1], resolved)
    elif path[:1] == ["pretrain"] and len(path) > 1:
        path[:2] = _who_names(path[1], resolved)
    return tuple(path)


def _section_of(run: str | int, resolved: Resolved) -> str:
    return "runs" if run in resolved.content.get("runs", {}) else "adapt"


def _who_names(recipe: str | int, resolved: Resolved) -> list[str | int]:
    """A recipe of the file itself, else the first run that names it."""
    own = resolved.content["pretrain"]
    for section in () if recipe in own else RUNS:
        for name, run in resolved.content.get(section, {}).items():
            if isinstance(run, dict) and run.get("recipe") == recipe:
                return [section, name]
    return ["pretrain", recipe]


def _further(rest: list[Any]) -> str:
    if not rest:
        return ""
    names = ", ".join(map(str, rest[:FURTHER])) + (", ..." if len(rest) > FURTHER else "")
    return f" ({len(rest)} more missing here: {names})"
