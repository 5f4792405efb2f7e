"""What may be a key of params.yaml: it becomes a path, a word of a command, a stage of DVC and a
filter of MLflow."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

LONGEST = 100  # characters: with what the layout adds, below the 255 bytes of a file's name
# Folders of a workspace and its stages: metrics/mine/<source> lies beside metrics/<run>.
LAYOUT = frozenset(
    {"synthesize", "ingest", "mine", "assemble", "prepare", "evaluate", "report"}
    | {"recipe", "data", "models", "runs", "metrics", "samples", "src"}
)


def wrong_with(name: Any) -> str | None:
    """Why this cannot be a name, in a few words; None where it can."""
    if not isinstance(name, str):
        return f"YAML reads it as {type(name).__name__}; put it in quotes"
    if not name:
        return "it is empty"
    if len(name) > LONGEST:
        return f"it has {len(name)} characters, and at most {LONGEST} fit into the names of files"
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        return (
            "only letters (a-z, A-Z), digits and . _ - may be in it, and neither . nor - begins it"
        )
    if name.lower() in LAYOUT:
        return "the layout of the workspace uses this word itself"
    return None


def seed_name(run: str, seed: int) -> str:
    """The encoder that one seed of a run makes, as people name it and as its folder lies."""
    return f"{run}/seed-{seed}"


def seed_of(name: str) -> tuple[str, int | None]:
    """The run of an encoder's name, and its seed: None where the name is that of the whole run."""
    match = re.fullmatch(r"([^/]+)/seed-(\d+)", name)
    return (match[1], int(match[2])) if match else (name, None)


def _checked(name: Any) -> str:
    why = wrong_with(name)
    if why is not None:
        shown = ascii(name)
        raise ValueError(
            f"{shown if len(shown) <= 60 else shown[:57] + '...'} cannot be a name: {why}"
        )
    return str(name)


def _checked_for_dvc(name: Any) -> str:
    checked = _checked(name)
    if "." in checked:
        raise ValueError(
            f"{checked!r} cannot be a name here: DVC tracks this entry by a path in which a dot "
            "leads one level down,"
            f" and would find no such parameter; call it {checked.replace('.', '-')!r}"
        )
    return checked


Name = Annotated[str, BeforeValidator(_checked)]
# Of entries that dvc.yaml tracks one by one, as `params: ["runs.${key}"]`: DVC can escape no dot
# there.
TrackedName = Annotated[str, BeforeValidator(_checked_for_dvc)]
