"""habitat-sim in a process of its own, under its own Python (habitat_worker.py runs there): a call
is a line of JSON, an answer a line of JSON and the bytes of its arrays."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mimic.errors import BadInput
from mimic.scenes.base import EngineFailed

WORKER = Path(__file__).with_name("habitat_worker.py")
QUIET = {
    "MAGNUM_LOG": "quiet",
    "HABITAT_SIM_LOG": "error",
}  # what it says last is then what went wrong
SHOWN = 80  # bytes of an answer that is none


class HabitatFailed(EngineFailed):
    """The worker answered with an error, did not answer, or died; the message says which and what
    habitat-sim printed last."""


class HabitatDied(HabitatFailed):
    """It did not answer, or died."""


class HabitatSlow(HabitatDied):
    """It did not answer in time, and was ended."""


def _answer(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not fields.keys() & {"arrays", "error"}:
        raise HabitatDied(
            f"habitat.command: answered {line[:SHOWN].decode(errors='replace')!r}, not as mimic's "
            "worker does; nothing else may print on its standard output, see docs/scenes.md"
        )
    return fields


class Worker:
    """A worker process and the pipe to it.

    Args:
        command: how to start habitat's Python, such as ["conda", "run", "--no-capture-output",
            "-n", "habitat", "python"].
        timeout_s: the longest a call may take (loading a large scene, or computing its navigation
            mesh).
    """

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the worker
        try:
            self._process = subprocess.Popen(
                [*command, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
                env={**QUIET, **os.environ},
            )
        except OSError as error:
            raise BadInput(
                f"habitat.command: cannot start {' '.join(command)!r}: {error.strerror}; see "
                "docs/scenes.md"
            ) from None
        self._buffer = b""

    def call(self, name: str, **arguments: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Ask for one thing; the answer's fields and arrays.

        Raises:
            HabitatFailed: see the class.
        """
        request = json.dumps({"call": name, **arguments}).encode() + b"\n"
        stdin: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        try:
            stdin.write(request)
            stdin.flush()
        except BrokenPipeError:
            raise HabitatDied(self._epitaph(name)) from None
        deadline = time.monotonic() + self._timeout_s
        fields = _answer(self._read_line(name, deadline))
        if "error" in fields:
            raise HabitatFailed(f"habitat-sim: {name}: {fields['error']}")
        arrays = {}
        for array, dtype, shape in fields.pop("arrays"):
            data = self._read(name, int(np.prod(shape)) * np.dtype(dtype).itemsize, deadline)
            arrays[array] = np.frombuffer(data, dtype).reshape(shape)
        return fields, arrays

    def close(self) -> None:
        """End the worker and everything it started (conda run is a parent of its own)."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(
                    BrokenPipeError
                ):  # what a dead worker was last asked is still in the buffer
                    pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _read_line(self, name: str, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            self._fill(name, deadline)
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _read(self, name: str, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            self._fill(name, deadline)
        data = self._buffer[:size]
        self._buffer = self._buffer[size:]
        return data

    def _fill(self, name: str, deadline: float) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise HabitatSlow(
                f"habitat-sim: {name} took longer than {self._timeout_s:g} s; the worker was ended"
            )
        data = os.read(stdout.fileno(), 1 << 20)
        if not data:
            raise HabitatDied(self._epitaph(name))
        self._buffer += data

    def _epitaph(self, name: str) -> str:
        """How the worker died, and the last it printed."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            code = None
        self._log.seek(0)
        lines = [
            line.strip()
            for line in self._log.read().decode(errors="replace").splitlines()
            if line.strip()
        ]
        lines = [line for line in lines if "[Warning]" not in line]
        how = (
            f"died of {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"ended with status {code}"
        )
        return (
            f"habitat-sim: the worker {how} during {name}; it last said: "
            f"{' | '.join(lines[-3:]) or 'nothing'}"
        )
