"""What a stage prints: what of it is for people, and which line says why it failed."""

from __future__ import annotations

import re
from collections import deque

from mimic.flows.dvc_locks import TORN

LINES_KEPT = 15  # of a failed stage's output, for the state's message
BUSY = "is busy, it is being blocked by"  # DVC, of a file that another process works on
REFUSED = re.compile(r"(?:^|: )mimic: (.+)")  # one line for bad input, by whatever printed it
# The last line of a traceback, also behind the number of a rank: `[rank0]: ValueError: ...`.
RAISED = re.compile(
    r"^(?:\[?\w+\]?: )?(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b"
)
# Advice of DVC to people at its command line, who would commit by hand or remove a lock.
ADVICE = re.compile(
    r"^(?:To track the changes with git, run:|To enable auto staging, run:|\s*git add .*"
    r"|\s*dvc config core\.autostage true|Use `dvc push` to send your updates to remote storage\."
    r"|Data and pipelines are up to date\."  # it means the one stage that it was asked for
    r"|If there are no processes with such PIDs, you can manually remove .*)$"
)
WAITING = re.compile(r"^ERROR: .*" + BUSY + r"|^Process PID:|^\s*\(PID \d+\): ")
OF_DVC = re.compile(r"^(?:ERROR: failed to reproduce|Running stage|> |Updating lock file|Stage ')")


class Output:
    """The lines of a stage, as they come."""

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=LINES_KEPT)
        self.ran = False
        self.is_busy = False
        self.is_torn = False
        self._cause = ""
        self._last = ""

    def take(self, line: str) -> bool:
        """Whether a line is for the log."""
        self.ran = self.ran or line.startswith("Running stage")
        self.is_busy = self.is_busy or BUSY in line
        self.is_torn = self.is_torn or TORN in line
        if ADVICE.match(line) or self.is_busy:
            return False
        self.tail.append(line)
        refused = REFUSED.search(line)
        if refused or RAISED.match(line):
            self._cause = refused[1] if refused else line
        elif not OF_DVC.match(line):
            self._last = line
        return True

    def cause(self) -> str:
        """The one line that says why: of the refused input, of the exception, or the last."""
        return self._cause or self._last or "it said nothing"
