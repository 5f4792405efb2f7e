"""What worker processes run in the tests: importable, and told by its item how to behave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def work(item: tuple[str, int, str]) -> tuple[int, int]:
    """(folder, number, behaviour) -> number, and the threads OpenCV may use."""
    folder, number, behaviour = Path(item[0]), item[1], item[2]
    tried = folder / str(number)
    first = not tried.exists()
    tried.touch()
    if behaviour == "dies" or (behaviour == "dies once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "full disk":
        raise OSError(28, "No space left on device", "shard")
    if behaviour == "slow":
        time.sleep(0.3)
    import cv2

    return number, cv2.getNumThreads()
