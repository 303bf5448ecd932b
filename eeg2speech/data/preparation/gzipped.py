"""What a gzip file holds, in a file without a name: it is gone when it is closed, or the process ends."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from eeg2speech.errors import BadInput

RATIO = 100
"""Times its own size that a file of signals may hold; signals shrink to a third."""
SMALL = 1 << 28
"""Bytes that any file may hold, whatever its size."""
BLOCK = 1 << 20


def likely(path: Path) -> int:
    """Bytes that a file of signals may hold and not more."""
    return max(RATIO * path.stat().st_size, SMALL)


def gunzipped(path: Path, head: int, most: Callable[[bytes], int]) -> IO[bytes]:
    """Content of a gzip file, read and checked to its end, in a file in the folder for temporary ones (``TMPDIR``).

    ``most`` says from the first ``head`` bytes how many there may be; it may refuse them.

    Raises:
        BadInput: no such file, none that gzip made, damage, more content than that, no room on the disk for it.
    """
    if not path.is_file():
        raise BadInput(path, "file", "a gzip file", "no such file")
    held = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with gzip.open(path) as packed:
            first = _whole(packed, head)
            limit = most(first)
            _require_room(path, limit)
            _copy(path, first, packed, held, limit)
    except (OSError, EOFError, zlib.error) as error:
        held.close()
        raise BadInput(path, "content", "a gzip file, whole, and a disk with room for it", error) from error
    except BaseException:
        held.close()
        raise
    held.seek(0)
    return held


def _whole(packed: gzip.GzipFile, count: int) -> bytes:
    """As many bytes, or all there are: a single read may give fewer."""
    found = b""
    while len(found) < count and (block := packed.read(count - len(found))):
        found += block
    return found


def _copy(path: Path, first: bytes, packed: gzip.GzipFile, held: IO[bytes], limit: int) -> None:
    held.write(first)
    while held.tell() <= limit and (block := packed.read(BLOCK)):
        held.write(block)
    if held.tell() > limit:
        raise BadInput(path, "unpacked size", f"at most {limit} bytes", "more")
    held.flush()


def _require_room(path: Path, limit: int) -> None:
    with path.open("rb") as file:
        file.seek(-4, 2)
        # The size, but for multiples of 4 GiB; a disk that fills all the same is told when it does.
        needed = min(int.from_bytes(file.read(4), "little"), limit)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BadInput(folder, "free space", f"{needed} bytes to unpack {path.name} (TMPDIR names another disk)", free)
