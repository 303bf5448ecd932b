"""Data sets as they are downloaded, archives and all, made one folder that an adapter can read.

What comes out::

    GIVEN                                          READ
    raw/EEG.zip (S1.mat ...)                       TARGET/EEG/S1.mat          members at the archive's root
    raw/audio.zip (audio/1.wav ...)                TARGET/audio/1.wav         members below a folder of its name
    raw/x.zip (other/1.wav)                        TARGET/x/other/1.wav       members below another folder
    raw/outer.zip (Cocktail Party.zip, ...)        TARGET/outer/Cocktail Party/...
    raw/S1.mat, raw/sub/S2.mat                     TARGET/S1.mat, TARGET/sub/S2.mat: links
    TARGET/.unpacked/                              what was unpacked from what, and what is being unpacked

Given is a folder that holds archives, or an archive: then ``TARGET/<its name>`` is read, as where a folder holds one
archive and nothing else. A folder without archives is read as it is. An archive whose files lie unpacked beside it, in
a folder of its name or loose, is left alone. Zip archives are looked for in the folder and two levels below.

Nothing given is ever changed. Links are symbolic; where a system forbids them, hard ones or copies. Names that begin
with a dot are not linked. What is refused of an archive, ``zips`` tells.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from eeg2speech.data.preparation.zips import (
    MEMBERS,
    Member,
    folded,
    identity,
    is_litter,
    is_zip,
    members_of,
    stem,
    unzip,
    writing,
)
from eeg2speech.errors import BadInput

LEVELS = 2
"""Folders below the one given in which archives are looked for."""
STATE = ".unpacked"
Told = Callable[[str], None]


def unpacked(path: Path, target: Path, progress: Told | None = None) -> Path:
    """The folder to read, after unpacking archives to ``target`` as the module tells.

    An archive that was unpacked before is not unpacked again; an interrupted call is gone on with. ``progress`` is
    called with each member's path.

    Raises:
        BadInput: nothing of that name, a file that is no zip archive, an archive that is refused, too little room, or a
            ``target`` that holds anything else than what comes of ``path``.
    """
    path, target = Path(path).absolute(), Path(target).absolute()
    if not path.exists():
        raise BadInput(path, "raw files", "a folder, or a zip archive", "nothing of that name")
    if path.is_dir() and not _archives(path, target):
        return path
    plan = _planned(path, target) if path.is_dir() else _alone(path)
    if not plan.archives:
        return path
    with writing(target):
        _Target(target).bring(plan, progress or (lambda text: None))
    alone = len(plan.archives) == 1 and not plan.links
    return target / next(iter(plan.archives)) if alone else target


@dataclass
class _Plan:
    """What a target is to hold: by its path there the archive it comes from, or the file it is a link to."""

    origin: Path
    archives: dict[str, Path] = field(default_factory=dict)
    links: dict[str, Path] = field(default_factory=dict)


def _alone(path: Path) -> _Plan:
    if not is_zip(path.name):
        raise BadInput(path, "raw files", "a folder, or a zip archive", "another file (unpack it, and name the folder)")
    return _Plan(path, {stem(path.name): path})


def _archives(path: Path, target: Path) -> list[Path]:
    """Archives in a folder and in those below it."""
    return [each for each in _files(path, target, LEVELS) if is_zip(each.name)]


def _planned(path: Path, target: Path) -> _Plan:
    plan = _Plan(path)
    for archive in _archives(path, target):
        if not _lies_unpacked(archive, members_of(archive)):
            plan.archives[(archive.parent / stem(archive.name)).relative_to(path).as_posix()] = archive
    _require_no_clash(plan)
    for each in _files(path, target) if plan.archives else ():
        if not is_zip(each.name):
            plan.links[each.relative_to(path).as_posix()] = each
        if len(plan.links) > MEMBERS:
            raise BadInput(path, "files beside archives", f"at most {MEMBERS}", "more (name a folder of the study)")
    return plan


def _files(folder: Path, target: Path, levels: int = 32, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Files below a folder, by name, through links but never in a circle, and without those in the target."""
    above |= {folder.resolve()}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(folder, "raw files", "a folder that can be read", error.strerror or error) from error
    for entry in entries:
        if entry.name.startswith(".") or is_litter(entry.name):
            continue
        if entry.is_file():
            yield entry
        elif entry.is_dir() and levels and entry.resolve() not in {*above, target.resolve()}:
            yield from _files(entry, target, levels - 1, above)


def _lies_unpacked(archive: Path, members: list[Member]) -> bool:
    """Whether all files of an archive lie beside it, loose or in a folder of its name."""
    files = [member for member in members if not member.info.is_dir()]
    folder = archive.parent / stem(archive.name)
    return all(_is_file(folder.joinpath(*each.parts), each.info.file_size) for each in files) or all(
        _is_file(archive.parent / each.info.filename, each.info.file_size) for each in files
    )


def _is_file(path: Path, size: int) -> bool:
    return os.path.isfile(path) and path.stat().st_size == size


