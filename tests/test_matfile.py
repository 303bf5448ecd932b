"""The reader of MATLAB's files: as scipy's on whole files, and never worse than a refusal on others."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import damaged
from scipy import io, sparse

from eeg2speech.data.preparation.matfile import Struct, load, shapes
from eeg2speech.data.preparation.matlab import field, matlab, text, variables
from eeg2speech.errors import BadInput


def cell(*values: Any) -> np.ndarray:
    made = np.empty((1, len(values)), object)
    for k, value in enumerate(values):
        made[0, k] = value
    return made


def structs() -> np.ndarray:
    made = np.empty((2, 3), [("sample", object), ("value", object)])
    for k in range(6):
        made[k // 3, k % 3] = (float(k), cell(f"text {k}"))
    return made


CONTENT: dict[str, Any] = {
    **{f"number_{kind}": np.arange(-3, 9).reshape(4, 3).astype(kind) for kind in ("f4", "f8", "i1", "i2", "i4", "i8")},
    **{f"positive_{kind}": np.arange(12).reshape(2, 2, 3).astype(kind) for kind in ("u1", "u2", "u4", "u8")},
    "complex": np.array([[1 + 2j, 3 - 4j]]),
    "logical": np.array([[True, False]]),
    "one": 3.5,
    "empty": np.zeros((0, 3)),
    "text": "part1_track1_dry.wav",
    "letters": "Æøå ≥ 3",
    "rows_of_text": np.array(["abc", "defgh"]),
    "no_text": "",
    "cells": cell(1.0, "x", cell(cell(), np.eye(3)), np.zeros((0, 0))),
    "struct": {"a": 1.0, "b": {"c": "deep", "d": cell(1.0, 2.0)}, "a_name_longer_than_eight": np.eye(2)},
    "structs": structs(),
}


def require_equal(found: Any, expected: Any) -> None:
    """Of this reader and of scipy's."""
    if hasattr(expected, "_fieldnames"):
        assert found._fieldnames == expected._fieldnames
        for name in expected._fieldnames:
            require_equal(getattr(found, name), getattr(expected, name))
        return
    assert found.dtype.kind == expected.dtype.kind
    if not expected.size and expected.dtype.kind == "U":
        assert not found.size
        return
    assert found.shape == expected.shape and found.dtype == expected.dtype
    if expected.dtype.kind == "O":
        for one, other in zip(found.ravel(), expected.ravel(), strict=True):
            require_equal(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("name", CONTENT)
def test_variables_are_read_as_scipy_reads_them(tmp_path: Path, name: str, compress: bool) -> None:
    path = tmp_path / "x.mat"
    io.savemat(path, CONTENT, do_compression=compress)
    expected = io.loadmat(path, struct_as_record=False)
    require_equal(load(path, [name])[name], expected[name])
    assert shapes(path)[name] == expected[name].shape or name in ("text", "letters", "rows_of_text", "no_text")
    assert [*shapes(path)] == [*CONTENT] and [*load(path, ["one", "nothing"])] == ["one"]


def test_signals_keep_their_precision_and_can_be_written_to(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).standard_normal((70_000, 64)).astype(np.float32)
    for compress in (True, False):
        io.savemat(tmp_path / "x.mat", {"eeg": signal, "more": 1.0}, do_compression=compress)
        found = load(tmp_path / "x.mat", ["eeg"])["eeg"]
        assert found.dtype == np.float32 and found.flags.f_contiguous and found.flags.writeable
        np.testing.assert_array_equal(found, signal)


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def header(kind: int, name: str, shape: tuple[int, ...], order: str = "<") -> bytes:
    told = element(5, struct.pack(f"{order}{len(shape)}i", *shape), order) if shape else b""
    return element(6, struct.pack(f"{order}II", kind, 0), order) + told + element(1, name.encode(), order)


def written(path: Path, *elements: bytes, order: str = "<") -> Path:
    mark = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + mark + b"".join(elements))
    return path


DOUBLE, CELL_CLASS, CHAR_CLASS, STRUCT_CLASS, OPAQUE = 6, 1, 4, 2, 17


def test_both_orders_of_bytes_are_read(tmp_path: Path) -> None:
    for order in "<>":
        numbers = header(DOUBLE, "a", (1, 3), order) + element(9, struct.pack(f"{order}3d", 1, 2, 3), order)
        words = header(CHAR_CLASS, "b", (1, 2), order) + element(4, struct.pack(f"{order}2H", 0x41, 0x2265), order)
        path = written(tmp_path / "x.mat", element(14, numbers, order), element(14, words, order), order=order)
        found = load(path, ["a", "b"])
        np.testing.assert_array_equal(found["a"], [[1, 2, 3]])
        assert found["a"].dtype.isnative and text(path, found["b"], "b") == "A≥"


def test_what_is_not_read_is_none_within_and_refused_as_a_variable(tmp_path: Path) -> None:
    table = element(14, header(OPAQUE, "t", ()) + element(1, b"MCOS") + element(1, b"table") + element(14, b""))
    both = element(14, header(DOUBLE, "", (1, 1)) + element(9, struct.pack("<d", 7)))
    cells = element(14, header(CELL_CLASS, "c", (1, 2)) + table + both)
    path = written(tmp_path / "x.mat", table, cells)
    assert shapes(path) == {"t": (), "c": (1, 2)}
    first, second = load(path, ["c"])["c"][0]
    assert first is None and second == 7
    with pytest.raises(BadInput, match="a table, an object or a sparse matrix: export it"):
        matlab(path, ["t"])
    io.savemat(path, {"s": sparse.csc_array(np.eye(3))})
    with pytest.raises(BadInput, match="a table, an object or a sparse matrix: export it"):
        matlab(path, ["s"])


