"""Zip archives unpacked with distrust: what comes out lies in the folder named, is what was packed, and fits a disk.

Refused are: paths that lead elsewhere, links, encryption, packing other than by deflate, names given twice (also where
only case tells them apart), damage, and more than the limits below, which are held against what is read and not
against what the archive says of itself. Archives in the archive become folders. What macOS adds is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from eeg2speech.errors import BadInput

RATIO = 100
"""Times the size of an archive that all it holds may have, archives in it included; signals shrink to a third."""
SMALL = 1 << 28
"""Bytes that any archive may hold, whatever its size."""
TOTAL = 1 << 40
"""Bytes that no archive may hold more of."""
MEMBERS = 100_000
"""Members of an archive, those of archives in it included."""
DEPTH = 3
"""Archives in each other: one, one in it, and one in that."""
DIRECTORY = 1 << 24
"""Bytes of an archive's list of members, all of which has to lie in memory."""
BLOCK = 1 << 20

Told = Callable[[str], None]


@dataclass(frozen=True)
class Member:
    """A file or folder of an archive, ``parts`` its path below the archive's own folder."""

    info: ZipInfo
    parts: tuple[str, ...]

    @property
    def nested(self) -> bool:
        """Whether it is an archive itself."""
        return not self.info.is_dir() and is_zip(self.parts[-1])

    @property
    def made(self) -> tuple[str, ...]:
        """Path of what it becomes: of an archive, its folder."""
        return (*self.parts[:-1], stem(self.parts[-1])) if self.nested else self.parts


class Budget:
    """What may still come out of an archive, counted as it does."""

    def __init__(self, size: int) -> None:
        self.most = min(max(RATIO * size, SMALL), TOTAL)
        self.bytes = self.members = 0

    def spend(self, count: int, where: str) -> None:
        """Count bytes. Raises BadInput when they are too many."""
        self.bytes += count
        if self.bytes > self.most:
            raise BadInput(where, "unpacked size", f"at most {self.most} bytes, {RATIO} times the archive's", "more")

    def admit(self, members: Sequence[Member], where: str) -> None:
        """Count members, and compare what they claim with what is left. Raises BadInput for too many."""
        self.members += len(members)
        if self.members > MEMBERS:
            raise BadInput(where, "members", f"at most {MEMBERS}", self.members)
        claimed = self.bytes + sum(member.info.file_size for member in members)
        if claimed > self.most:
            expected = f"at most {self.most} bytes, {RATIO} times the archive's"
            raise BadInput(where, "unpacked size", expected, f"{claimed} bytes")


def is_zip(name: str) -> bool:
    """By its name."""
    return name.casefold().endswith(".zip") and len(name) > 4


def stem(name: str) -> str:
    """Name of the folder that an archive becomes."""
    return name[:-4]


def is_litter(name: str) -> bool:
    """What macOS puts beside files, and is none of the data."""
    return name in ("__MACOSX", ".DS_Store") or name.startswith("._")


def members_of(path: Path) -> list[Member]:
    """Members of an archive, in its order. Raises BadInput for what is refused without reading them."""
    with _opened(path, path.name, str(path)) as (_, members):
        return members


def identity(members: Sequence[Member]) -> str:
    """Name of an archive by what its members are called, how large they are, and their checksums."""
    told = [(member.info.filename, member.info.file_size, member.info.CRC) for member in members]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def unzip(path: Path, folder: Path, scratch: Path, told: Told) -> None:
    """Unpack an archive into ``folder``, going on where an interrupted call was; memory in use does not grow with it.

    ``scratch`` is a folder for what is not whole yet. Files in ``folder`` are whole: they are named when they are.

    Raises:
        BadInput: what the module refuses, or a disk that does not take the files.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
    _unzip(path, path.name, str(path), folder, scratch, Budget(path.stat().st_size), 1, told)


def _unzip(
    path: Path, name: str, where: str, folder: Path, scratch: Path, budget: Budget, depth: int, told: Told
) -> None:
    if depth > DEPTH:
        raise BadInput(where, "archives in archives", f"at most {DEPTH}", depth)
    with _opened(path, name, where) as (archive, members):
        budget.admit(members, where)
        for member in members:
            inner, place = f"{where}/{member.info.filename}", folder.joinpath(*member.made)
            told(inner)
            if member.nested:
                loose = scratch / f"{depth}.zip"
                _write(archive, member.info, loose, scratch, budget, inner)
                _unzip(loose, member.parts[-1], inner, place, scratch, budget, depth + 1, told)
                loose.unlink()
            elif member.info.is_dir():
                with writing(place):
                    place.mkdir(parents=True, exist_ok=True)
            elif place.is_file() and place.stat().st_size == member.info.file_size:
                budget.spend(member.info.file_size, inner)
            else:
                _write(archive, member.info, place, scratch, budget, inner)


def _write(archive: ZipFile, info: ZipInfo, place: Path, scratch: Path, budget: Budget, where: str) -> None:
    """A member, checked as it is read and named when it is whole."""
    partial, written = scratch / "member", 0
    _require_told_twice(Path(str(archive.filename)), info, where)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as sink:
            for block in _blocks(archive, info, where):
                budget.spend(len(block), where)
                written += sink.write(block)
        if written != info.file_size:
            raise BadInput(where, "size", f"{info.file_size} bytes", written)
        os.replace(partial, place)


def _blocks(archive: ZipFile, info: ZipInfo, where: str) -> Iterator[bytes]:
    with _reading(where), archive.open(info) as source:
        while block := source.read(BLOCK):
            yield block


@contextmanager
def _opened(path: Path, name: str, where: str) -> Iterator[tuple[ZipFile, list[Member]]]:
    """An archive, and its members without litter, below a folder that bears the archive's name."""
    with ExitStack() as stack:
        with _reading(where):
            archive = stack.enter_context(ZipFile(stack.enter_context(_Bounded(path))))
            claimed = _claimed(path)
        infos, size = archive.infolist(), path.stat().st_size
        if not 1 <= len(infos) <= MEMBERS:
            raise BadInput(where, "members", f"1 to {MEMBERS}", len(infos))
        if claimed != len(infos):
            raise BadInput(where, "list of members", f"{claimed} members, as the archive's end says", len(infos))
        # Members that share bytes make large out of small: what is packed must lie side by side.
        if sum(info.compress_size for info in infos) > size:
            raise BadInput(where, "packed size", f"at most the archive's {size} bytes", "more")
        members = [Member(info, _parts(info, where)) for info in infos]
        members = _below([each for each in members if not any(map(is_litter, each.parts))], stem(name))
        for member in members:
            _require_plain(member.info, f"{where}/{member.info.filename}")
        _require_distinct(members, where)
        yield archive, members


