"""Whose results these are, on a server that several workspaces share.

A workspace is called by its folder and six digits, such as `mimic-3fa2c1`. The digits come of the
user, the machine and the place of the folder: two clones of one project never have the same ones,
whoever made them, and the same person's clone at the same place has them again. They are kept in
runs/workspace.json, so that a workspace that was moved, or is mounted elsewhere, stays itself; of
two copies of a folder the one at the place written there is the old one.

MIMIC_WORKSPACE=NAME states it instead, for machines whose names and folders are made anew each
time: the same user with the same name is the same workspace.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from mimic.infra import experiment
from mimic.infra.storage import read_json, write_json

VARIABLE = "MIMIC_WORKSPACE"
KEPT = "runs/workspace.json"


@dataclass(frozen=True)
class Identity:
    """A workspace and who made it; `experiment`: of results that DVC makes beside the workspace."""

    workspace: str
    user: str
    experiment: str | None = None

    @property
    def prefix(self) -> str:
        """What all keys of this workspace begin with."""
        beside = f"/{self.experiment}" if self.experiment else ""
        return f"{self.workspace}/{self.user}{beside}"


def identity_of(root: Path) -> Identity:
    """The identity of a workspace; the first to ask writes it down."""
    home = home_of(root)
    beside = experiment.name(root)
    stated = os.environ.get(VARIABLE)
    if stated:
        user = user_name()
        return Identity(_called(stated, user), user, beside)
    kept = _kept(home) or _written(home)
    return Identity(kept["workspace"], kept["user"], beside)


def home_of(root: Path) -> Path:
    """The workspace that a folder belongs to: itself, or the one for which DVC runs a queued
    experiment there and removes the folder afterwards."""
    return experiment.home(root).resolve()


def _kept(home: Path) -> dict[str, str] | None:
    known = read_json(home / KEPT)
    if known is None or not {"workspace", "user", "place"} <= known.keys():
        return None
    folder = str(home)
    if known["place"] != folder:
        try:
            before = (
                read_json(Path(known["place"]) / KEPT) if os.path.isabs(known["place"]) else None
            )
        except OSError:  # it may be there, and another's: to be taken for a copy harms nobody
            return None
        if before is not None and before.get("workspace") == known["workspace"]:
            return None  # this is a copy, and the other one goes on
        known = known | {"place": folder}
        write_json(home / KEPT, known)
    return {key: str(value) for key, value in known.items()}


def _written(home: Path) -> dict[str, str]:
    user = user_name()
    name = _called(home.name, user, socket.gethostname(), str(home))
    identity = {"workspace": name, "user": user, "place": str(home)}
    write_json(home / KEPT, identity)
    return identity


def _called(name: str, *of: str) -> str:
    digits = hashlib.sha256("\n".join((name, *of)).encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name).strip('-')[:40] or 'workspace'}-{digits}"


def user_name() -> str:
    """Who runs this, as files and servers can have it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        name = f"user-{os.getuid()}"
    return re.sub(r"[^\w.-]", "_", name)


def owner_name(path: Path) -> str:
    """Whose file this is: who made a result."""
    try:
        return path.owner()
    except (KeyError, OSError):
        return user_name()