def _require_no_clash(plan: _Plan) -> None:
    """Nothing lies beside an archive where its folder will be."""
    for place, archive in plan.archives.items():
        beside = {entry for entry in archive.parent.iterdir() if entry != archive}
        names = {folded((stem(each.name),) if is_zip(each.name) else (each.name,)) for each in beside}
        if folded((PurePosixPath(place).name,)) in names:
            expected = f"nothing else of the name {stem(archive.name)!r}, or all of its files, unpacked"
            raise BadInput(archive, "files beside it", expected, "something that is not what it holds")


class _Target:
    """The folder that is made. ``state`` says what of it was made by us: there is nothing else in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.work = root, root / STATE
        self.path = self.work / "state.json"
        self.state: dict[str, Any] = {"archives": {}, "links": {}}

    def bring(self, plan: _Plan, told: Told) -> None:
        """Make it hold what is planned. Raises BadInput."""
        from filelock import FileLock

        self._require_ours()
        self.work.mkdir(parents=True, exist_ok=True)
        with FileLock(self.work / "lock"):
            self._read_state()
            for gone in self.state["archives"].keys() - plan.archives.keys():
                raise self._refused(self.root, f"what comes of {plan.origin}", f"{gone!r} of something else")
            known = {place: members_of(archive) for place, archive in plan.archives.items()}
            self._link(plan.links)
            for place, archive in plan.archives.items():
                self._unpack(place, archive, known[place], told)

    def _require_ours(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise self._refused(self.root, "a folder", "a file")
        if self.root.exists() and not self.work.is_dir() and any(self.root.iterdir()):
            raise self._refused(self.root, "an empty folder, or one that archives were unpacked to", "other files")

    def _read_state(self) -> None:
        if not self.path.exists():
            return
        try:
            state = json.loads(self.path.read_text())
            self.state = {name: dict(state[name]) for name in self.state}
        except (ValueError, KeyError, TypeError) as error:
            raise self._refused(self.path, "JSON of archives and links", "damage") from error

    def _keep_state(self) -> None:
        partial = self.path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.state))
        partial.replace(self.path)

    def _unpack(self, place: str, archive: Path, members: list[Member], told: Told) -> None:
        name, folder = identity(members), self.root / place
        before = self.state["archives"].get(place)
        if os.path.lexists(folder):
            self._require_same(folder, before, name)
            return
        partial = self._partial(name)
        self._require_room(archive, members, partial)
        unzip(archive, partial, self.work / "scratch", told)
        self.state["archives"][place] = {"identity": name, "content": _counted(partial)}
        # Before the folder has its name: what has it and is not in the state is not ours.
        self._keep_state()
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)
        shutil.rmtree(self.work / "scratch")

    def _require_same(self, folder: Path, before: dict[str, Any] | None, name: str) -> None:
        if before is None:
            raise self._refused(folder, "nothing, for an archive is to be unpacked there", "other files")
        if before.get("identity") != name:
            raise self._refused(folder, "files of the archive that is there now", "those of another one of its name")
        if before.get("content") != _counted(folder):
            raise self._refused(folder, "files as they were unpacked", "missing, further or changed ones")

    def _partial(self, name: str) -> Path:
        """The folder of an archive that is not whole yet; those of others are taken away."""
        partial = self.work / f"{name}.partial"
        for other in self.work.glob("*.partial"):
            if other != partial:
                shutil.rmtree(other)
        return partial

    def _require_room(self, archive: Path, members: list[Member], partial: Path) -> None:
        waiting = (m for m in members if not _is_file(partial.joinpath(*m.parts), m.info.file_size))
        needed, free = sum(member.info.file_size for member in waiting), shutil.disk_usage(self.work).free
        if needed > free:
            raise BadInput(self.root, "free space", f"{needed} bytes for {archive.name}", f"{free} bytes")

    def _link(self, links: dict[str, Path]) -> None:
        ours = self.state["links"]
        for place in [*ours]:
            if place not in links:
                (self.root / place).unlink(missing_ok=True)
        self.state["links"] = dict.fromkeys(links, True)
        stale = [place for place, source in links.items() if not _same(self.root / place, source)]
        for place in stale:
            if place not in ours and os.path.lexists(self.root / place):
                raise self._refused(self.root / place, "nothing, for a link is to be there", "another file")
        if stale or ours.keys() != links.keys():
            self._keep_state()
        for place in stale:
            _link(links[place], self.root / place, self.work / "link")

    def _refused(self, where: Path, expected: str, found: str) -> BadInput:
        return BadInput(where, "unpacked files", expected, f"{found} (delete {self.root}, or name another folder)")


def _counted(folder: Path) -> list[int]:
    """How many files a folder holds, and how many bytes they have."""
    sizes = [each.lstat().st_size for each in folder.rglob("*") if not each.is_dir()]
    return [len(sizes), sum(sizes)]


def _same(place: Path, source: Path) -> bool:
    """Whether a file is the other one, or a copy of it that is not older."""
    if not place.is_file():
        return False
    here, there = place.stat(), source.stat()
    return place.samefile(source) or (here.st_size, here.st_mtime) == (there.st_size, there.st_mtime)


def _link(source: Path, place: Path, partial: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    for make in (os.symlink, os.link, shutil.copy2):
        partial.unlink(missing_ok=True)
        try:
            make(source, partial)
            break
        except (OSError, NotImplementedError) as error:
            refusal = error
    else:
        raise BadInput(place, "file", "a link or a copy that can be made", refusal) from refusal
    os.replace(partial, place)
