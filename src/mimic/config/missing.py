"""What to write where a key is missing that no preset states: the value that a profile of this
package has for it, the laptop's first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

PROFILES = Path(__file__).parent.parent / "profiles"
ASKED = ("laptop", "paper")
# sections whose keys are yours
NAMED = ("sources", "datasets", "pretrain", "runs", "adapt", "evaluate")
KIND = {"sources": "reader", "evaluate": "task"}
WORD = {"evaluate": "preset: standard", "synthesize": "preset: tiny"}
# what only you know, in no preset
YOURS = ("task", "preset", "data", "tracked_by", "dataset", "features_of", "splits", "target")
LONGEST = 200  # characters of a value in a message
ABSENT = object()


def advice(
    path: Sequence[str | int], raw: Any, profiles: Iterable[tuple[str, dict[str, Any]]]
) -> str:
    """In a few words, on one line, what to add for the missing key at `path` of a parameter file
    that holds `raw`.

    Args:
        profiles: names and resolved contents of the profiles of this package.
    """
    *above, key = path
    if path[0] == "adapt" and key == "init":
        return "missing; add `init: NAME`, of an import, a run or another entry of `adapt`"
    where = f"under {'.'.join(map(str, above))}" if above else "at the top"
    for profile, content in profiles:
        for likely in _likely(path, raw, content):
            value = _at(content, likely)
            if value is not ABSENT:
                return (
                    f"missing; add {_shown(key, value)} {where} (what profiles/{profile}.yaml "
                    f"says){_or_preset(path)}"
                )
    return (
        f"missing; add `{key}:` {where}: no profile or preset states it, the value is yours to "
        f"say{_or_preset(path)}"
    )


def _or_preset(path: Sequence[str | int]) -> str:
    """Where a preset would state the key, which word names one."""
    word = WORD.get(str(path[0]))
    if word is None or len(path) < 3 or path[-1] in YOURS:
        return ""
    return f", or name a preset there: `{word}`"


def _likely(path: Sequence[str | int], raw: Any, content: Any) -> Iterator[list[str | int]]:
    """Where a profile may hold the same key: in an entry of the same name and kind, then in others
    of that kind."""
    section, *rest = path
    if section not in NAMED or len(rest) < 2:
        yield list(path)
        return
    name, *inner = rest
    section = "runs" if section in ("pretrain", "adapt") else section  # they hold the recipes
    kind = KIND.get(str(section))
    mine = _at(raw, [section, name, kind]) if kind else None
    for other in sorted(content[section], key=lambda other: other != name):
        if kind is None or content[section][other][kind] == mine:
            yield [section, other, *inner]


def _at(content: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return content


def _shown(key: str | int, value: Any) -> str:
    text = yaml.safe_dump(
        {key: value}, default_flow_style=True, sort_keys=False, width=10_000
    ).strip()
    inside = text.removeprefix("{").removesuffix("}")
    return f"`{inside}`" if len(inside) <= LONGEST else f"`{key}:`"
