"""HDF5 files with plain data sets in their root, of which headers are read here, and rows where they lie.

The HDF5 library believes what a file says of itself: given a damaged one it may end the whole process, or never return.
This reader holds each address against the file, and follows none twice. It reads what h5py writes by default, then and
now: superblocks 0 to 3, names in a symbol table or in links, object headers 1 and 2 (the latter with their checksums),
data sets of numbers that are contiguous. What is packed, chunked or kept in other files is refused by name.

Format: "HDF5 File Format Specification Version 3.0", The HDF Group.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = (1 << 64) - 1
SPACE, LINK_INFO, TYPE, EXTERNAL, LINK, LAYOUT, FILTERS, CONTINUED, TABLE = 1, 2, 3, 7, 6, 8, 11, 16, 17
"""Kinds of messages in an object header."""
SHARED = 2
"""Flag of a message that is kept elsewhere."""
LARGEST, MESSAGES, NAMES, AXES = 1 << 20, 1000, 1000, 32
"""Bytes of a header's block; messages of a header; names in the root; axes of a data set."""
FLOATS = {4: (0, 32, 23, 8, 0, 23, 127), 8: (0, 64, 52, 11, 0, 52, 1023)}
"""Layout of the bits of single and double precision, by their bytes."""
UNPACK = "h5repack -l CONTI -f NONE IN OUT makes it so"


