"""The command `mimic` of the environment that the tests run in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MIMIC = Path(sys.executable).with_name("mimic")


def run_mimic(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run it in a folder, with these words; what it printed, and its exit status."""
    return subprocess.run(
        [MIMIC, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=600
    )
