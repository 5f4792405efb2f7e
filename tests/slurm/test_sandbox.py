"""The SLURM of docker/slurm: what other machines see of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.conftest import Sandbox

DAEMONS = {"slurmctld", "slurmdbd", "slurmd", "mariadbd", "munged"}
LISTENER = re.compile(r"LISTEN\s+\d+\s+\d+\s+(?P<address>\S+):\d+\s.*?\(\(\"(?P<name>[^\"]+)\"")


def _listening(ss: str) -> set[tuple[str, str]]:
    """(program, address) of every TCP listener of SLURM's programs on this machine."""
    text = subprocess.run([ss, "-ltnp"], check=True, capture_output=True, text=True).stdout
    found = {(match["name"], match["address"]) for match in LISTENER.finditer(text)}
    return {(name, address) for name, address in found if name in DAEMONS | {"srun", "slurmstepd"}}


@pytest.mark.slurm
def test_daemons_and_srun_listen_on_loopback_only(
    slurm: Sandbox, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    """Also when another sandbox lives beside it; ending one leaves the other's names."""
    ss = require_program("ss")
    other = Sandbox(tmp_path / "other")
    with subprocess.Popen(["srun", "--nodes=2", "--partition=cpu", "sleep", "600"]) as job:
        try:
            other.started()
            found = _listening(ss)
        finally:
            job.terminate()  # srun ends its job
            other.down()
    assert {name for name, _ in found} >= {"slurmctld", "slurmdbd", "slurmd", "mariadbd", "srun"}
    assert {address for _, address in found} == {"127.0.0.1"}
    assert f"# slurm sandbox {slurm.folder}\n" in Path("/etc/hosts").read_text()
    assert str(other.folder) not in Path("/etc/hosts").read_text()
