"""Memory that a process has freed stays with it, so that the next step need not ask the kernel for it again.

glibc hands large blocks back as soon as they are free. Each training step then begins with fresh pages: the kernel
clears every one of them at its first touch (a page fault: some microseconds for 4 kB on a virtual machine), which
takes up to a third of a step of a network with large activations. ``docs/performance.md`` has the measurement.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of ``mallopt`` by glibc's ``malloc.h``."""
KEPT_BYTES = 2**31 - 1
"""Free memory at the end of the heap above which it goes back to the kernel after all: the largest that fits an int."""


@cache
def keep_freed_memory() -> bool:
    """Let malloc keep up to 2 GB that are free, and take large blocks from the heap. Returns whether it does so now.

    Once called it holds for the rest of the process; a second call changes nothing. Call it where a process begins to
    compute, not in a library's import: the memory of the process stays near its peak. False, and nothing done, where
    there is no glibc (macOS, Windows, musl): their allocators have no such switch. Memory of a GPU is not concerned.

    Source: mallopt(3). Its threshold for mmap stops at 32 MB, under the size of many activations, so that mmap is
    switched off altogether.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
