"""Memory that a process frees stays with it, up to a limit, instead of going back to the kernel.

SIFT takes and frees some 9 MB for each small picture. glibc hands such blocks back at once, so
every picture pays for two thousand page faults: a third of the CPU time of finding features.
Results do not change, nor does what a process holds while it works.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h of glibc
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEPT_BYTES = 64 << 20  # freed memory at the end of the heap beyond this goes back
BLOCK_BYTES = (
    32 << 20
)  # blocks from this size on come from the kernel each time; the most glibc accepts


def keep_freed() -> bool:
    """Whether this process now keeps what it frees; False where the C library is another one."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(*option)
        for option in ((M_TRIM_THRESHOLD, KEPT_BYTES), (M_MMAP_THRESHOLD, BLOCK_BYTES))
    )
