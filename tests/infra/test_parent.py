"""A command that DVC has started ends when its dvc does; one that a person has started does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.toy_project import is_running, wait_until

# Stands for dvc: starts the command as dvc does, in a shell or not, and waits for it.
STARTER = """
import os, subprocess, sys
program, pid, how = sys.argv[1:]
command = [sys.executable, "-c", program, pid]
if how == "shell":  # a shell that stays, as its command is not its last
    command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command]
subprocess.run(command, env={**os.environ, "DVC_STAGE": sys.argv[3] and "pretrain@x"})
"""
STAGE = """
import os, pathlib, sys, time
from mimic.infra.owner.parent import ending_with_dvc
with ending_with_dvc():
    path = pathlib.Path(sys.argv[1])
    path.with_suffix(".part").write_text(str(os.getpid()))
    path.with_suffix(".part").rename(path)
    time.sleep(600)  # longer than any patience of the test
"""


@pytest.mark.parametrize("how", ["direct", "shell", ""])
def test_a_stage_ends_with_its_dvc(tmp_path: Path, how: str) -> None:
    """Started by nobody in particular (""), it lives on, as under nohup."""
    pid_file = tmp_path / "pid"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, STAGE, str(pid_file), how], stderr=subprocess.DEVNULL
    )
    wait_until(pid_file.exists, 60, "the stage to start")
    pid = int(pid_file.read_text())
    starter.kill()
    starter.wait()
    try:
        if how:
            wait_until(lambda: not is_running(pid), 20, "the orphan to end")
        else:
            time.sleep(3)
            assert is_running(pid)
    finally:
        if is_running(pid):
            os.kill(pid, 9)
