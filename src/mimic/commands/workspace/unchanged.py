"""Whether what DVC will record of a stage is what the stage was given.

DVC reads parameters and dependencies when the command has ended, and records those. If somebody
edits them while it runs, dvc.lock says that the result was made with numbers it was not made with,
and nothing is stale. So each stage looks at them before it reads its parameters, and again at its
end: if they differ it fails, DVC records nothing, and the stage stays out of date. What it has made
lies where it belongs, and says what it was made with.

Parameters are compared by value, files by size and time of change, each with itself.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mimic.errors import BadInput
from mimic.infra.owner.parent import STAGE
from mimic.infra.storage import short

PARAMS = "params.yaml"
SHOWN = 3  # changes that the message names
REFERENCE = re.compile(r"\$\{\s*([^}\s]+)\s*\}")
ABSENT = "nothing"
NO_PART = re.compile(r".*\.part|__pycache__|.*\.pyc|\.DS_Store|\.ipynb_checkpoints")


@contextmanager
def unchanged(root: Path) -> Iterator[None]:
    """Around a stage that DVC runs: parameters and dependencies that dvc.yaml names for it have to
    be at its end what they were before. A stage that somebody else runs is not looked at.

    Raises:
        BadInput: they are not, so that DVC must not record them.
    """
    stage = os.environ.get(STAGE, "").rpartition(":")[2]
    before = state_of(root, stage) if stage else {}
    yield
    after = state_of(root, stage) if stage else {}
    changed = [
        f"{name}: {short(str(before.get(name, ABSENT)))} -> {short(str(after.get(name, ABSENT)))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, ABSENT) != after.get(name, ABSENT)
    ]
    if changed:
        more = f"; {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise BadInput(
            f"{stage}: changed while it ran ({'; '.join(changed[:SHOWN])}{more}): what it made is "
            "of before, as it says itself, and dvc records nothing; dvc repro makes it anew, and "
            f"to keep it put them back and run `dvc commit --force {stage}`"
        )


def state_of(root: Path, stage: str) -> dict[str, Any]:
    """What a stage depends on by dvc.yaml: values of parameters by their keys, and a line a file of
    its dependencies; nothing of a stage that dvc.yaml does not describe."""
    pipeline = _table(root / "dvc.yaml")
    names = _table(root / PARAMS)
    for given in pipeline.get("vars", ()):
        if isinstance(given, dict):
            names = {**given, **names}
    described = _described(pipeline.get("stages", {}), stage, names)
    if described is None:
        return {}
    stage_body, names = described
    state: dict[str, Any] = {}
    for one in stage_body.get("params", ()):
        files = one if isinstance(one, dict) else {PARAMS: [one]}
        for file, keys in files.items():
            values = _loaded(root / _filled(file, names))
            for key in keys or [""]:
                where = "" if file == PARAMS else f"{file} "
                full = _filled(key, names)
                state |= {f"{where}{at}": value for at, value in leaves(_at(values, full), full)}
    for dep in stage_body.get("deps", ()):
        state |= dict(_files(root, Path(_filled(dep, names))))
    return state


def _table(path: Path) -> dict[str, Any]:
    """A file of keys and values; empty where it is missing, or being edited."""
    content = _loaded(path)
    return dict(content) if isinstance(content, dict) else {}


def _described(
    stages: dict[str, Any], stage: str, names: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What dvc.yaml says of a stage, and what `${...}` means there."""
    group, _, key = stage.partition("@")
    stage_body = stages.get(group)
    if not isinstance(stage_body, dict):
        return None
    if "foreach" in stage_body:
        over = _value(stage_body["foreach"], names)
        items = over if isinstance(over, dict) else {str(one): one for one in over or ()}
        return (
            (stage_body["do"], {**names, "key": key, "item": items[key]}) if key in items else None
        )
    if "matrix" in stage_body:
        axes = {axis: _value(values, names) for axis, values in stage_body["matrix"].items()}
        for chosen in itertools.product(*axes.values()):
            if "-".join(map(str, chosen)) == key:
                return stage_body, {
                    **names,
                    "key": key,
                    "item": dict(zip(axes, chosen, strict=True)),
                }
        return None
    return stage_body, names


def _value(stated: Any, names: dict[str, Any]) -> Any:
    """A value, or what a `${...}` alone stands for."""
    match = REFERENCE.fullmatch(stated) if isinstance(stated, str) else None
    return _at(names, match[1]) if match else stated


def _filled(text: str, names: dict[str, Any]) -> str:
    return REFERENCE.sub(lambda match: str(_at(names, match[1])), str(text))


def _at(value: Any, key: str) -> Any:
    for part in filter(None, key.split(".")):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The values in a value, by their dotted keys."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, one in value.items():
        yield from leaves(one, f"{path}.{key}" if path else str(key))


def _loaded(path: Path) -> Any:
    """A YAML or JSON file, or the literals that a Python file assigns; None where it is missing."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if path.suffix == ".py":
            return dict(_assigned(ast.parse(text)))
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (SyntaxError, yaml.YAMLError):
        return text  # half written by an editor: it differs from what it was


def _assigned(module: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            yield name, ast.literal_eval(value)
        except ValueError:  # no literal, and DVC could not read it either
            continue


def _files(root: Path, dep: Path) -> Iterator[tuple[str, str]]:
    """A file, or all in a folder and in the folders that it links to: size and time of change."""
    top = root / dep
    if not top.is_dir():
        yield str(dep), _stamp(top)
        return
    for folder, below, names in os.walk(top, followlinks=True):
        below[:] = [name for name in below if not NO_PART.fullmatch(name)]
        for name in names:
            if not NO_PART.fullmatch(name):
                path = Path(folder, name)
                yield str(dep / path.relative_to(top)), _stamp(path)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ABSENT
    return f"{status.st_size} bytes of {status.st_mtime_ns}"
