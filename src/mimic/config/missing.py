"""What to write where a key is missing: the value that a profile of this package has for it, the
laptop's first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

PROFILES = Path(__file__).parent.parent / "profiles"
ASKED = ("laptop", "paper")
NAMED = ("sources", "datasets", "pretrain", "runs", "evaluate")  # sections whose keys are yours
KIND = {"sources": "reader", "evaluate": "task"}
# Keys that came after the first release, by kind: what the laptop profile says is what was done
# before there was the key.
NEWER = {
    **dict.fromkeys(("depth", "linear-depth", "few-shot-depth", "taskonomy"), ("last_norm",)),
    **dict.fromkeys(("flow", "stereo"), ("masks",)),
}
LONGEST = 200  # characters of a value in a message
ABSENT = object()


def advice(path: Sequence[str | int], raw: Any) -> str:
    """In a few words, on one line, what to add for the missing key at `path` of a parameter file
    read as `raw`."""
    *above, key = path
    where = f"under {'.'.join(map(str, above))}" if above else "at the top"
    for profile in ASKED:
        content = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text(encoding="utf-8"))
        for place in _likely(path, raw, content):
            value = _at(content, place)
            if value is not ABSENT:
                before = (
                    ", and what was done before there was this key" if _is_newer(path, raw) else ""
                )
                return (
                    f"missing; add {_shown(key, value)} {where} (what profiles/{profile}.yaml "
                    f"says{before})"
                )
    return f"missing; add it {where}: every key is written out, see profiles/paper.yaml"


def _is_newer(path: Sequence[str | int], raw: Any) -> bool:
    return (
        path[0] == "evaluate"
        and len(path) == 3
        and path[2] in NEWER.get(_at(raw, [*path[:2], "task"]), ())
    )


def _likely(path: Sequence[str | int], raw: Any, content: Any) -> Iterator[list[str | int]]:
    """Where a profile may hold the same key: in an entry of the same name and kind, then in others
    of that kind."""
    section, *rest = path
    if section not in NAMED or len(rest) < 2:
        yield list(path)
        return
    name, *inner = rest
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
