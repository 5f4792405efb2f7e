"""The worker: `python -m mimic.flows.worker [OPTIONS of prefect worker start]`.

It first frees the slots of runs that died with their machine, then becomes Prefect's own worker,
one flow at a time.
"""

from __future__ import annotations

import os
import sys

from mimic.flows import janitor

PATIENCE_S = 120.0  # after a restart the worker may be up before its server
COMMAND = ("worker", "start", "--pool", "mimic", "--type", "process", "--limit", "1")


def main() -> None:
    for name in janitor.sweep(patience_s=PATIENCE_S):
        print(f"flow run {name}: its process was gone, marked as Crashed", flush=True)
    command = [sys.executable, "-m", "prefect", *COMMAND, *sys.argv[1:]]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
