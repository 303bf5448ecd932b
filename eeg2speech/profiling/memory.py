"""The most memory that something takes at a time."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from pathlib import Path
from typing import Self

import torch

RESIDENT = Path("/proc/self/statm")
"""Linux alone has it; elsewhere the memory of a CPU is not measured."""


class Peak:
    """The most memory at a time within a ``with``, in ``megabytes``: of a GPU's tensors, or by growth of the process.

    torch's memory on a CPU goes past Python's own tracing, and the kernel's high-water mark of a process cannot be
    lowered again, so what is resident is looked at every few milliseconds. None where that cannot be asked for.
    """

    def __init__(self, device: str, every: float = 0.002) -> None:
        self.device, self.every = device, every
        self.megabytes: float | None = 0.0 if device == "cuda" or RESIDENT.exists() else None
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        elif self.megabytes is not None:
            give_back()
            self._before = resident()
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device == "cuda":
            self.megabytes = (torch.cuda.max_memory_allocated() - self._before) / 1e6
        elif self.megabytes is not None:
            self._ended.set()
            self._watcher.join()
            self._look()

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._look()
            time.sleep(self.every)

    def _look(self) -> None:
        self.megabytes = max(self.megabytes or 0.0, (resident() - self._before) / 1e6)


def give_back() -> None:
    """Let the system have what was freed earlier: else what comes later takes it up again and seems not to grow."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    return int(RESIDENT.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