def _claimed(path: Path) -> int:
    """How many members the end of an archive speaks of: the reader does not compare, and damage can hide some."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - (1 << 16) - 128, 0))
        tail = file.read()
    place = len(tail) - 22 if tail[-22:-18] == b"PK\5\6" else tail.rfind(b"PK\5\6")
    large = place - 76  # where the record of an archive of more than 65,535 members is
    if large >= 0 and tail[large : large + 4] == b"PK\6\6":
        return int(struct.unpack_from("<Q", tail, large + 32)[0])
    return int(struct.unpack_from("<H", tail, place + 10)[0])


def _require_told_twice(path: Path, info: ZipInfo, where: str) -> None:
    """What the list says of a member stands beside it too: else damage could pass for an empty file."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(30).ljust(30, b"\0")
        flags, (checksum, packed, size), lengths = (
            struct.unpack_from(form, head, place) for form, place in (("<H", 6), ("<III", 14), ("<HH", 26))
        )
        if flags[0] & 0x8:  # written as a stream: what was not known before stands behind
            file.seek(info.header_offset + 30 + sum(lengths) + info.compress_size)
            behind = file.read(8)
            (checksum,) = struct.unpack("<I", behind.removeprefix(b"PK\7\10")[:4].ljust(4, b"\0"))
            packed = size = 0xFFFFFFFF
    expected = [(info.CRC, checksum), (info.compress_size, packed), (info.file_size, size)]
    # All ones stand for a size that has more than four bytes, and is elsewhere.
    if checksum != info.CRC or any(known not in (found, 0xFFFFFFFF) for found, known in expected[1:]):
        raise BadInput(where, "content", "sizes and checksum as in the list of members", "others beside the member")


class _Bounded(FileIO):
    """A file of which nobody reads more at once than the list of members may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY:
            raise BadInput(str(self.name), "list of members", f"at most {DIRECTORY} bytes", size)
        return super().read(size) or b""


def _parts(info: ZipInfo, where: str) -> tuple[str, ...]:
    # The original name: the other one has been cut at a NUL, and has no backslashes on Windows.
    name = info.orig_filename
    parts = tuple(name.removesuffix("/").split("/"))
    harmless = all(part.rstrip(". ") and min(map(ord, part)) >= 32 and "\x7f" not in part for part in parts)
    if not harmless or "\\" in name or ":" in name:
        raise BadInput(where, "member", "a path below the archive's folder, with / between names", repr(name))
    return parts


def _require_plain(info: ZipInfo, where: str) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not info.is_dir()):
        found = "a link" if kind == stat.S_IFLNK else f"of kind {kind:o}"
        raise BadInput(where, "kind", "a file or a folder", found)
    if info.flag_bits & 0x2041:
        raise BadInput(where, "encryption", "none", "an encrypted member")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        hint = f"method {info.compress_type} (unpack it yourself, and name the folder)"
        raise BadInput(where, "packing", "stored or deflated", hint)


def _below(members: list[Member], name: str) -> list[Member]:
    """Members without the one folder that all lie in, if it bears the archive's name."""
    inside = [member for member in members if member.info.is_dir() or len(member.parts) > 1]
    if len(inside) < len(members) or {member.parts[0].casefold() for member in members} != {name.casefold()}:
        return members
    return [replace(member, parts=member.parts[1:]) for member in members if len(member.parts) > 1]


def _require_distinct(members: Sequence[Member], where: str) -> None:
    """No path twice, none that is file and folder, and none that some system takes for another."""
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    whole: set[tuple[str, ...]] = set()
    for member in members:
        parts, key = member.made, folded(member.made)
        for depth in range(1, len(parts)):
            if seen.setdefault(key[:depth], parts[:depth]) != parts[:depth] or key[:depth] in whole:
                raise BadInput(where, "member", "a path used once, whatever the case", repr("/".join(parts)))
        if member.info.is_dir():
            again = seen.setdefault(key, parts) != parts or key in whole
        else:
            again = key in seen
            whole.add(key)
            seen[key] = parts
        if again:
            raise BadInput(where, "member", "a path used once, whatever the case", repr("/".join(parts)))


def folded(parts: tuple[str, ...]) -> tuple[str, ...]:
    """A path as the least distinguishing of systems takes it."""
    return tuple(unicodedata.normalize("NFC", unicodedata.normalize("NFC", p).casefold()).rstrip(". ") for p in parts)


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # a damaged archive comes out of the reader as nearly any error
        reason = str(error) or type(error).__name__
        found = f"one that is cut short or damaged ({reason})"
        raise BadInput(where, "content", "a zip archive that is whole", found) from error


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Refuse what a disk refuses."""
    try:
        yield
    except OSError as error:
        raise BadInput(place, "file", "one that can be written", error.strerror or error) from error
