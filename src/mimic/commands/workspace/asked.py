"""What dvc.yaml asks of params.yaml: DVC reads that file alone, without the profile and the presets
that state what is missing there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

VALUE = re.compile(r"\$\{([\w.]+)\}")  # of params.yaml, or of the entry that a stage is made for
OWN = ("key", "item")
TABLES = ("adapt", "synthesize", "pretrain", "evaluate")  # may be empty
ABSENT = object()


def missing(params: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key that a stage needs and the file does not state, and what to do about it; none where
    no dvc.yaml lies beside the file."""
    pipeline = params.parent / "dvc.yaml"
    if not pipeline.is_file():
        return
    raw = yaml.safe_load(params.read_text(encoding="utf-8")) or {}
    document = yaml.safe_load(pipeline.read_text(encoding="utf-8")) or {}
    stated: dict[str, Any] = {}  # in dvc.yaml itself, of which params.yaml goes first
    for one in document.get("vars", ()):
        stated |= one if isinstance(one, dict) else {}
    stages = document.get("stages") or {}
    asked = {one: stage for stage, body in stages.items() for one in _asked(body, raw)}
    for path, stage in asked.items():
        if _at(stated | raw, path) is ABSENT:
            own = f"add `{path[0]}: {{}}`" if path in {(name,) for name in TABLES} else "state it"
            yield path, f"missing, and {stage} of dvc.yaml asks for it; {own}, or DVC stops there"


def _asked(stage: dict[str, Any], raw: Any) -> Iterator[tuple[str, ...]]:
    """Keys of params.yaml that a stage names."""
    text = yaml.safe_dump(stage)
    for name in VALUE.findall(text):
        if name.partition(".")[0] not in OWN:
            yield tuple(name.split("."))
    for one in (stage.get("do") or stage).get("params", ()):
        if isinstance(one, str) and not VALUE.search(one):
            yield tuple(one.split("."))
    entries = VALUE.fullmatch(str(stage.get("foreach")))
    table = _at(raw, entries[1].split(".")) if entries else None
    for name, entry in table.items() if isinstance(table, dict) else ():
        for key in VALUE.findall(text):
            if key.startswith("item.") and isinstance(entry, dict):
                yield (*str(entries and entries[1]).split("."), str(name), *key.split(".")[1:])


def _at(content: Any, path: Any) -> Any:
    for key in path:
        if not isinstance(content, dict) or key not in content:
            return ABSENT
        content = content[key]
    return content
