"""MATLAB's files of version 5 (MATLAB 5 to 7.2), read element by element, each held against the room that it has.

scipy's reader believes what a file says of itself: given a damaged one it may end the whole process, or not notice.
What this one returns is what ``scipy.io.loadmat(struct_as_record=False)`` does, with ``Struct`` for its ``mat_struct``;
what is packed has to have its checksum. Tables, objects and sparse matrices are not read: in a struct or a cell they
are None, as a variable they are refused. All refusals are ValueError or zlib's error.

Format: "MAT-File Format", MathWorks: elements with a tag of 8 bytes that tells kind and length, padded to 8 bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Bytes = NDArray[np.uint8]

HEADER, TAG = 128, 8
INT8, INT32, UINT32, MATRIX, COMPRESSED, UTF8 = 1, 5, 6, 14, 15, 16
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Kinds of elements that hold numbers, as numpy names them."""
CHARACTERS = {1: "utf-8", 2: "utf-8", 4: "utf-16", UTF8: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, OBJECT, CHAR, OPAQUE, NUMERIC = 1, 2, 3, 4, 17, range(6, 16)
"""Classes of matrices."""
DEPTH, AXES, NAME = 32, 32, 4096
"""Matrices in each other; axes of one; bytes of a name."""
BLOCK, RATIO = 1 << 20, 1032
"""Bytes unpacked at a time; bytes that one packed byte can become."""


class Struct:
    """Fields as attributes; ``_fieldnames`` are their names, in order."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fieldnames = [*fields]
        self.__dict__ |= {name: value for name, value in fields.items() if not name.startswith("_")}


def shapes(path: Path) -> dict[str, Shape]:
    """Names and shapes of all variables, of which the headers alone are read."""
    with path.open("rb") as file:
        return {matrix.name: matrix.shape for matrix in _variables(file)}


def load(path: Path, wanted: Sequence[str]) -> dict[str, Any]:
    """Those of the ``wanted`` variables that are there."""
    with path.open("rb") as file:
        return {matrix.name: matrix.whole() for matrix in _variables(file) if matrix.name in wanted}


def _order(header: bytes) -> str:
    """Order of bytes, as numpy has it."""
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(header[124:128], "")
    of_7_3 = header[124:128] == b"\x00\x02IM" or header.startswith(b"\x89HDF")
    _require(order != "", f"one of version {'7.3' if of_7_3 else '4, or none'} (save it again with -v7)")
    return order


class _Room(Protocol):
    """Bytes that are still to be read, ``left`` at most."""

    left: int

    def fill(self, target: Bytes) -> None:
        """Read on until it is full."""

    def end(self) -> None:
        """Refuse what does not end here."""


class _Plain:
    """A stretch of a file."""

    def __init__(self, file: BufferedReader, count: int) -> None:
        self.file, self.left = file, count

    def fill(self, target: Bytes) -> None:
        if target.size > self.left or self.file.readinto(target.data) != target.size:
            raise ValueError("it is cut short, or an element is larger than its room")
        self.left -= target.size

    def end(self) -> None:
        _require(not self.left, "there are bytes that belong to nothing")


class _Packed:
    """A compressed stretch of a file."""

    def __init__(self, file: BufferedReader, count: int) -> None:
        self.left = count * RATIO
        self.blocks, self.block = _unpacked(file, count), b""

    def fill(self, target: Bytes) -> None:
        _require(target.size <= self.left, "an element is larger than its room")
        done = 0
        while done < target.size:
            self.block = self.block or next(self.blocks, b"")
            _require(self.block != b"", "it is cut short")
            piece, self.block = self.block[: target.size - done], self.block[target.size - done :]
            target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
        self.left -= target.size

    def end(self) -> None:
        # The checksum comes last, and is compared as the last block is asked for.
        _require(not self.block and next(self.blocks, None) is None, "there are bytes that belong to nothing")


def _unpacked(file: BufferedReader, count: int) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    while not inflate.eof:
        packed = inflate.unconsumed_tail
        if not packed:
            packed = file.read(min(count, BLOCK))
            count -= len(packed)
        block = inflate.decompress(packed, BLOCK)
        _require(bool(block or packed or inflate.eof), "it is cut short")
        if block:
            yield block
    _require(not count and not inflate.unused_data, "there are bytes that belong to nothing")


def _require(condition: bool, told: str) -> None:
    if not condition:
        raise ValueError(told)


def _variables(file: BufferedReader) -> Iterator[_Matrix]:
    """Variables with their headers read; what is read of one has to be read before the next is asked for."""
    size = file.seek(0, 2)
    file.seek(0)
    order = _order(file.read(HEADER))
    while (begin := file.tell()) < size:
        kind, count = _tag(_Plain(file, size - begin), order)
        end = begin + TAG + count
        _require(
            kind in (MATRIX, COMPRESSED) and end <= size, "it is cut short, or holds something else than variables"
        )
        room: _Room = _Plain(file, count) if kind == MATRIX else _Packed(file, count)
        if kind == COMPRESSED:
            inner, count = _tag(room, order)
            _require(inner == MATRIX and count <= room.left, "it holds something else than variables")
            room.left = count
        matrix = _header(room, order, 0)
        # The one without a name is MATLAB's own.
        if matrix.name:
            yield matrix
        file.seek(end)


def _exactly(room: _Room, count: int) -> Bytes:
    _require(0 <= count <= room.left, "an element is larger than its room")
    made = np.empty(count, np.uint8)
    room.fill(made)
    return made


def _tag(room: _Room, order: str) -> tuple[int, int]:
    """Kind and length, where no data lies in the tag."""
    kind, count = _exactly(room, TAG).view(f"{order}u4")
    return int(kind), int(count)


def _element(room: _Room, order: str) -> tuple[int, Bytes]:
    """Kind and data of the next element."""
    tag = _exactly(room, TAG)
    kind, count = (int(word) for word in tag.view(f"{order}u4"))
    if kind >> 16:
        # A small one: its data lies in the tag.
        _require(kind >> 16 <= 4, "a small element has more than four bytes")
        return kind & 0xFFFF, tag[4 : 4 + (kind >> 16)].copy()
    data = _exactly(room, count)
    _exactly(room, min(-count % 8, room.left))
    return kind, data


def _numbers(room: _Room, order: str, count: int, kinds: Sequence[int] = tuple(NUMBERS)) -> NDArray[Any]:
    """``count`` numbers, in the kind in which they are stored."""
    kind, data = _element(room, order)
    _require(kind in kinds, f"an element of kind {kind} where numbers should be")
    stored = np.dtype(order + NUMBERS[kind])
    _require(data.size == count * stored.itemsize, f"{data.size} bytes for {count} numbers")
    return data.view(stored).astype(stored.newbyteorder("="), copy=False)


def _name(room: _Room, order: str) -> str:
    kind, data = _element(room, order)
    _require(kind in (INT8, UTF8) and data.size <= NAME, f"an element of kind {kind} where a name should be")
    return data.tobytes().decode("latin-1")


@dataclass
class _Matrix:
    """A matrix whose header has been read."""

    room: _Room
    order: str
    depth: int
    kind: int
    complex: bool
    shape: Shape
    name: str

    def whole(self) -> Any:
        """Its content, when it is a variable."""
        _require(self.readable, "a table, an object or a sparse matrix: export it as struct, cell or plain matrix")
        value = self.value()
        _end(self.room, 0)
        self.room.end()
        return value

    @property
    def readable(self) -> bool:
        """Whether it is of a class that is read."""
        return self.kind in (CELL, STRUCT, OBJECT, CHAR, *NUMERIC)

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    def value(self) -> Any:
        """Its content."""
        if self.kind == CELL:
            return self._objects([self._inner() for _ in range(self._fitting(1))])
        if self.kind in (STRUCT, OBJECT):
            return self._structs()
        return self._text() if self.kind == CHAR else self._numeric()

    def _numeric(self) -> NDArray[Any]:
        real = _numbers(self.room, self.order, self.count)
        whole = real + 1j * _numbers(self.room, self.order, self.count) if self.complex else real
        return whole.reshape(self.shape, order="F")

    def _text(self) -> NDArray[np.str_]:
        """Rows of characters as strings."""
        kind, data = _element(self.room, self.order)
        _require(kind in CHARACTERS, f"an element of kind {kind} where text should be")
        code = CHARACTERS[kind]
        ending = "" if code == "utf-8" else "-le" if self.order == "<" else "-be"
        found = data.tobytes().decode(code + ending)
        _require(len(found) == self.count, f"{len(found)} characters for {self.count}")
        if not found:
            return np.zeros(0, "U1")
        rows = np.array([*found], "U1").reshape(self.shape, order="F")
        lines = ["".join(row) for row in rows.reshape(prod(self.shape[:-1]), self.shape[-1])]
        return np.array(lines).reshape(self.shape[:-1])

    def _structs(self) -> NDArray[np.object_]:
        if self.kind == OBJECT:
            _name(self.room, self.order)
        (length,) = _numbers(self.room, self.order, 1, (INT32,))
        kind, data = _element(self.room, self.order)
        _require(kind in (INT8, UTF8) and 0 < length <= NAME and not data.size % length, "names of fields are damaged")
        names = [bytes(row).partition(b"\0")[0].decode("latin-1") for row in data.reshape(-1, int(length))]
        _require(len({*names}) == len(names), "a field that is there twice")
        structs = [Struct({name: self._inner() for name in names}) for _ in range(self._fitting(len(names)))]
        return self._objects(structs)

    def _fitting(self, matrices: int) -> int:
        """Elements of so many matrices each, if there is room for them."""
        _require(self.count * matrices * TAG <= self.room.left, "more elements than there is room for")
        _require(matrices > 0 or self.count <= 1, "elements without content")
        return self.count

    def _inner(self) -> Any:
        """The next matrix in this one."""
        _require(self.depth < DEPTH, f"more than {DEPTH} matrices in each other")
        kind, count = _tag(self.room, self.order)
        _require(kind == MATRIX and count <= self.room.left, "an element that is no matrix, or larger than its room")
        if not count:
            return np.zeros((1, 0))
        end = self.room.left - count
        matrix = _header(self.room, self.order, self.depth + 1)
        if matrix.readable:
            value = matrix.value()
            _end(self.room, end)
            return value
        while self.room.left > end:
            _exactly(self.room, min(self.room.left - end, BLOCK))
        return None

    def _objects(self, values: Sequence[Any]) -> NDArray[np.object_]:
        made = np.empty(len(values), object)
        for place, value in enumerate(values):
            made[place] = value
        return made.reshape(self.shape, order="F")


def _end(room: _Room, left: int) -> None:
    """After a matrix there is padding at most."""
    _require(0 <= room.left - left < TAG, "an element that is longer or shorter than told")
    _exactly(room, room.left - left)


def _header(room: _Room, order: str, depth: int) -> _Matrix:
    flags = int(_numbers(room, order, 2, (UINT32,))[0])
    kind = flags & 0xFF
    shape = () if kind == OPAQUE else _shape(room, order)
    return _Matrix(room, order, depth, kind, bool(flags & 0x800), shape, _name(room, order))


def _shape(room: _Room, order: str) -> Shape:
    kind, data = _element(room, order)
    _require(kind == INT32 and data.size in range(8, 4 * AXES + 1, 4), "a shape that is none")
    shape = tuple(int(n) for n in data.view(f"{order}i4"))
    _require(min(shape) >= 0, f"a shape of {list(shape)}")
    return shape
