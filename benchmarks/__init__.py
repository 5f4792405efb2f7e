"""Measurements of speed and of agreement, on real images; each module prints a table, or JSON with
--json.

Ratios are of CPU time on one core, so linear algebra is told to use one thread before numpy is
loaded.
"""

import os

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
