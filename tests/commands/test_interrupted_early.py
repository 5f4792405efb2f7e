"""Ctrl-C before a command has begun: the second or two in which the program loads."""

from __future__ import annotations

import signal
import subprocess
import sys


def test_ctrl_c_while_the_program_loads_is_one_line() -> None:
    # It says what it has loaded, so that the signal comes at a moment that is known.
    command = [sys.executable, "-X", "importtime", "-m", "mimic", "--help"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as loading:
        assert loading.stderr is not None
        loaded = next(line for line in loading.stderr if line.split()[-1] == "mimic.errors")
        loading.send_signal(signal.SIGINT)
        said = [line for line in loading.stderr if not line.startswith("import time:")]
        printed = loading.communicate()[0]
    assert loaded
    assert (loading.returncode, said, printed) == (130, ["Aborted.\n"], "")
