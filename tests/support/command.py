"""The command `mimic` of the environment that the tests run in."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from unittest import mock

from mimic import cli

MIMIC = Path(sys.executable).with_name("mimic")


def run_mimic(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run it in a folder, with these words; what it printed, and its exit status."""
    return subprocess.run(
        [MIMIC, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=600
    )


def call_mimic(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, for commands that end at once: a process of its own takes seconds
    to import what this one has imported."""
    command, printed, said = [str(MIMIC), *map(str, words)], io.StringIO(), io.StringIO()
    status: object = 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
        mock.patch.object(sys, "argv", command),
    ):
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code or 0
    assert isinstance(status, int)
    return subprocess.CompletedProcess(command, status, printed.getvalue(), said.getvalue())
