"""`mimic params`: every value that a parameter file comes to, and which line says it."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import yaml

from mimic.config.presets import Key, leaves
from mimic.errors import BadInput
from mimic.params import check_params, resolve_params
from mimic.params.resolution import Resolved

INDENT = "  "
COLUMN = 44  # where the origin of a value begins, if the value is short enough


def main(path: Path, section: str, *, as_json: bool) -> None:
    """Print the resolved file, or what lies below a dotted key of it.

    Printed as text, it is a parameter file that names every value; the origins are comments.

    Raises:
        BadInput: the file is not valid, or has no such key.
    """
    resolved = resolve_params(path)
    check_params(resolved)
    at = _key(resolved.content, section)
    value = _below(resolved.content, at)
    if as_json:
        print(json.dumps({"values": value, "from": _origins(resolved, at, value)}, indent=2))
        return
    for depth, key in enumerate(at[:-1]):
        print(f"{INDENT * depth}{key}:")
    if at:
        _show(resolved, at, value)
        return
    for name in value:
        _show(resolved, (name,), value[name])


def _key(resolved: dict[Any, Any], section: str) -> Key:
    """The keys that a dotted name consists of; a name of an entry may hold a dot itself."""
    keys: list[str | int] = []
    value: Any = resolved
    rest = section
    while rest:
        names = list(value) if isinstance(value, dict) else []
        fits = [name for name in names if rest == name or rest.startswith(f"{name}.")]
        if not fits:
            close = difflib.get_close_matches(rest.partition(".")[0], names, 1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
            )
            raise BadInput(f"{section}: no key {rest!r} {_inside(keys)}; {hint}")
        name = max(fits, key=len)
        keys.append(name)
        value = value[name]
        rest = rest[len(name) + 1 :]
    return tuple(keys)


def _inside(above: list[str | int]) -> str:
    return f"in {'.'.join(map(str, above))}" if above else "in the parameter file"


def _below(value: Any, at: Key) -> Any:
    for key in at:
        value = value[key]
    return value


def _origins(resolved: Resolved, at: Key, value: Any) -> dict[str, str]:
    """Which line says each value, by its dotted key."""
    paths = [at + leaf for leaf in leaves(value)]
    return {".".join(map(str, path)): resolved.where(path) for path in paths}


def _show(resolved: Resolved, at: Key, value: Any) -> None:
    indent = INDENT * (len(at) - 1)
    if isinstance(value, dict) and value:
        print(f"{indent}{at[-1]}:")
        for name, part in value.items():
            _show(resolved, (*at, name), part)
        return
    dumped = yaml.safe_dump(
        {at[-1]: value}, default_flow_style=True, width=100_000, sort_keys=False
    )
    line = f"{indent}{dumped.strip()[1:-1]}"
    print(f"{line:<{COLUMN}}  # {resolved.where(at)}")
