"""Sets how the C library's allocator treats memory that numpy frees."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_TRIM_BYTES: Final = 256 << 20
_MMAP_BYTES: Final = 32 << 20


def keep_freed_memory() -> None:
    """Reuse freed memory instead of returning it to the kernel after every batch (mallopt(3)).

    Each cycle allocates and frees arrays of megabytes. By default each array is mapped anew, and page faults make up
    most of the cost of reading. Without glibc this has no effect.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
