"""Files that are either whole or not there."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path

TEMPORARY = ".tmp"
"""Suffix of a file being written. One left behind by a killed run is taken away when the file is written again."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a run killed at any moment, sees all of it or none.

    Written under a temporary name in the same folder (a rename across file systems would copy), synced, then renamed.
    The name is the process's own: two runs in one folder must not rename each other's half file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def clear_leftovers(path: Path) -> None:
    """Take away what killed runs left of writing ``path``; what a run that is alive is writing stays."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*{TEMPORARY[1:]}"):
        process = leftover.name[len(path.name) + 1 : -len(TEMPORARY)]
        if not (process.isdecimal() and _other_alive(int(process))):
            leftover.unlink(missing_ok=True)


def content_hash(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _other_alive(process: int) -> bool:
    """Whether a process other than this one has that number."""
    if process == os.getpid():
        return False
    if os.name != "posix":
        # There, signal 0 is not a question but Ctrl-C. A leftover then stays.
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut; where a folder cannot be opened (Windows) there is no way to."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
