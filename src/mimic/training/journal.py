"""log.jsonl of a run: one JSON object a line, in the order of `step`, whole again after a kill."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mimic.infra.storage import write_bytes


class JsonlLogger:
    """Appends lines. A resumed run repeats steps that were already logged: its first line drops
    those, and any torn line of the kill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened = False

    def append(self, line: dict[str, Any]) -> None:
        """Add one line; it must hold `step`, and steps must grow."""
        if not self._opened:
            _rewrite(self.path, [old for old in read(self.path) if old["step"] < line["step"]])
            self._opened = True
        with self.path.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; none when there is no file."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:  # torn by a kill
            continue
    return lines


def copy(path: Path, to: Path, steps: int, without: Collection[str]) -> None:
    """Write the whole lines up to `steps`, less some of their keys; an empty file when there are
    none."""
    kept = [line for line in read(path) if line["step"] <= steps]
    _rewrite(
        to, [{key: value for key, value in line.items() if key not in without} for line in kept]
    )


def _rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
