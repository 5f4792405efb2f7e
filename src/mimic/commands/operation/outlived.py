"""What a killed process or a finished experiment has left in a workspace, and nothing goes on from:
scratch files of single-file writes, and the unfinished work of experiments that have finished.

    .<name>.<pid>-<n>.part        see `storage.replacing`; removed by its writer, if that lives
    runs/experiments/<name>/      see `Workspace.work`
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mimic.infra.storage import Workspace

SCRATCH = re.compile(r"\..+\.(?P<process>\d+)-\d+\.part", re.DOTALL)
# Another machine's process cannot be looked at; none writes a file for so long without a byte.
SILENT_S = 86_400.0
PLACES = ("models", "metrics", "samples", "report", "runs")


def scratch_files(root: Path) -> list[Path]:
    """Files that no process will finish: their writer does not live here, and nothing has been
    written to them for a day of the file system's own clock."""
    now = _clock_of(root)
    orphans = [path for path in _scratch(root) if not _lives(path)]
    return [path for path in orphans if now - path.lstat().st_mtime > SILENT_S]


def experiments(root: Path) -> tuple[list[Path], list[Path]]:
    """Work of experiments below runs/experiments: of those that DVC has as finished, and of others,
    which go on if they are queued again under their names."""
    folder = Workspace(root).runs / "experiments"
    if not folder.is_dir():
        return [], []
    done = _finished(root)
    works = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    finished = [path for path in works if path.name in done]
    return finished, [path for path in works if path.name not in done]


def _scratch(root: Path) -> Iterator[Path]:
    """Of all places where a workspace writes, raw data excepted; what lies in a folder that is
    itself being made belongs to that."""
    at_top = (path for path in root.iterdir() if path.is_file())
    yield from (path for path in at_top if SCRATCH.fullmatch(path.name))
    data_folders = [path for path in root.glob("data/*") if path.name != "raw"]
    for top in [*data_folders, *(root / name for name in PLACES)]:
        for folder, below, names in os.walk(top):
            below[:] = [name for name in below if not SCRATCH.fullmatch(name)]
            yield from (Path(folder, name) for name in sorted(names) if SCRATCH.fullmatch(name))


def _lives(path: Path) -> bool:
    match = SCRATCH.fullmatch(path.name)
    assert match is not None
    return Path(f"/proc/{match['process']}").exists()


def _clock_of(root: Path) -> float:
    """Now, as the file system of the workspace dates files, whose clock may differ from this
    machine's."""
    with tempfile.NamedTemporaryFile(dir=root, prefix=".mimic-clock-") as file:
        file.write(b"\0")
        file.flush()
        return os.fstat(file.fileno()).st_mtime


def _finished(root: Path) -> set[str]:
    """Names of the experiments that DVC keeps as results; none where there is no repository."""
    command = ["git", "-C", str(root), "for-each-ref", "--format=%(refname)", "refs/exps/"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here: nothing is known to have finished
        return set()
    names = (line.split("/") for line in listed.stdout.splitlines())
    # refs/exps/<2 digits of the commit it began from>/<38 digits>/<name>
    return {parts[4] for parts in names if len(parts) == 5 and len(parts[2] + parts[3]) == 40}