def packed(data: bytes) -> bytes:
    made = zlib.compress(data)
    return struct.pack("<II", 15, len(made)) + made


ONE = element(14, header(DOUBLE, "a", (1, 1)) + element(9, struct.pack("<d", 1)))
WRONG: dict[str, tuple[bytes, ...]] = {
    "longer or shorter than told": (element(14, header(DOUBLE, "a", (1, 1)) + element(9, bytes(8)) + bytes(16)),),
    "8 bytes for 2 numbers": (element(14, header(DOUBLE, "a", (1, 2)) + element(9, bytes(8))),),
    "an element of kind 99 where numbers": (element(14, header(DOUBLE, "a", (1, 1)) + element(99, bytes(8))),),
    "larger than its room": (element(14, header(DOUBLE, "a", (1, 1)) + struct.pack("<II", 9, 2**32 - 1)),),
    "a shape of": (element(14, header(DOUBLE, "a", (-1, 1)) + element(9, b"")),),
    "a shape that is none": (element(14, header(DOUBLE, "a", (1,)) + element(9, bytes(8))),),
    "more elements than there is room": (element(14, header(CELL_CLASS, "a", (2**28, 1)) + bytes(64)),),
    "elements without content": (
        element(14, header(STRUCT_CLASS, "a", (2**28, 1)) + element(5, struct.pack("<i", 8)) + element(1, b"")),
    ),
    "a field that is there twice": (
        element(14, header(STRUCT_CLASS, "a", (1, 1)) + element(5, struct.pack("<i", 1)) + element(1, b"xx")),
    ),
    "names of fields": (
        element(14, header(STRUCT_CLASS, "a", (1, 1)) + element(5, struct.pack("<i", 0)) + element(1, b"xx")),
    ),
    "3 characters for 2": (element(14, header(CHAR_CLASS, "a", (1, 2)) + element(16, b"abc")),),
    "cut short, or holds something else": (element(9, bytes(8)),),
    "cut short": (packed(ONE)[:-6], b"\x00" * 6),
    "incorrect data check": (packed(ONE)[:-1] + b"\xff",),
    "bytes that belong to nothing": (packed(ONE + bytes(8)),),
    "holds something else than variables": (packed(element(9, bytes(8))),),
}


@pytest.mark.parametrize("told", WRONG)
def test_files_that_lie_of_themselves_are_refused(tmp_path: Path, told: str) -> None:
    path = written(tmp_path / "x.mat", *WRONG[told])
    with pytest.raises(BadInput, match="x.mat: content: expected a MATLAB file"):
        matlab(path, ["a"])
    with pytest.raises((ValueError, zlib.error), match=None if told == "cut short" else told):
        load(path, ["a"])


def test_matrices_in_each_other_are_limited(tmp_path: Path) -> None:
    made = ONE
    for _ in range(40):
        made = element(14, header(CELL_CLASS, "a", (1, 1)) + made)
    with pytest.raises(BadInput, match="more than 32 matrices in each other"):
        matlab(written(tmp_path / "x.mat", made), ["a"])


def test_no_claim_takes_memory(tmp_path: Path) -> None:
    """Neither of a length, nor of what little packed bytes become."""
    claims = element(14, header(DOUBLE, "a", (2**31 - 1, 2**31 - 1)) + struct.pack("<II", 9, 2**32 - 8))
    bomb = packed(element(14, header(CHAR_CLASS, "a", (1, 1 << 24)) + element(2, bytes(1 << 24)))[:-32])
    tracemalloc.start()
    for each in (claims, packed(claims), bomb):
        with pytest.raises(BadInput):
            matlab(written(tmp_path / "x.mat", each), ["a"])
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content", [b"", b"x", b"x" * 128, b"\0" * 1000, b"MATLAB 5.0", b"\x89HDF\r\n\x1a\n" + bytes(600)]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    for read in (lambda: variables(path), lambda: matlab(path, ["a"])):
        with pytest.raises(BadInput, match=r"a MATLAB file \(v5 to v7\), found one of version"):
            read()


def test_other_versions_are_named(tmp_path: Path) -> None:
    io.savemat(tmp_path / "x.mat", {"a": np.eye(20)}, format="4")
    with pytest.raises(BadInput, match="one of version 4, or none .save it again with -v7"):
        matlab(tmp_path / "x.mat", ["a"])
    (tmp_path / "x.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n"
    )
    with pytest.raises(BadInput, match="one of version 7.3 .save it again with -v7"):
        matlab(tmp_path / "x.mat", ["a"])


SMALL = {"cells": cell(1.0, "x", np.arange(20.0)), "struct": CONTENT["struct"], "eeg": np.arange(40, dtype=np.float32)}


@pytest.mark.parametrize("compress", [True, False])
def test_damage_is_refused_or_harmless(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "x.mat"
    io.savemat(path, SMALL, do_compression=compress)
    good, read = load(path, [*SMALL]), 0
    for content in damaged(path.read_bytes(), 2000, seed=1):
        path.write_bytes(content)
        try:
            found = matlab(path, [*SMALL])
        except BadInput:
            continue
        read += 1
        if compress:
            for name, value in good.items():
                require_equal(found[name], value)
    assert 0 < read < 1200


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    for compress in (True, False):
        io.savemat(path, {"struct": CONTENT["struct"]}, do_compression=compress)
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(BadInput):
                matlab(path, ["struct"])


def test_names_that_python_uses_are_no_fields(tmp_path: Path) -> None:
    made = Struct({"__class__": 1, "_fieldnames": 2, "a": 3})
    assert field(tmp_path, made, "a") == 3
    with pytest.raises(BadInput, match="a field '__class__'"):
        field(tmp_path, made, "__class__")
