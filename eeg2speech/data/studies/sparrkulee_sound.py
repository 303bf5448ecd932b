"""Stimuli of SparrKULee: a gzipped archive of numpy, ``audio`` float32 [T] and its rate ``fs``."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import ArrayBlocks
from eeg2speech.data.preparation.gzipped import gunzipped
from eeg2speech.errors import BadInput

MOST = 1 << 30
"""Bytes that a stimulus may have unpacked: an hour and a half at 48 kHz. Of triggers, mostly zeros, nothing can be told
from the size of the gzip file."""
BLOCK = 1 << 20


def sound(path: Path) -> ArrayBlocks:
    """The sound [1, T] of a ``.npz.gz``, or of a ``.npz`` that somebody has unpacked.

    Raises:
        BadInput: no such file, damage, more than ``MOST`` bytes, another content than the two arrays.
    """
    with _archive(path) as archive:
        rate, audio = _rate(path, archive), _audio(path, archive)
    return ArrayBlocks(audio[None], rate, path)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    if path.suffix.casefold() == ".gz":
        file: IO[bytes] = gunzipped(path, 0, lambda _: MOST)
    elif path.is_file():
        file = path.open("rb")
    else:
        raise BadInput(path, "file", "a stimulus", "no such file")
    try:
        with file, zipfile.ZipFile(file) as archive:
            yield archive
    except BadInput:
        raise
    except Exception as error:  # of damaged archives zipfile and numpy raise nearly anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(path, "content", "an archive of numpy with audio and fs", reason) from error


def _rate(path: Path, archive: zipfile.ZipFile) -> float:
    with _member(path, archive, "fs") as file:
        shape, dtype = _header(file)
        if np.prod(shape, dtype=object) != 1 or dtype.kind not in "iuf":
            raise BadInput(path, "fs", "one number", f"{dtype} {list(shape)}")
        found = float(np.frombuffer(file.read(dtype.itemsize), dtype)[0])
        _require_end(path, file, "fs")
    return found


def _audio(path: Path, archive: zipfile.ZipFile) -> NDArray[np.generic]:
    """[T], mapped from a temporary file, every byte checked."""
    with _member(path, archive, "audio") as file, tempfile.TemporaryFile() as held:
        shape, dtype = _header(file)
        # A single column is as good.
        if len(shape) not in (1, 2) or max(shape, default=0) != np.prod(shape, dtype=object) or dtype.kind != "f":
            raise BadInput(path, "audio", "floating-point numbers [T]", f"{dtype} {list(shape)}")
        needed = int(max(shape)) * dtype.itemsize
        if not 0 < needed <= MOST:
            raise BadInput(path, "audio", f"1 to {MOST} bytes", needed)
        while needed > held.tell() and (block := file.read(min(BLOCK, needed - held.tell()))):
            held.write(block)
        if held.tell() != needed:
            raise BadInput(path, "audio", f"{needed} bytes, as its shape says", held.tell())
        _require_end(path, file, "audio")
        held.flush()
        return np.memmap(held, dtype, "r")


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    if archive.namelist().count(f"{name}.npy") != 1:
        raise BadInput(path, "arrays", "audio and fs", ", ".join(archive.namelist()[:5]) or "none")
    return archive.open(f"{name}.npy")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    major = npy.read_magic(file)[0]
    read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    # Numpy warns of headers that it mends.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shape, _, dtype = read(file)
    return shape, dtype


def _require_end(path: Path, file: IO[bytes], name: str) -> None:
    # The end has to be read: the checksum is compared there.
    if file.read(1):
        raise BadInput(path, name, "as many bytes as its shape says", "more")
