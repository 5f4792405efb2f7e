"""dvc.yaml of a workspace, made of the repository's: the same stages, commands, inputs and outputs.

What differs: nothing is synthesized, versions and presets are read from versions.yaml, and what the
profile of params.yaml brings is a dependency, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mimic.params import profiles
from mimic.params.profiles import LIKE, OWN, WORD

PIPELINE = Path(__file__).with_name("pipeline.yaml")
VERSIONS = "versions.yaml"
PARAMS = "params.yaml"
LEFT_OUT = ("synthesize",)
# Stages that write down an entry whole, with what a profile says of it; those after depend on that
# file.
WRITERS = ("recipe", "prepare")
ENTRIES = ("sources", "datasets", "runs", "adapt", "evaluate")
HEAD = """\
# The stages of mimic. `mimic new` and `mimic upgrade` write this file: change params.yaml instead.
"""
SOURCE = re.compile(r"src/mimic/(?P<room>.+)/(?P<file>[^/]+)\.(?:py|yaml)")


def text() -> str:
    """The whole file."""
    document = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    stages = pipeline()
    used = {section for stage in stages.values() for section in _looped(stage)}
    absent: dict[str, Any] = {section: {} for section in ENTRIES if section in used}
    document = {
        "vars": [absent],
        **document,  # metrics and plots, too
        "stages": {name: _stage(one) for name, one in stages.items()},
    }
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=100)


def pipeline() -> dict[str, Any]:
    """The repository's stages that a workspace has, too."""
    stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
    return {name: stage for name, stage in stages.items() if _command(stage) not in LEFT_OUT}


def body(stage: dict[str, Any]) -> dict[str, Any]:
    """What a stage says of one of its entries."""
    stage_body: dict[str, Any] = stage.get("do", stage)
    return stage_body


def read_from_source(stages: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Room, name of the file without its ending, and keys, of all that stages read from the
    package's source; no key means the whole."""
    for stage in stages.values():
        for one in body(stage).get("params", ()):
            for file, keys in one.items() if isinstance(one, dict) else ():
                if match := SOURCE.fullmatch(file):
                    yield match["room"].replace("/", "."), match["file"], list(keys or ())


def _looped(stage: dict[str, Any]) -> list[str]:
    """Sections that a stage goes through."""
    return re.findall(r"\$\{(\w+)\}", str(stage.get("foreach", "")))


def _stage(stage: dict[str, Any]) -> dict[str, Any]:
    stage_body = body(stage)
    writes = _command(stage) in WRITERS
    kept: list[Any] = []
    versions: list[str] = []
    for one in stage_body.get("params", ()):
        if isinstance(one, str):
            kept.append(one)
            versions += _of_profile(one, writes)
            continue
        for file, keys in one.items():
            versions += _of_source(file, list(keys or ()))
    if writes:
        kept += [WORD, OWN]
    if versions:
        kept.append({VERSIONS: list(dict.fromkeys(versions))})
    changed = {**stage_body, "params": kept}
    return {**stage, "do": changed} if "do" in stage else changed


def _command(stage: dict[str, Any]) -> str:
    """The command of mimic that a stage runs."""
    return str(body(stage)["cmd"]).split()[1]


def _of_source(file: str, keys: list[str]) -> list[str]:
    match = SOURCE.fullmatch(file)
    if match is None:
        raise AssertionError(f"dvc.yaml: {file} is no file of the package")
    room = match["room"].replace("/", ".")
    if match["file"] == "__init__":
        return [f"{room}.{key}" for key in keys]
    if any("item.recipe" in key for key in keys):
        keys = []  # the profile may say which: all of them count, and the stage is quick
    return [f"{room}.{match['file']}.{key}" for key in keys] or [f"{room}.{match['file']}"]


def _of_profile(param: str, writes: bool) -> list[str]:
    """What of the profile goes with a parameter of the file.

    Args:
        writes: whether the stage writes the entry down; else it depends on what was written.
    """
    section, _, entry = param.partition(".")
    section = LIKE.get(section, section)
    if section not in profiles.SECTIONS or (entry.startswith("${") and not writes):
        return []
    return [f"{WORD}.{section}"]
