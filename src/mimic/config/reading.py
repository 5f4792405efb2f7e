"""Reading params.yaml; what is wrong is one line that names the key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mimic.config.missing import PROFILES, advice
from mimic.config.params import Params
from mimic.errors import BadInput

T = TypeVar("T")

FURTHER = 5  # missing keys that are named beside the first


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        BadInput: the file is missing, cannot be read, is not YAML, or a key or value is wrong; one line that names the key.
    """
    try:
        raw = yaml.safe_load(path.read_bytes())  # UTF-8 or UTF-16, as it says of itself
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run mimic in the folder that holds params.yaml, or pass --params") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a parameter file that you can read") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: expected sections such as 'mine:' and 'pretrain:', found {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise BadInput(f"{path}: {_one_line(error, raw)}") from None


def load_here_or_packaged(path: Path | None) -> Params:
    """The file named; without one, params.yaml of the current folder; without that, the laptop profile that comes with the package."""
    if path is not None:
        return load(path)
    here = Path("params.yaml")
    return load(here) if here.exists() else packaged()


def packaged() -> Params:
    """The laptop profile that comes with the package: what params.yaml holds in a fresh clone."""
    return load(PROFILES / "laptop.yaml")


def pick(table: dict[str, T], name: str, what: str) -> T:
    """`table[name]`, or one line that lists what there is."""
    if name not in table:
        close = difflib.get_close_matches(name, table, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(table)}"
        raise BadInput(f"params.yaml: no {what} named {name!r}; {hint}")
    return table[name]


def _one_line(error: ValidationError, raw: dict[str, Any]) -> str:
    """The first problem, with its dotted key; further missing keys are named, other problems counted."""
    first, *rest = error.errors()
    path = _path(first)
    where = ".".join(map(str, path))
    match first["type"]:
        case "extra_forbidden":
            message = "unknown key"
        case "missing":
            message = advice(path, raw)
        case "value_error":
            message = str(first["ctx"]["error"])
        case _:
            message = f"{first['msg']} (found {first['input']!r})"
    more = f" ({_further(rest)})" if rest else ""
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def _path(problem: ErrorDetails) -> list[str | int]:
    """The keys that lead to a problem, without what pydantic adds."""
    path = list(problem["loc"])
    if path[-1:] == ["[key]"]:
        del path[-2:]  # the message says which
    elif path[:1] == ["synthesize"]:
        del path[1:2]  # so does a union without a tag, with the name of the class
    elif path[:1] in (["sources"], ["evaluate"]):
        del path[2:3]  # the union's tag
    return path


def _further(rest: list[ErrorDetails]) -> str:
    missing = [".".join(map(str, _path(problem))) for problem in rest if problem["type"] == "missing"]
    names = ", ".join(missing[:FURTHER]) + (", ..." if len(missing) > FURTHER else "")
    return f"and {len(rest)} more" + (f"; missing, too: {names}" if missing else "")
