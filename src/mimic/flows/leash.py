"""A command that ends when whoever started it does, even if that was killed:
`python leash.py SECONDS COMMAND...`

The other end of standard input is the leash. When it is let go, the command and all its descendants
are asked to stop (SIGINT) and, after SECONDS, killed. Nothing is imported that takes time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main(patience_s: float, command: list[str]) -> int:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    stopping = threading.Event()

    def tell(number: signal.Signals) -> None:
        # The whole group: DVC alone ignores the signal while its command runs, and would leave the
        # command behind if it died.
        with suppress(
            ProcessLookupError, PermissionError
        ):  # an empty group; macOS says "not permitted" of one that only holds zombies
            os.killpg(child.pid, number)

    def watch() -> None:
        os.read(0, 1)
        stopping.set()
        tell(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
        # DVC ends after its command does, so whoever is left has lost its parent or ignored the
        # signal.
        tell(signal.SIGKILL)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = child.wait()
    if stopping.is_set():
        watcher.join()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    os._exit(main(float(sys.argv[1]), sys.argv[2:]))
