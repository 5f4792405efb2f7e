"""A command that ends when whoever started it does, even if that was killed:
`python leash.py SECONDS COMMAND...`

The other end of standard input is the leash. When it is let go, the command and all its descendants
are asked to stop and, after SECONDS, killed: by SIGINT, as Ctrl-C does, where a word says that a
person wants it, which cancels what they have sent to a cluster; by SIGTERM where whoever held the
leash is gone, and then jobs go on and the next run attaches to them. Nothing is imported that takes
time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
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
        word = os.read(0, 1)
        stopping.set()
        tell(signal.SIGINT if word else signal.SIGTERM)
        # Of SIGTERM DVC dies at once, and its command may still have something to save.
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and _has_members(child.pid):
            time.sleep(0.1)
        tell(signal.SIGKILL)  # whoever is left has ignored the signal

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = child.wait()
    if stopping.is_set():
        watcher.join()
    return status if status >= 0 else 128 - status


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS, of a group that only holds zombies
        return False
    return True


if __name__ == "__main__":
    os._exit(main(float(sys.argv[1]), sys.argv[2:]))
