"""params.yaml, whole: reading it, and every name that one section uses exists in the section it
points to.

What is wrong is a line a problem, all of them at once, and each names its key.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TypeVar

from mimic.config.missing import PROFILES
from mimic.errors import BadInput
from mimic.params.checking import look_through
from mimic.params.messages import joined
from mimic.params.reading import resolve_params
from mimic.params.resolution import Resolved
from mimic.params.schema import Params

__all__ = [
    "Params",
    "check_params",
    "load_here_or_packaged",
    "load_params",
    "packaged",
    "pick",
    "resolve_params",
]

T = TypeVar("T")


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read, resolve and check params.yaml.

    Raises:
        BadInput: the file is missing, cannot be read, is not YAML, or a key or value is wrong; a
            line a problem that names the key, and the file and line that say it.
    """
    return check_params(resolve_params(path))


def check_params(resolved: Resolved) -> Params:
    """The typed parameters.

    Raises:
        BadInput: a key or value is wrong.
    """
    params, lines = look_through(resolved)
    if params is None or lines:
        raise BadInput(joined(resolved.document.name, lines))
    return params


def load_here_or_packaged(path: Path | None) -> Params:
    """The file named; without one, params.yaml of the current folder; without that, the laptop
    profile that comes with the package."""
    if path is not None:
        return load_params(path)
    local = Path("params.yaml")
    return load_params(local) if local.exists() else packaged()


def packaged() -> Params:
    """The laptop profile that comes with the package: what params.yaml holds in a fresh clone."""
    return load_params(PROFILES / "laptop.yaml")


def pick(table: dict[str, T], name: str, what: str) -> T:
    """`table[name]`, or one line that lists what there is."""
    if name not in table:
        close = difflib.get_close_matches(name, table, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(table)}"
        raise BadInput(f"params.yaml: no {what} named {name!r}; {hint}")
    return table[name]
