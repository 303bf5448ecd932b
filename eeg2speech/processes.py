"""Processes: how many cores there are, how many threads each child may use, that none outlives us, and how one spares
itself the search for garbage."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""What BLAS, OpenMP and torch read when they are loaded."""


def cores() -> int:
    """Cores that this process may use."""
    # os.sched_getaffinity, where there is one, knows of limits that os.cpu_count does not.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def threads_of_children(count: int) -> Iterator[None]:
    """Processes started within use ``count`` threads each.

    An initializer of a pool would come too late: a spawned process has loaded numpy, and with it BLAS and its threads,
    by the time it runs one. An executor starts its processes as tasks are submitted, in the submitting thread.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def without_collector(last: bool = False) -> Iterator[None]:
    """Within, Python does not look for garbage in cycles: where millions of objects are made that stay, it looks
    through all of them again and again, and finds none. What is in cycles is freed after.

    Not if this is the ``last`` that the process does: then what is there is not looked at again, not even at the end,
    which takes as long as to write a report. The system frees it with the process.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if last:
            gc.freeze()
        if collecting:
            gc.enable()


def end_with_parent(parent: int, every_seconds: float = 1.0) -> None:
    """For a child's beginning: it ends soon after the process ``parent`` does, in whatever way that ended.

    Workers of a pool whose parent was killed would go on to the end of their task, then wait for ever for another.
    """
    threading.Thread(target=_watch, args=(parent, every_seconds), daemon=True).start()


def _watch(parent: int, every_seconds: float) -> None:
    while os.getppid() == parent:
        time.sleep(every_seconds)
    # Not sys.exit, which would end this thread alone. All files of a training appear by rename: none is left half.
    os._exit(1)
