"""The reader of HDF5's headers: as h5py on whole files, and never worse than a refusal on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzz import damaged

from eeg2speech.data.preparation.hdf5file import DataSet, data_sets, lookup3
from eeg2speech.errors import BadInput

VERSIONS = (None, "v108", "v110", "latest")
ARRAYS = {
    "eegs_train=": np.random.default_rng(0).standard_normal((3, 8, 4)),
    **{f"of {kind}": np.arange(6).reshape(2, 3).astype(kind) for kind in ("<f4", ">f8", "<i8", ">i4", "u1", "<u2")},
}


def written(path: Path, version: str | None = None, arrays: Any = None, **about: Any) -> Path:
    with h5py.File(path, "w", libver=version, **about) as file:
        for name, array in (ARRAYS if arrays is None else arrays).items():
            file.create_dataset(name, data=array)
    return path


def whole(data: DataSet) -> np.ndarray:
    return data.rows(0, data.shape[0])


@pytest.mark.parametrize("before", [0, 512, 2048])
@pytest.mark.parametrize("version", VERSIONS)
def test_data_is_read_as_h5py_reads_it(tmp_path: Path, version: str | None, before: int) -> None:
    path = written(tmp_path / "x.h5", version, userblock_size=before)
    found = data_sets(path)
    with h5py.File(path) as file:
        assert {*found} == {*file}
        for name, data in found.items():
            assert data.dtype == file[name].dtype
            np.testing.assert_array_equal(whole(data), file[name][()])
    eeg = ARRAYS["eegs_train="]
    np.testing.assert_array_equal(found["eegs_train="].rows(1, 3), eeg[1:])
    np.testing.assert_array_equal(found["eegs_train="].part(2, 3, 7), eeg[2, 3:7])


@pytest.mark.parametrize("version", [None, "v108"])
def test_many_names_and_attributes_do_not_hide_data(tmp_path: Path, version: str | None) -> None:
    """More names than a leaf holds; more attributes than a header has room for."""
    count = 200 if version is None else 7
    path = written(tmp_path / "x.h5", version, {f"d{k}": np.full(3, k) for k in range(count)})
    with h5py.File(path, "a", libver=version) as file:
        for k in range(7):
            file["d0"].attrs[f"attribute {k}"] = np.arange(100)
            file.attrs[f"attribute {k}"] = "text"
    found = data_sets(path)
    assert {name: whole(data)[0] for name, data in found.items()} == {f"d{k}": k for k in range(count)}


def packed(file: h5py.File) -> None:
    file.create_dataset("x", data=np.ones(100), compression="gzip")


def chunked(file: h5py.File) -> None:
    file.create_dataset("x", data=np.ones(100), chunks=(10,))


def compact(file: h5py.File) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((4,)), made)


def outside(file: h5py.File) -> None:
    file.create_dataset("x", (4,), "f8", external=[("x.raw", 0, 32)])


REFUSED = [
    (packed, "not packed .h5repack -l CONTI -f NONE IN OUT makes it so., found a packed one"),
    (chunked, "contiguous data set .h5repack .*found a chunked one"),
    (compact, "found a compact one"),
    (outside, "in another file"),
    (
        lambda file: file.create_dataset("x", (4,), "f8"),
        "x: expected 32 bytes of data, by its shape, found none written",
    ),
    (lambda file: file.create_dataset("x", data=np.ones((0, 4))), "something in it"),
    (lambda file: file.create_dataset("x", data=1.0), "x: expected an array, found a data space .* with 0 axes"),
    (lambda file: file.create_dataset("x", data=h5py.Empty("f4")), "x: expected an array"),
    (lambda file: file.create_dataset("x", data=np.ones(3, complex)), "class 6 of 16 bytes"),
    (lambda file: file.create_dataset("x", data=np.ones(3, np.float16)), "class 1 of 2 bytes"),
    (lambda file: file.create_dataset("x", data="text"), "x: expected"),
    (lambda file: file.create_dataset("x", data=np.ones(3, bool)), "class 8"),
    (lambda file: file.create_group("x"), "x: expected a data set with a shape"),
    (lambda file: file.__setitem__("x", h5py.SoftLink("/y")), "a link to somewhere else"),
    (lambda file: file.__setitem__("x", h5py.ExternalLink("y.h5", "/y")), "a link to somewhere else|a few names"),
    (lambda file: file.__setitem__("x", np.dtype("f4")), "x: expected a data set with a shape"),
    (lambda file: [file.__setitem__(f"x{k}", np.ones(3)) for k in range(2000)], "a few names"),
]


@pytest.mark.parametrize("version", [None, "v108"])
@pytest.mark.parametrize("write, told", REFUSED, ids=[told for _, told in REFUSED])
def test_what_is_not_plain_data_is_refused_by_name(tmp_path: Path, write: Any, told: str, version: str | None) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=version) as file:
        write(file)
    with pytest.raises(BadInput, match=told) as refusal:
        data_sets(tmp_path / "x.h5")
    assert "x.h5" in refusal.value.where


def test_a_type_of_its_own_name_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["kind"] = np.dtype("f4")
        file.create_dataset("x", data=np.ones(3), dtype=file["kind"])
    with pytest.raises(BadInput, match="a type and a layout of its own"):
        data_sets(tmp_path / "x.h5")


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(5000)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(BadInput, match="HDF5"):
        data_sets(tmp_path / "x.h5")
    for path in (tmp_path, tmp_path / "nothing.h5"):
        with pytest.raises(BadInput, match="no such file"):
            data_sets(path)


def test_a_file_that_is_cut_after_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.h5", arrays={"x": np.ones((4, 5))})
    found = data_sets(path)["x"]
    path.write_bytes(path.read_bytes()[:-41])
    assert found.rows(0, 2).shape == (2, 5)
    with pytest.raises(BadInput, match="a file that ends before"):
        found.rows(0, 4)
    path.unlink()
    with pytest.raises(BadInput, match="the data of 'x'"):
        found.part(0, 0, 1)


def test_checksums_are_those_of_the_format() -> None:
    """Values that the author of the function gives."""
    assert (lookup3(b""), lookup3(b"Four score and seven years ago")) == (0xDEADBEEF, 0x17770551)


@pytest.mark.parametrize("version", VERSIONS)
def test_damaged_headers_are_refused_or_read_right(tmp_path: Path, version: str | None) -> None:
    """A checksum guards headers of the new kind, so data is found where it was; old ones have none."""
    array = np.arange(24.0).reshape(2, 3, 4)
    path = written(tmp_path / "x.h5", version, {"clean_train=": array})
    content = path.read_bytes()
    read = 0
    for case in damaged(content, 1500):
        path.write_bytes(case)
        try:
            found = {name: (data.shape, data.dtype, whole(data)) for name, data in data_sets(path).items()}
        except BadInput:
            continue
        read += 1
        for shape, dtype, data in found.values():
            assert data.shape == shape and data.dtype == dtype and data.nbytes <= len(case)
        if version and found:
            (name, (shape, dtype, _)) = found.popitem()
            assert (name, shape, dtype) == ("clean_train=", array.shape, array.dtype) and not found
    assert read
