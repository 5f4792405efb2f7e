"""The versions that the rooms of the package state, which DVC reads: found, and raised for a
while."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _numbers(node: ast.expr, name: str) -> dict[str, ast.Constant]:
    """The numbers of an assignment, by dotted name."""
    if isinstance(node, ast.Dict):
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            found |= _numbers(value, f"{name}.{ast.literal_eval(key)}")
        return found
    assert isinstance(node, ast.Constant), f"{name}: DVC reads plain numbers and tables of them"
    return {name: node}


def versions(package: Path) -> dict[str, tuple[Path, ast.Constant]]:
    """Every version that a room of the package states: its file, and the number in it."""
    found = {}
    for file in sorted(package.rglob("__init__.py")):
        room = ".".join(file.parent.relative_to(package).parts)
        body = ast.parse(file.read_text()).body
        for node in [node for node in body if isinstance(node, ast.Assign)]:
            name = ast.unparse(node.targets[0])
            if name.endswith(("_VERSION", "_VERSIONS")):
                for full, number in _numbers(node.value, name).items():
                    found[f"{room}: {full}"] = (file, number)
    return found


@contextmanager
def raised(root: Path, *names: str) -> Iterator[None]:
    """Versions one higher than they are."""
    before: dict[Path, str] = {}
    for name in names:
        file, number = versions(root / "src/mimic")[name]
        before.setdefault(file, file.read_text())
        lines = file.read_text().splitlines(keepends=True)
        line = lines[number.lineno - 1]
        assert isinstance(number.value, int)
        new = str(number.value + 1)
        lines[number.lineno - 1] = line[: number.col_offset] + new + line[number.end_col_offset :]
        file.write_text("".join(lines))
    try:
        yield
    finally:
        for file, text in before.items():
            file.write_text(text)
