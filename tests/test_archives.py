import os
import shutil
import stat
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fuzz import damaged

from eeg2speech.data.preparation import archives, zips
from eeg2speech.data.preparation.archives import unpacked
from eeg2speech.errors import BadInput

Content = dict[str, bytes]


def zipped(content: Content, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names given twice
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def laid(root: Path, content: Content) -> Path:
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def tree(root: Path) -> Content:
    """Files below a folder, as an adapter sees them."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and archives.STATE not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def noise(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


# Layouts as they are downloaded


def test_a_folder_without_archives_is_read_as_it_is(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"S1.mat": b"1", "sub/S2.mat": b"2", ".zip": b"no archive", "._x.zip": b"litter"})
    assert unpacked(raw, tmp_path / "target") == raw
    assert not (tmp_path / "target").exists()


def test_kul_archive_beside_plain_files(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"stimuli.zip": zipped({"stimuli/part1.wav": b"w"}), "S1.mat": b"1"})
    folder = unpacked(raw, tmp_path / "target")
    assert tree(folder) == {"S1.mat": b"1", "stimuli/part1.wav": b"w"}
    assert (folder / "S1.mat").is_symlink() and not (folder / "stimuli/part1.wav").is_symlink()


def test_dtu_members_at_the_root_of_archives(tmp_path: Path) -> None:
    packed = {
        "EEG.zip": {"S1.mat": b"1", "S2.mat": b"2"},
        "AUDIO.zip": {"aske.wav": b"a"},
        "DATA_preproc.ZIP": {"S1_data_preproc.mat": b"p"},
    }
    raw = laid(tmp_path / "raw", {name: zipped(content) for name, content in packed.items()})
    expected = {
        "AUDIO/aske.wav": b"a",
        "DATA_preproc/S1_data_preproc.mat": b"p",
        "EEG/S1.mat": b"1",
        "EEG/S2.mat": b"2",
    }
    assert tree(unpacked(raw, tmp_path / "target")) == expected


def test_broderick_archives_in_an_archive(tmp_path: Path) -> None:
    inner = zipped({"Cocktail Party/EEG/Subject1/Subject1_Run1.mat": b"e"})
    reverse = zipped({"EEG/x.mat": b"r"}, zipfile.ZIP_STORED)
    given = laid(
        tmp_path,
        {
            "doi_10.5061__v3.zip": zipped(
                {"Cocktail Party.zip": inner, "Natural Speech.zip": reverse, "README.txt": b"t"}
            )
        },
    )
    folder = unpacked(given / "doi_10.5061__v3.zip", tmp_path / "target")
    assert folder == tmp_path / "target" / "doi_10.5061__v3"
    assert tree(folder) == {
        "Cocktail Party/EEG/Subject1/Subject1_Run1.mat": b"e",
        "Natural Speech/EEG/x.mat": b"r",
        "README.txt": b"t",
    }
    assert not [*(tmp_path / "target").rglob("*.zip")]


def test_brennan_with_what_macos_adds(tmp_path: Path) -> None:
    proc = zipped({"proc/": b"", "proc/S01.mat": b"p", "__MACOSX/proc/._S01.mat": b"x", "proc/.DS_Store": b"x"})
    audio = zipped({"audio/1.wav": b"a", "__MACOSX/._audio": b"x"})
    raw = laid(
        tmp_path / "raw", {"proc.zip": proc, "audio.zip": audio, "S01.mat": b"s", "._S01.mat": b"x", "A.csv": b"c"}
    )
    expected = {"A.csv": b"c", "S01.mat": b"s", "audio/1.wav": b"a", "proc/S01.mat": b"p"}
    assert tree(unpacked(raw, tmp_path / "target")) == expected


def test_a_folder_of_another_name_stays_and_one_of_other_case_does_not(tmp_path: Path) -> None:
    raw = laid(
        tmp_path / "raw", {"EEG.zip": zipped({"eeg/S1.mat": b"1"}), "x.zip": zipped({"other/S2.mat": b"2"}), "a": b""}
    )
    assert tree(unpacked(raw, tmp_path / "target")) == {"EEG/S1.mat": b"1", "a": b"", "x/other/S2.mat": b"2"}


def test_archives_in_folders_below(tmp_path: Path) -> None:
    deep = {"a/b/x.zip": zipped({"1": b"1"}), "a/2": b"2", "a/b/c/d/e/3": b"3"}
    raw = laid(tmp_path / "raw", deep)
    assert tree(unpacked(raw, tmp_path / "target")) == {"a/2": b"2", "a/b/c/d/e/3": b"3", "a/b/x/1": b"1"}


def test_a_folder_of_one_archive_is_read_as_the_archive(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"all.zip": zipped({"S1.mat": b"1", "stimuli.zip": zipped({"1.wav": b"w"})})})
    folder = unpacked(raw, tmp_path / "target")
    assert folder == tmp_path / "target" / "all" and tree(folder) == {"S1.mat": b"1", "stimuli/1.wav": b"w"}


def test_archives_that_lie_unpacked_beside_are_left_alone(tmp_path: Path) -> None:
    content = {"stimuli.zip": zipped({"stimuli/1.wav": b"w"}), "EEG.zip": zipped({"S1.mat": b"1"})}
    raw = laid(tmp_path / "raw", content | {"stimuli/1.wav": b"w", "stimuli/own.txt": b"t", "S1.mat": b"1"})
    assert unpacked(raw, tmp_path / "target") == raw
    (raw / "stimuli" / "1.wav").write_bytes(b"cut short"[:0])
    with pytest.raises(BadInput, match=r"stimuli\.zip: files beside it"):
        unpacked(raw, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_folders_that_are_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1"}), "sub/2": b"2"})
    laid(tmp_path / "disk", {"3": b"3"})
    (raw / "far").symlink_to(tmp_path / "disk")
    (raw / "sub" / "up").symlink_to(raw)
    (raw / "gone").symlink_to(tmp_path / "nothing")
    assert tree(unpacked(raw, tmp_path / "target")) == {"far/3": b"3", "sub/2": b"2", "x/1": b"1"}


def test_a_target_in_the_folder_given_is_not_read(tmp_path: Path) -> None:
    raw = laid(tmp_path, {"x.zip": zipped({"1": b"1"}), "y": b"y"})
    first = tree(unpacked(raw, raw / "target"))
    assert tree(unpacked(raw, raw / "target")) == first == {"x/1": b"1", "y": b"y"}


def test_without_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, place: object) -> None:
        raise OSError("not here")

    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1"}), "S1.mat": b"1"})
    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        folder = unpacked(raw, tmp_path / "target")
        assert tree(folder) == {"S1.mat": b"1", "x/1": b"1"} and not (folder / "S1.mat").is_symlink()
    (raw / "S1.mat").write_bytes(b"newer")
    assert tree(unpacked(raw, tmp_path / "target"))["S1.mat"] == b"newer"


# Once, and whole


def test_what_is_given_stays_as_it_is(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1"}), "S1.mat": b"1"})
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in raw.iterdir()}
    unpacked(raw, tmp_path / "target")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in raw.iterdir()} == before


def test_a_second_call_reads_no_member_and_follows_plain_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1"}), "S1.mat": b"1"})
    unpacked(raw, tmp_path / "target")
    monkeypatch.setattr(archives, "unzip", None)
    (raw / "S1.mat").rename(raw / "S2.mat")
    assert tree(unpacked(raw, tmp_path / "target")) == {"S2.mat": b"1", "x/1": b"1"}
    raw.rename(tmp_path / "moved")
    assert tree(unpacked(tmp_path / "moved", tmp_path / "target")) == {"S2.mat": b"1", "x/1": b"1"}


class Interrupted(Exception):
    pass


def test_an_interrupted_call_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {f"S{k}.mat": noise(1000, k) for k in range(6)}
    given = laid(tmp_path, {"outer.zip": zipped({"EEG.zip": zipped(content), "z.txt": b"z"})}) / "outer.zip"
    written: list[str] = []
    write = zips._write

    def counted(archive: object, info: zipfile.ZipInfo, *rest: object) -> None:
        write(archive, info, *rest)  # type: ignore[arg-type]
        written.append(info.filename)

    def stop(text: str) -> None:
        if text.endswith("S3.mat"):
            raise Interrupted

    monkeypatch.setattr(zips, "_write", counted)
    with pytest.raises(Interrupted):
        unpacked(given, tmp_path / "target", stop)
    assert tree(tmp_path / "target") == {}
    folder = unpacked(given, tmp_path / "target")
    assert tree(folder) == {f"EEG/{name}": data for name, data in content.items()} | {"z.txt": b"z"}
    assert [name for name in written if name.endswith(".mat")] == [*content]


@pytest.mark.parametrize("moment", range(12))
def test_whenever_a_call_is_interrupted_the_next_one_is_whole(
    tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = laid(
        tmp_path / "raw", {"a.zip": zipped({"1": b"1", "2": b"2"}), "b.zip": zipped({"3": b"3"}), "S1.mat": b"s"}
    )
    left = [moment]
    for module, name in ((os, "replace"), (Path, "rename"), (Path, "replace"), (os, "symlink")):
        monkeypatch.setattr(module, name, _failing(getattr(module, name), left))
    with suppress(Interrupted):
        unpacked(raw, tmp_path / "target")
    monkeypatch.undo()
    assert tree(unpacked(raw, tmp_path / "target")) == {"S1.mat": b"s", "a/1": b"1", "a/2": b"2", "b/3": b"3"}


def _failing(function: Callable, left: list[int]) -> Callable:
    def called(*args: object) -> object:
        left[0] -= 1
        if left[0] == -1:
            raise Interrupted
        return function(*args)

    return called


def test_another_archive_of_the_same_name_is_not_taken_for_the_first(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1"}), "y": b""})
    unpacked(raw, tmp_path / "target")
    laid(raw, {"x.zip": zipped({"1": b"2"})})
    with pytest.raises(BadInput, match=r"target/x: unpacked files: expected files of the archive that is there now"):
        unpacked(raw, tmp_path / "target")


@pytest.mark.parametrize("change", ["gone", "further", "other size"])
def test_unpacked_files_that_someone_changed_are_refused(tmp_path: Path, change: str) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1", "2": b"2"})})
    folder = unpacked(raw, tmp_path / "target")
    if change == "gone":
        (folder / "1").unlink()
    else:
        laid(folder, {"3" if change == "further" else "1": b"33"})
    with pytest.raises(BadInput, match=r"expected files as they were unpacked.*delete .*target"):
        unpacked(raw, tmp_path / "target")


@pytest.mark.parametrize("foreign", ["notes.txt", "x/1", "S1.mat"])
def test_nothing_that_is_there_is_overwritten(tmp_path: Path, foreign: str) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1"}), "S1.mat": b"1"})
    laid(tmp_path / "target", {foreign: b"own"})
    for _ in range(2):
        with pytest.raises(BadInput, match="unpacked files: expected an empty folder"):
            unpacked(raw, tmp_path / "target")
        assert tree(tmp_path / "target") == {foreign: b"own"}
    if foreign != "notes.txt":
        (tmp_path / "target" / archives.STATE).mkdir()
        with pytest.raises(BadInput, match="unpacked files: expected nothing"):
            unpacked(raw, tmp_path / "target")
        assert tree(tmp_path / "target")[foreign] == b"own"


def test_a_target_of_another_data_set_is_refused(tmp_path: Path) -> None:
    one = laid(tmp_path / "one", {"x.zip": zipped({"1": b"1"}), "S1.mat": b"1"})
    two = laid(tmp_path / "two", {"y.zip": zipped({"1": b"1"}), "S1.mat": b"2"})
    unpacked(one, tmp_path / "target")
    with pytest.raises(BadInput, match="found 'x' of something else"):
        unpacked(two, tmp_path / "target")
    assert tree(unpacked(one, tmp_path / "target")) == {"S1.mat": b"1", "x/1": b"1"}


def test_a_damaged_state_and_a_file_as_target_are_refused(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": b"1"}), "S1.mat": b"1"})
    unpacked(raw, tmp_path / "target")
    for text in ("{", "[]", "{}", '{"archives": 1, "links": {}}'):
        (tmp_path / "target" / archives.STATE / "state.json").write_text(text)
        with pytest.raises(BadInput, match=r"state\.json: unpacked files: expected JSON"):
            unpacked(raw, tmp_path / "target")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="expected a folder, found a file"):
        unpacked(raw, tmp_path / "file")


def test_too_little_room_is_told_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"1": bytes(5000)})})
    usage = shutil.disk_usage(tmp_path)._replace(free=4000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BadInput, match=r"free space: expected 5000 bytes for x\.zip, found 4000 bytes"):
        unpacked(raw, tmp_path / "target")


def test_a_disk_that_does_not_take_a_file_is_told(tmp_path: Path) -> None:
    raw = laid(tmp_path / "raw", {"x.zip": zipped({"a" * 300: b"1"})})
    with pytest.raises(BadInput, match="file: expected one that can be written"):
        unpacked(raw, tmp_path / "target")


# What is refused


def refused(root: Path, archive: bytes, match: str, name: str = "x.zip") -> None:
    given = laid(root, {name: archive, "outside": b"safe"}) / name
    with pytest.raises(BadInput, match=match) as refusal:
        unpacked(given, root / "target")
    assert refusal.value.where.startswith(str(root))
    assert tree(root / "target") == {} and tree(root) == {name: archive, "outside": b"safe"}


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "a/../../outside",
        "/outside",
        "//host/x",
        "C:/x",
        "c:x",
        "a\\..\\..\\x",
        "..\\outside",
        "a//b",
        ".",
        "..",
        "./a",
        "a/.. /b",
        " ",
        "...",
        "a\x01",
        "a\x7f",
        "a:stream",
    ],
)
def test_a_member_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, zipped({"first": b"1", name: b"2"}), "member: expected a path below")


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, zipped({"a_.zip": b"2"}).replace(b"a_.zip", b"a\0.zip"), "member: expected a path below")


def with_mode(mode: int, name: str = "link") -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "match"),
    [(stat.S_IFLNK, "found a link"), (stat.S_IFIFO, "kind"), (stat.S_IFCHR, "kind"), (stat.S_IFDIR, "kind")],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: int, match: str) -> None:
    refused(tmp_path, with_mode(kind | 0o777), match)


CLASHES = [
    ("a", "a"),
    ("S1.mat", "s1.MAT"),
    ("d/x", "D/y"),
    ("d", "d/x"),
    ("d/x", "d"),
    ("d/", "d"),
    ("d", "d/"),
    ("a", "a."),
    ("a ", "a"),
    ("\u00e9", "e\u0301"),
    ("x.zip", "x/1"),
    ("x/1", "x.zip"),
    ("x.zip", "X"),
    ("stra\u00dfe", "STRASSE"),
]


@pytest.mark.parametrize("names", CLASHES)
def test_names_that_some_system_takes_for_one_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for name in names:
            archive.writestr(name, "" if name.endswith("/") else zipped({"1": b"1"}))
    refused(tmp_path, buffer.getvalue(), "member: expected a path used once", "y.zip")


def test_a_folder_that_is_named_twice_is_no_clash(tmp_path: Path) -> None:
    given = laid(tmp_path, {"x.zip": zipped({"d/": b"", "d/1": b"1", "d/e/": b"", "f/2": b"2"})}) / "x.zip"
    folder = unpacked(given, tmp_path / "target")
    assert tree(folder) == {"d/1": b"1", "f/2": b"2"} and (folder / "d/e").is_dir()


@pytest.mark.parametrize("bit", [0x1, 0x40, 0x2000])
def test_encrypted_members_are_refused(tmp_path: Path, bit: int) -> None:
    archive = bytearray(zipped({"a": b"1"}))
    for place in (archive.find(b"PK\x03\x04") + 6, archive.find(b"PK\x01\x02") + 8):
        struct.pack_into("<H", archive, place, struct.unpack_from("<H", archive, place)[0] | bit)
    refused(tmp_path, bytes(archive), r"x\.zip/a: encryption: expected none")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_whose_reader_has_no_bound_is_refused(tmp_path: Path, method: int) -> None:
    refused(tmp_path, zipped({"a": b"1" * 100}, method), "packing: expected stored or deflated")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_byte_that_differs_from_its_checksum_is_refused(tmp_path: Path, method: int) -> None:
    archive = bytearray(zipped({"a": noise(1000), "b": noise(1000, 1)}, method))
    archive[archive.find(b"PK\x03\x04", 10) + 500] ^= 1
    refused(tmp_path, bytes(archive), r"x\.zip/b: content: expected a zip archive that is whole.*")


def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, zipped({"a": noise(1000)})[:-30], r"x\.zip: content: expected a zip archive that is whole")
    inner = zipped({"a": noise(1000)})[:-30]
    shutil.rmtree(tmp_path / "target", ignore_errors=True)
    refused(tmp_path, zipped({"in.zip": inner}), r"x\.zip/in\.zip: content: expected a zip archive that is whole")


@pytest.mark.parametrize(("name", "content"), [("data.tar.gz", b"\x1f\x8b"), ("notes.txt", b"text")])
def test_another_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    refused(tmp_path, content, "raw files: expected a folder, or a zip archive", name)
    with pytest.raises(BadInput, match="found nothing of that name"):
        unpacked(tmp_path / "nothing", tmp_path / "target")


# Bombs


def test_a_bomb_is_refused_by_what_it_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "SMALL", 1 << 16)
    archive = zipped({"a": bytes(1 << 20)})
    assert len(archive) * zips.RATIO < 1 << 20
    refused(
        tmp_path, archive, r"unpacked size: expected at most .* bytes, 100 times the archive's, found 1048576 bytes"
    )


def test_a_bomb_that_claims_little_is_refused_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "SMALL", 1 << 16)
    monkeypatch.setattr(zips.Budget, "admit", lambda *_: None)
    refused(tmp_path, zipped({"a": bytes(1 << 20)}), "unpacked size: expected at most")


def test_a_member_longer_than_it_claims_is_refused(tmp_path: Path) -> None:
    archive = bytearray(zipped({"a": bytes(1 << 20)}))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", archive, archive.find(signature) + place, 100)
    refused(tmp_path, bytes(archive), "content: expected a zip archive that is whole")


def test_archives_in_archives_share_one_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "SMALL", 1 << 16)
    inner = zipped({"a": bytes(30_000)})
    refused(tmp_path, zipped({f"{k}.zip": inner for k in range(3)}), "unpacked size")


def test_archives_in_archives_in_archives_have_an_end(tmp_path: Path) -> None:
    archive = zipped({"1": b"1"})
    for _ in range(zips.DEPTH - 1):
        archive = zipped({"x.zip": archive})
    laid(tmp_path, {"ok.zip": archive})
    assert tree(unpacked(tmp_path / "ok.zip", tmp_path / "fine")) == {"x/x/1": b"1"}
    shutil.rmtree(tmp_path / "fine")
    (tmp_path / "ok.zip").unlink()
    refused(tmp_path, zipped({"x.zip": archive}), "archives in archives: expected at most 3, found 4")


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    archive = zipped({name: noise(1000) for name in "ab"}, zipfile.ZIP_STORED)
    second = archive.find(b"PK\x03\x04", 4)
    directory = archive.find(b"PK\x01\x02")
    shared = bytearray(archive[:second] + archive[directory:])
    entry = shared.find(b"PK\x01\x02", second + 4)
    struct.pack_into("<I", shared, entry + 42, 0)
    struct.pack_into("<I", shared, len(shared) - 6, second)
    refused(tmp_path, bytes(shared), "packed size: expected at most the archive's")


def test_many_members_and_a_long_list_of_them_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped({str(k): b"" for k in range(50)})
    monkeypatch.setattr(zips, "MEMBERS", 40)
    refused(tmp_path, archive, "members: expected 1 to 40, found 50")
    refused(tmp_path, zipped({}), "members: expected 1 to 40, found 0")
    refused(
        tmp_path,
        zipped({f"{k}.zip": zipped({str(j): b"" for j in range(30)}) for k in range(2)}),
        "members: expected at most 40",
    )
    monkeypatch.setattr(zips, "DIRECTORY", 1000)
    refused(tmp_path, archive, "list of members: expected at most 1000 bytes")


def test_archives_of_very_many_members_and_those_with_a_comment_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)  # from where on the count is in a record of its own
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for k in range(20):
            archive.writestr(str(k), b"")
        archive.comment = b"c" * 65_535
    assert b"PK\6\6" in (tmp_path / "many.zip").read_bytes()
    assert len(zips.members_of(tmp_path / "many.zip")) == 20


def test_a_list_that_hides_members_is_refused(tmp_path: Path) -> None:
    archive = bytearray(zipped({"a": b"1", "b": b"2"}))
    struct.pack_into("<H", archive, archive.find(b"PK\x01\x02") + 32, 60_000)  # length of the comment of the first
    refused(tmp_path, bytes(archive), "list of members: expected 2 members, as the archive's end says, found 1")


class Stream(BytesIO):
    """To which nothing is written twice."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError

    def seek(self, *place: int) -> int:
        raise OSError


def streamed(content: Content, large: bool) -> bytes:
    buffer = Stream()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            with archive.open(name, "w", force_zip64=large) as file:
                file.write(data)
    return buffer.getvalue()


@pytest.mark.parametrize("large", [False, True])
def test_archives_written_as_a_stream_are_read(tmp_path: Path, large: bool) -> None:
    content = {"a": noise(100), "b/c": b"", "d": b"1"}
    given = laid(tmp_path, {"x.zip": streamed(content, large)}) / "x.zip"
    assert tree(unpacked(given, tmp_path / "target")) == content


@pytest.mark.parametrize("as_stream", [False, True])
def test_a_member_whose_entry_was_zeroed_is_not_an_empty_file(tmp_path: Path, as_stream: bool) -> None:
    content = {"a": noise(100), "b": noise(50)}
    archive = bytearray(streamed(content, False) if as_stream else zipped(content))
    entry = archive.find(b"PK\x01\x02")
    archive[entry + 16 : entry + 28] = bytes(12)
    refused(tmp_path, bytes(archive), r"x\.zip/a: content: expected sizes and checksum as in the list")


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    given = laid(tmp_path, {"x.zip": zipped({"a": bytes(1 << 26), "b": noise(1 << 23)})}) / "x.zip"
    tracemalloc.start()
    unpacked(given, tmp_path / "target")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


# Fuzz


CONTENT = {
    "EEG/S1.mat": b"eeg " * 30,
    "EEG/S2.mat": noise(60),
    "read me.txt": b"",
    "s.zip": zipped({"1.wav": b"wav " * 9}),
}


@pytest.mark.parametrize("as_stream", [False, True])
def test_a_damaged_archive_is_refused_or_all_of_it_comes_out(tmp_path: Path, as_stream: bool) -> None:
    archive = streamed(CONTENT, False) if as_stream else zipped(CONTENT)
    expected = {name: data for name, data in CONTENT.items() if name != "s.zip"} | {"s/1.wav": b"wav " * 9}
    given, target = tmp_path / "x.zip", tmp_path / "target"
    read = 0
    for case, content in enumerate(damaged(archive, 1000, seed=int(as_stream))):
        given.write_bytes(content)
        try:
            found = tree(unpacked(given, target))
            assert found == expected, case
            read += 1
        except BadInput as refusal:
            assert tree(target) == {}, case
            assert "\n" not in refusal.found
        shutil.rmtree(target, ignore_errors=True)
        assert {path.name for path in tmp_path.iterdir()} == {"x.zip"}, case
    assert 0 < read < 300
