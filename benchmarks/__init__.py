"""Measurements of speed and of agreement, on real images; each module prints a table, or JSON with
--json.

Ratios are of CPU time on one core, so linear algebra is told to use one thread before numpy is
loaded.
"""

import os

ONE_THREAD = tuple(
    name
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    if name not in os.environ
)
os.environ.update(dict.fromkeys(ONE_THREAD, "1"))


def environment_as_given() -> dict[str, str]:
    """Of this process without the limit to one thread: for programs that train for hours."""
    return {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
