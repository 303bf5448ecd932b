"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

TEMPORARY = ".tmp"
"""Suffix of a file being written. One left behind by a killed run is replaced when its unit is run again."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a run killed at any moment, sees all of it or none.

    Written under a temporary name in the same folder (a rename across file systems would copy), synced, then renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def content_hash(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut; where a folder cannot be opened (Windows) there is no way to."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
