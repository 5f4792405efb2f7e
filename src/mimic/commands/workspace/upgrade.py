"""`mimic upgrade`: bring a workspace up to the installed package, and say what becomes stale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mimic.commands.workspace import files, stages, versions
from mimic.errors import BadInput
from mimic.infra.storage import made_folder, write_bytes
from mimic.params import resolve_params

DVC = (sys.executable, "-m", "dvc")
REASON_MAX = 300  # characters of what DVC says


def main(path: Path) -> None:
    """Rewrite versions.yaml and dvc.yaml, and print what changed and which stages run again.

    Raises:
        BadInput: the folder is no workspace that `mimic new` has made, or DVC cannot read it.
    """
    root = path.parent
    profile = resolve_params(path).profile
    before = _before(root)
    if profile is None:
        raise BadInput(f"{path}: names no `profile:`; `mimic new` writes one, such as laptop")
    made_folder((root / files.TASKS).parent)  # workspaces made before had none without a task
    now = versions.current(profile)
    changed = versions.differences(before, now)
    if not changed and (root / "dvc.yaml").is_file():
        print("nothing has changed; `dvc repro` runs what is stale")
        return
    stale = _stale(root)
    write_bytes(root / "dvc.yaml", stages.text().encode())
    write_bytes(root / versions.FILE, versions.text(now).encode())
    for line in changed:
        print(line)
    names = sorted(_stale(root) - stale)
    follow = ", and what follows from what they write" if names else ""
    print(f"stale now: {', '.join(names) or 'nothing more'}{follow}; next: dvc repro")


def _before(root: Path) -> dict[str, object]:
    try:
        before = versions.written(root)
    except BadInput:  # damaged: it is written anew
        return {}
    if before is None:
        raise BadInput(
            f"{root / versions.FILE}: no such file; `mimic new` makes a workspace, and this "
            "folder is none"
        )
    return before


def _stale(root: Path) -> set[str]:
    """Names of the stages that DVC would run again, before looking at consequences."""
    command = [*DVC, "status", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    try:
        status = json.loads(done.stdout)
    except ValueError:
        reason = " ".join(done.stderr.split())[:REASON_MAX]
        raise BadInput(f"{root / 'dvc.yaml'}: DVC cannot read the stages: {reason}") from None
    return {name for name in status if status[name] and not name.endswith(".dvc")}