@dataclass(frozen=True)
class DataSet:
    """Numbers [N, ...] that lie in a file one after the other, from the byte ``offset`` on."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    def rows(self, begin: int, end: int) -> NDArray[Any]:
        """Rows ``begin`` to ``end``, [end - begin, ...]. Raises BadInput for a file that was cut since."""
        size = prod(self.shape[1:])
        return self._read(begin * size, (end - begin) * size).reshape(end - begin, *self.shape[1:])

    def part(self, row: int, begin: int, end: int) -> NDArray[Any]:
        """Of a row its own ``begin`` to ``end``, [end - begin, ...]. Raises BadInput as ``rows``."""
        size = prod(self.shape[2:])
        first = (row * self.shape[1] + begin) * size
        return self._read(first, (end - begin) * size).reshape(end - begin, *self.shape[2:])

    def _read(self, first: int, count: int) -> NDArray[Any]:
        place = self.offset + first * self.dtype.itemsize
        try:
            found = np.fromfile(self.path, self.dtype, count, offset=place)
        except OSError as error:
            raise BadInput(self.path, "content", f"the data of {self.name!r}", error) from error
        if found.size != count:
            raise BadInput(self.path, "content", f"the data of {self.name!r}", "a file that ends before")
        return found


def data_sets(path: Path) -> dict[str, DataSet]:
    """The data sets in a file's root, by name.

    Raises:
        BadInput: no such file, one that is no HDF5 file or is damaged, something else than a contiguous data set.
    """
    if not path.is_file():
        raise BadInput(path, "file", "an HDF5 file", "no such file")
    try:
        with path.open("rb") as file:
            return _Reader(path, file).data_sets()
    except (struct.error, UnicodeDecodeError, IndexError, OSError) as error:
        raise BadInput(path, "content", "an HDF5 file", f"a damaged one ({error})") from error


def _number(data: bytes, place: int, size: int = 8) -> int:
    """An unsigned number; nothing is taken for one that is not there."""
    if not 0 <= place <= len(data) - size:
        raise IndexError(f"a header of {len(data)} bytes")
    return int.from_bytes(data[place : place + size], "little")


@dataclass(frozen=True)
class _Message:
    kind: int
    flags: int
    data: bytes


@dataclass
class _Reader:
    """A file's headers. ``used`` is where they lie: data lies elsewhere."""

    path: Path
    file: BufferedReader
    base: int = 0
    used: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def refusal(self, expected: str, found: object, name: str = "content") -> BadInput:
        """Of this file."""
        return BadInput(self.path, name, expected, found)

    def block(self, address: int, size: int, mark: bytes = b"") -> bytes:
        """Bytes from an address on, which no other header has."""
        begin = self.base + address
        if not 0 <= begin <= begin + size <= self.size or size > LARGEST:
            raise self.refusal("an HDF5 file", f"a damaged or cut one: {size} bytes at {begin} of {self.size}")
        if any(begin < last and first < begin + size for first, last in self.used):
            raise self.refusal("an HDF5 file", f"a damaged one: two headers at {begin}")
        self.used.append((begin, begin + size))
        self.file.seek(begin)
        data = self.file.read(size)
        if len(data) != size or not data.startswith(mark):
            raise self.refusal("an HDF5 file", f"a damaged one: no {mark.decode()} at {begin}")
        return data

    def peek(self, address: int, size: int) -> bytes:
        """The first bytes from an address on, as many as there are."""
        self.file.seek(min(self.base + address, self.size))
        return self.file.read(size)

    def data_sets(self) -> dict[str, DataSet]:
        """Of the root."""
        messages = self.messages(self.root())
        found = dict[str, DataSet]()
        for name, address in self.names(messages):
            if name in found or len(found) == NAMES:
                raise self.refusal(f"a few names, up to {NAMES}, each once", f"{len(found)}, and {name!r}", "names")
            found[name] = self.data_set(name, self.messages(address))
        return found

    def root(self) -> int:
        """Address of the root's header; what comes before the file proper is skipped."""
        places = [0, *(512 << k for k in range(20) if 512 << k < self.size)]
        self.base = next((place for place in places if self.peek(place, 8) == SIGNATURE), -1)
        if self.base < 0:
            raise self.refusal("an HDF5 file", "no HDF5 signature")
        version = self.peek(8, 1)
        if version in (b"\x00", b"\x01"):
            return self._old_root(4 * version[0])
        if version in (b"\x02", b"\x03"):
            return self._new_root()
        raise self.refusal("an HDF5 file of superblock 0 to 3", f"superblock {list(version)}")

    def _old_root(self, more: int) -> int:
        data = self.block(0, 96 + more)
        self._require_sizes(data[13], data[14])
        return self._ends(data, 24 + more, 64 + more)

    def _new_root(self) -> int:
        data = self.block(0, 48)
        self._require_sizes(data[9], data[10])
        self._require_sum(data)
        return self._ends(data, 12, 36)

    def _require_sizes(self, offsets: int, lengths: int) -> None:
        if (offsets, lengths) != (8, 8):
            raise self.refusal("an HDF5 file with addresses of 8 bytes", f"one with {offsets} and {lengths}")

    def _ends(self, data: bytes, place: int, root: int) -> int:
        """The root's address, of a superblock whose addresses of begin and end are right."""
        base, end = _number(data, place), _number(data, place + 16)
        if base != self.base or end > self.size:
            found = f"a cut or damaged one: {self.size} bytes, from {base} to {end} by its header"
            raise self.refusal("a whole HDF5 file", found)
        return _number(data, root)

    def _require_sum(self, data: bytes) -> None:
        if lookup3(data[:-4]) != _number(data, len(data) - 4, 4):
            raise self.refusal("an HDF5 file", "a damaged one: a header's checksum is wrong")

    def messages(self, address: int) -> list[_Message]:
        """Of an object."""
        old = self.peek(address, 4) != b"OHDR"
        waiting = [self._old_head(address) if old else self._new_head(address)]
        found = list[_Message]()
        while waiting:
            data, tracked = waiting.pop(0)
            for message in self._old_messages(data) if old else self._new_messages(data, tracked):
                found.append(message)
                if message.kind == CONTINUED:
                    begin, size = _number(message.data, 0), _number(message.data, 8)
                    waiting.append((self.block(begin, size) if old else self._checked(begin, size), tracked))
                if len(found) > MESSAGES:
                    raise self.refusal("an HDF5 file", f"a header of more than {MESSAGES} messages")
        return found

    def _old_head(self, address: int) -> tuple[bytes, bool]:
        prefix = self.block(address, 16)
        if prefix[0] != 1:
            raise self.refusal("an HDF5 file", f"a damaged one: no object at {self.base + address}")
        return self.block(address + 16, _number(prefix, 8, 4)), False

    def _new_head(self, address: int) -> tuple[bytes, bool]:
        prefix = self.peek(address, 40)
        flags = _number(prefix, 5, 1)
        before = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        data = self.block(address, before + width + _number(prefix, before, width) + 4, b"OHDR\x02")
        self._require_sum(data)
        return data[before + width : -4], bool(flags & 4)

    def _checked(self, begin: int, size: int) -> bytes:
        data = self.block(begin, size, b"OCHK")
        self._require_sum(data)
        return data[4:-4]

    def _old_messages(self, data: bytes) -> Iterator[_Message]:
        return self._each(data, 8, lambda at: (_number(data, at, 2), _number(data, at + 2, 2), data[at + 4]))

    def _new_messages(self, data: bytes, tracked: bool) -> Iterator[_Message]:
        return self._each(data, 6 if tracked else 4, lambda at: (data[at], _number(data, at + 1, 2), data[at + 3]))

    def _each(self, data: bytes, head: int, read: Any) -> Iterator[_Message]:
        place = 0
        while place + head <= len(data):
            kind, size, flags = read(place)
            place += head
            if place + size > len(data):
                raise self.refusal("an HDF5 file", "a damaged one: a message is longer than its header")
            yield _Message(kind, flags, data[place : place + size])
            place += size

    def names(self, messages: list[_Message]) -> Iterator[tuple[str, int]]:
        """Names in a group, and the addresses of what they name."""
        links = [message.data for message in messages if message.kind == LINK]
        tables = [message.data for message in messages if message.kind == TABLE]
        dense = [message.data for message in messages if message.kind == LINK_INFO]
        if not tables and not dense:
            raise self.refusal("a root with names in it", "none", "names")
        for data in dense:
            if _number(data, 2 + 8 * (data[1] & 1)) != UNDEFINED:
                raise self.refusal("a few names", "more than their header holds", "names")
        yield from (self._link(data) for data in links)
        for data in tables:
            yield from self._table(_number(data, 0), _number(data, 8))

    def _link(self, data: bytes) -> tuple[str, int]:
        flags, place = data[1], 2
        kind = data[2] if flags & 8 else 0
        place += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
        width = 1 << (flags & 3)
        begin = place + width
        end = begin + _number(data, place, width)
        if kind:
            raise self.refusal("a data set", "a link to somewhere else", "names")
        return data[begin:end].decode(), _number(data, end)

    def _table(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        head = self.block(heap, 32, b"HEAP")
        words = self.block(_number(head, 24), _number(head, 8))
        for node in self._leaves(tree):
            count = _number(self.block(node, 8, b"SNOD"), 6, 2)
            entries = self.block(node + 8, 40 * count)
            for at in range(0, 40 * count, 40):
                begin = _number(entries, at)
                if begin >= len(words) or _number(entries, at + 16, 4) == 2:
                    raise self.refusal("a data set", "a damaged name, or a link to somewhere else", "names")
                yield words[begin : words.index(b"\0", begin)].decode(), _number(entries, at + 8)

    def _leaves(self, tree: int) -> list[int]:
        waiting, found = [tree], list[int]()
        while waiting:
            head = self.block(waiting[0], 24, b"TREE\0")
            count = _number(head, 6, 2)
            body = self.block(waiting.pop(0) + 24, 16 * count + 8)
            below = [_number(body, 16 * k + 8) for k in range(count)]
            (waiting if head[5] else found).extend(below)
            if len(waiting) + len(found) > NAMES:
                raise self.refusal(f"a few names, up to {NAMES}", "more", "names")
        return found

    def data_set(self, name: str, messages: list[_Message]) -> DataSet:
        """What the messages of its header say."""
        one = {kind: self._only(name, messages, kind) for kind in (SPACE, TYPE, LAYOUT)}
        kinds = {message.kind for message in messages}
        if kinds & {EXTERNAL, FILTERS}:
            raise self.refusal(
                f"a data set that is not packed ({UNPACK})", "a packed one, or one in another file", name
            )
        shape, kind = self._shape(name, one[SPACE]), self._type(name, one[TYPE])
        offset = self.base + self._place(name, one[LAYOUT], prod(shape) * kind.itemsize)
        return DataSet(self.path, name, shape, kind, offset)

    def _only(self, name: str, messages: list[_Message], kind: int) -> bytes:
        found = [message for message in messages if message.kind == kind]
        if len(found) != 1 or found[0].flags & SHARED:
            raise self.refusal("a data set with a shape, a type and a layout of its own", f"{len(found)} of one", name)
        return found[0].data

    def _shape(self, name: str, data: bytes) -> tuple[int, ...]:
        version, rank = data[0], data[1]
        begin = {1: 8, 2: 4}.get(version)
        if begin is None or not 1 <= rank <= AXES or (version == 2 and data[3] != 1):
            raise self.refusal("an array", f"a data space of version {version} with {rank} axes", name)
        shape = tuple(_number(data, begin + 8 * axis) for axis in range(rank))
        if not all(0 < length < 1 << 62 for length in shape):
            raise self.refusal("an array with something in it", list(shape), name)
        return shape

    def _type(self, name: str, data: bytes) -> np.dtype[Any]:
        version, kind, bits, size = data[0] >> 4, data[0] & 15, data[1], _number(data, 4, 4)
        order = ">" if bits & 1 else "<"
        known = 1 <= version <= 5
        if known and kind == 0 and size in (1, 2, 4, 8) and struct.unpack_from("<HH", data, 8) == (0, 8 * size):
            return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
        # Bit 6 is for VAX, bits 4 and 5 say that the mantissa's first bit is not stored; then, where the sign is.
        usual = known and bits & 0x70 == 0x20 and data[2] == 8 * size - 1
        if usual and kind == 1 and struct.unpack_from("<HHBBBBI", data, 8) == FLOATS.get(size):
            return np.dtype(f"{order}f{size}")
        found = f"class {kind} of {size} bytes"
        raise self.refusal("whole numbers, or those of single or double precision", found, name)

    def _place(self, name: str, data: bytes, size: int) -> int:
        """Address of the data, which has to lie within the file and apart from headers."""
        version, kind = data[0], data[1]
        if version not in (3, 4, 5) or kind != 1:
            found = f"{ {0: 'a compact', 2: 'a chunked', 3: 'a virtual'}.get(kind, 'another') } one"
            raise self.refusal(f"a contiguous data set ({UNPACK})", found, name)
        address, given = _number(data, 2), _number(data, 10)
        begin = self.base + address
        if given != size or begin + size > self.size:
            found = f"{given} at {begin} of {self.size}" if address != UNDEFINED else "none written"
            raise self.refusal(f"{size} bytes of data, by its shape", found, name)
        if any(begin < last and first < begin + size for first, last in self.used):
            raise self.refusal("data apart from headers", f"data at {begin}", name)
        return address


def lookup3(data: bytes) -> int:
    """Checksum of headers: Bob Jenkins' lookup3, hashlittle from 0."""
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    whole = max(len(data) - 1, 0) // 12 * 12
    for at in range(0, whole, 12):
        one, two, three = struct.unpack_from("<III", data, at)
        a, b, c = _mix((a + one) & MASK, (b + two) & MASK, (c + three) & MASK)
    if len(data) == whole:
        return c
    one, two, three = struct.unpack("<III", data[whole:].ljust(12, b"\0"))
    return _final((a + one) & MASK, (b + two) & MASK, (c + three) & MASK)


MASK = 0xFFFFFFFF


def _turned(value: int, by: int) -> int:
    return (value << by | value >> (32 - by)) & MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for by in (4, 6, 8, 16, 19, 4):
        a = (a - c & MASK) ^ _turned(c, by)
        c = c + b & MASK
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _turned(b, by) & MASK
        a, b, c = b, c, a
    return b
