"""The adapter of published HDF5 windows, on files written here: layouts, units, rows, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzz import damaged
from study_neurocodec_hdf5_files import (
    CHANNELS,
    PARTS,
    RATE,
    ROW_EEG,
    ROW_SOUND,
    SOUND,
    part,
    write,
    write_part,
    write_raw,
    write_study,
)

from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Take
from eeg2speech.data.preparation.steps import settled
from eeg2speech.data.store import Store
from eeg2speech.data.studies.cocktail_party_files import RawFiles
from eeg2speech.data.studies.cocktail_party_hdf5 import read_hdf5, write_hdf5
from eeg2speech.data.studies.neurocodec_hdf5 import NeurocodecHdf5Steps, neurocodec_hdf5, source
from eeg2speech.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:neurocodec-hdf5")
ONE = {"train": 2}
"""The smallest study: a part, a row a subject."""


def found(root: Path, **given: Any) -> Source:
    return source(root, settled(NeurocodecHdf5Steps, given, "neurocodec-hdf5"))


def takes(items: tuple[Item, ...]) -> list[Take]:
    return [take for item in items for take in item.takes()]


def whole(blocks: Any) -> np.ndarray:
    return np.asarray(blocks.read(0, blocks.samples))


def test_rows_are_what_the_files_have(tmp_path: Path) -> None:
    study = found(write_study(tmp_path))
    assert study.sensors == montage("biosemi128") and study.references == ()
    names = [f"{name}-S{subject:02d}" for name in ("train", "valid", "test") for subject in (1, 18)]
    assert [item.id for item in study.items] == names
    assert [item.subject for item in study.items] == ["S01", "S18"] * 3
    assert len(takes(study.items)) == sum(PARTS.values())
    for item, (name, rows, seed) in zip(
        study.items[::2], (("train", 6, 0), ("valid", 2, 10), ("test", 4, 20)), strict=True
    ):
        arrays = part(rows, seed)
        assert {path.name.partition("_")[0] for path in item.files} == {"eegs", "clean", "unattended", "subjects"}
        for row, take in enumerate(item.takes()):
            assert (take.id, take.part, take.start) == (f"{name}-S01-{row:05d}", name, 0)
            assert take.unattended is not None and take.eeg.rate == RATE
            np.testing.assert_array_equal(whole(take.eeg), arrays["eegs"][row].T * 1e6)
            np.testing.assert_array_equal(take.eeg.read(7, 9), arrays["eegs"][row, 7:9].T * 1e6)
            for speech, kind in ((take.attended, "clean"), (take.unattended, "unattended")):
                heard = speech.open()
                assert (heard.rate, heard.channels, heard.samples) == (SOUND, 1, ROW_SOUND)
                np.testing.assert_array_equal(whole(heard), arrays[kind][row].T)


def test_talkers_are_those_of_the_script_s_table(tmp_path: Path) -> None:
    """Up to 17 "20000"."""
    write_part(tmp_path, "train", part(4, subjects=(17, 18)))
    told = [(t.attended.speaker, t.unattended and t.unattended.speaker) for t in takes(found(tmp_path).items)]
    assert told == [("20000", "Journey")] * 2 + [("Journey", "20000")] * 2


def test_the_same_sound_has_the_same_name_and_another_kind_another(tmp_path: Path) -> None:
    arrays = part(4, subjects=(1, 2))
    arrays["clean"][2], arrays["unattended"][1] = arrays["clean"][0], arrays["clean"][0]
    write_part(tmp_path, "train", arrays)
    one, two, three, _ = takes(found(tmp_path).items)
    assert two.unattended is not None
    assert one.attended.key == three.attended.key != two.attended.key
    assert two.unattended.key != one.attended.key


LAYOUTS: list[tuple[str, str]] = [
    ("", ""),
    ("data", ""),
    ("data", "data"),
    ("Cocktail_Party/Normalized/2s/eeg/new", ""),
    ("Cocktail_Party/Normalized/2s/eeg/new", "Cocktail_Party/Normalized"),
]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("mark", ["=", ""])
@pytest.mark.parametrize("folder, named", LAYOUTS)
def test_layouts_in_the_wild(tmp_path: Path, folder: str, named: str, nested: bool, mark: str) -> None:
    write_study(tmp_path / folder, nested, {"train": 1, "test": 1}, mark)
    for litter in ("._eegs_train.h5", "eegs_train.h5.part", "eegs_validate.h5", "eegs_train_old.h5"):
        (tmp_path / folder / litter).write_bytes(b"")
    (tmp_path / folder / "clean_val.h5").mkdir()
    study = found(tmp_path / named)
    assert [item.id for item in study.items] == ["train-S01", "test-S01"]
    assert study.missing[0] == "no files of val"


def test_a_part_alone_may_be_named(tmp_path: Path) -> None:
    write_study(tmp_path, True, ONE)
    study = found(tmp_path / "train")
    assert [item.id for item in study.items] == ["train-S01", "train-S18"]
    assert study.missing[:2] == ("no files of val", "no files of test")


def test_several_folders_are_refused_by_name(tmp_path: Path) -> None:
    for kind in ("2s/eeg/new", "2s/fbc/new", "20s/eeg/new"):
        write_study(tmp_path / "Normalized" / kind, parts=ONE)
    told = "name the one that is meant, found 20s/eeg/new, 2s/eeg/new, 2s/fbc/new"
    with pytest.raises(BadInput, match=told):
        found(tmp_path / "Normalized")
    assert not [note for note in found(tmp_path / "Normalized/2s/eeg").notes if "fbc" in note]
    assert [note for note in found(tmp_path / "Normalized/2s/fbc").notes if "measure of coupling" in note]


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, True, ONE)
    write_study(tmp_path, False, ONE)
    with pytest.raises(BadInput, match="expected one file of that name"):
        found(tmp_path)


@pytest.mark.parametrize("key", ["eegs_train", "data"])
def test_another_key_may_be_the_only_one(tmp_path: Path, key: str) -> None:
    write_study(tmp_path, parts=ONE)
    write(tmp_path / "eegs_train.h5", part(2)["eegs"], key)
    assert len(takes(found(tmp_path).items)) == 2
    with h5py.File(tmp_path / "eegs_train.h5", "a") as file:
        file["more"] = np.ones(3)
    if key == "data":
        with pytest.raises(BadInput, match="expected one data set, eegs_train=, found data, more"):
            found(tmp_path)
    else:
        assert len(found(tmp_path).items) == 2


@pytest.mark.parametrize("sound, drifts", [(ROW_SOUND, True), (88_200, False)])
@pytest.mark.parametrize("pieces", [1, 10, 30])
def test_rows_of_all_published_lengths(tmp_path: Path, pieces: int, sound: int, drifts: bool) -> None:
    write_part(tmp_path, "test", part(1, pieces=pieces, sound=sound))
    study = found(tmp_path)
    (take,) = takes(study.items)
    assert (take.eeg.samples, take.attended.open().samples) == (256 * pieces, pieces * sound)
    told = [note for note in study.notes if "drift" in note]
    assert len(told) == drifts
    if drifts and pieces == 1:
        assert "1.98531 s of sound beside 2 s of EEG" in told[0]


def test_parts_may_have_rows_of_other_lengths(tmp_path: Path) -> None:
    """As M3ANet trains on 2 s and tests on 20 s."""
    write_part(tmp_path / "train", "train", part(1))
    write_part(tmp_path / "test", "test", part(1, pieces=10))
    assert [take.eeg.samples for take in takes(found(tmp_path).items)] == [256, 2560]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8"])
@pytest.mark.parametrize("libver", [None, "v108", "latest"])
def test_numbers_however_they_are_stored(tmp_path: Path, dtype: str, libver: str | None) -> None:
    arrays = part(2) | {"subjects": np.array([1, 18], np.int32)}
    write_part(tmp_path, "train", arrays | {k: arrays[k].astype(dtype) for k in ("eegs", "clean")}, libver=libver)
    one, _ = takes(found(tmp_path).items)
    np.testing.assert_allclose(whole(one.eeg), arrays["eegs"][0].T * 1e6, rtol=1e-6)
    np.testing.assert_allclose(whole(one.attended.open()), arrays["clean"][0].T, rtol=1e-6)
    assert whole(one.eeg).dtype.isnative


UNITS = [("V", 1e-5, 1e6), ("uV", 20.0, 1.0)]


@pytest.mark.parametrize("unit, scale, factor", UNITS)
def test_the_largest_magnitude_decides_the_unit(tmp_path: Path, unit: str, scale: float, factor: float) -> None:
    write_study(tmp_path, parts=ONE, scale=scale)
    eeg = part(2, scale=scale)["eegs"]
    for given in ({}, {"eeg_unit": unit}):
        study = found(tmp_path, **given)
        np.testing.assert_array_equal(whole(takes(study.items)[0].eeg), eeg[0].T * factor)
        assert study.notes[0].startswith("EEG is volts" if unit == "V" else "EEG is microvolt")
        assert ("as set" if given else f"{np.abs(eeg).max():.4g}") in study.notes[0]


def test_normalised_eeg_has_the_microvolts_of_a_convention(tmp_path: Path) -> None:
    arrays = part(2)
    arrays["eegs"] /= np.abs(arrays["eegs"]).max()
    write_part(tmp_path, "train", arrays)
    study = found(tmp_path)
    assert study.notes[0] == (
        "EEG is normalised, without a unit, 1 taken for 100 microvolt: the largest magnitude in eegs_train.h5 is 1"
    )
    np.testing.assert_array_equal(whole(takes(study.items)[0].eeg), 100 * arrays["eegs"][0].T)
    other = found(tmp_path, normalised_to="250")
    np.testing.assert_array_equal(whole(takes(other.items)[0].eeg), 250 * arrays["eegs"][0].T)
    np.testing.assert_array_equal(whole(takes(found(tmp_path, eeg_unit="V").items)[0].eeg), 1e6 * arrays["eegs"][0].T)


def test_train_decides_the_unit_for_all_parts_and_others_only_without_it(tmp_path: Path) -> None:
    """An artefact in the test part does not turn volts into something else."""
    write_study(tmp_path, parts={"train": 1})
    arrays = part(1)
    arrays["eegs"][0, 3, 5] = 0.5
    write_part(tmp_path, "test", arrays)
    assert found(tmp_path).notes[0].startswith("EEG is volts")
    for path in tmp_path.glob("*_train.h5"):
        path.unlink()
    assert found(tmp_path).notes[0].endswith("in eegs_test.h5 is 0.5")


def test_the_unit_is_told_by_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is normalised by an artefact is small elsewhere."""
    monkeypatch.setattr("eeg2speech.data.studies.neurocodec_hdf5.BLOCK", 1)
    arrays = part(3)
    arrays["eegs"][2, 255, 127] = -1.0
    write_part(tmp_path, "train", arrays)
    assert found(tmp_path).notes[0].startswith("EEG is normalised")


@pytest.mark.parametrize("scale", [0.0, 1e-9, 0.01, 7.0])
def test_eeg_of_no_known_unit_is_refused_with_a_way_out(tmp_path: Path, scale: float) -> None:
    write_study(tmp_path, parts=ONE, scale=scale)
    with pytest.raises(BadInput, match="largest magnitude: expected volts 1e-07 to 0.01; .*or set eeg_unit=V, uV or"):
        found(tmp_path)
    assert len(found(tmp_path, eeg_unit="uV").items) == 2


def test_electrodes_that_are_not_128_need_names(tmp_path: Path) -> None:
    names = ("A1", "B20", "d32", *(f"C{k}" for k in range(1, 12)))
    write_study(tmp_path, parts=ONE, channels=14)
    with pytest.raises(BadInput, match="128, or the names of the 14 in order: --set sensors=A1,A2,... .*14 without"):
        found(tmp_path)
    study = found(tmp_path, sensors=", ".join(names))
    assert study.sensors.names == ("A1", "B20", "D32", *names[3:])
    template = montage("biosemi128")
    assert study.sensors.positions[1] == template.positions[template.names.index("B20")]
    assert takes(study.items)[0].eeg.channels == 14
    for wrong in ("A1,A2", ",".join(names[:13]) + ",A1"):
        with pytest.raises(BadInput, match="sensors: expected 14 different names"):
            found(tmp_path, sensors=wrong)
    with pytest.raises(BadInput, match="sensors of biosemi128, found Cz"):
        found(tmp_path, sensors="Cz,A2")


@pytest.mark.parametrize("channels", [26, 64])
def test_no_template_is_guessed_from_a_number(tmp_path: Path, channels: int) -> None:
    write_study(tmp_path, parts=ONE, channels=channels)
    with pytest.raises(BadInput, match=f"found {channels} without names"):
        found(tmp_path)


def test_another_order_of_128_may_be_told(tmp_path: Path) -> None:
    write_study(tmp_path, parts=ONE)
    names = montage("biosemi128").names[::-1]
    assert found(tmp_path, sensors=",".join(names)).sensors.names == names


def test_without_the_unattended_talker_trials_have_one(tmp_path: Path) -> None:
    write_study(tmp_path, parts={"train": 2, "test": 2})
    (tmp_path / "unattended_test.h5").unlink()
    (tmp_path / "noisy_test.h5").unlink()
    study = found(tmp_path)
    assert any("no unattended_test.h5" in note for note in study.notes)
    assert [take.unattended is None for take in takes(study.items)] == [False, False, True, True]
    assert all(path.is_file() for item in study.items for path in item.files)


def test_what_a_whole_copy_has_more_is_told(tmp_path: Path) -> None:
    write_study(tmp_path, parts={"train": 6, "test": 4})
    parts, train, test, subjects = found(tmp_path).missing
    assert parts == "no files of val"
    assert (train, test) == ("train: 6 of up to 22080 rows", "test: 4 of up to 4800 rows")
    assert subjects.startswith("no rows of subject 2, 3, 4, 5, 7, ") and subjects.endswith(", 32, 33")


def replaced(kind: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write(root / f"{kind}_train.h5", make(part(2)[kind]))

    return change


def gone(kind: str) -> Callable[[Path], None]:
    return lambda root: (root / f"{kind}_train.h5").unlink()


def value(kind: str, put: float) -> Callable[[Path], None]:
    def make(array: np.ndarray) -> np.ndarray:
        array[(0,) * array.ndim] = put
        return array

    return replaced(kind, make)


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (gone("subjects"), "subjects_train.h5: file: expected eegs, clean, subjects of each part"),
    (gone("eegs"), "eegs_train.h5: file: .* no such file"),
    (gone("clean"), "clean_train.h5: file: .* no such file"),
    (replaced("eegs", lambda x: x[:, :255]), r"eegs_train.h5: shape: expected \(rows, 256 k, electrodes\)"),
    (replaced("eegs", lambda x: x.transpose(0, 2, 1)), r"float64 \(2, 128, 256\)"),
    (replaced("eegs", lambda x: x[0]), r"float64 \(256, 128\)"),
    (replaced("eegs", lambda x: np.repeat(x, 2, axis=2)), r"electrodes to 128, found float64 \(2, 256, 256\)"),
    (replaced("eegs", lambda x: np.tile(x[:1, :, :1], (2, 31, 1))), r"k to 30.*7936"),
    (replaced("eegs", lambda x: (x * 1e6).astype("i2")), r"int16 \(2, 256, 128\)"),
    (replaced("eegs", lambda x: x[:1]), r"clean_train.h5: shape: expected \(1, 87552, 1\) or \(1, 88200, 1\), as"),
    (replaced("eegs", lambda x: np.tile(x, (1, 10, 1))), r"\(2, 875520, 1\) or \(2, 882000, 1\).*87552"),
    (replaced("clean", lambda x: x[..., 0]), r"clean_train.h5: shape: .*float32 \(2, 87552\)"),
    (replaced("clean", lambda x: x[:, :29_184]), r"29184"),
    (replaced("clean", lambda x: np.resize(x, (2, 88_200, 1))), r"unattended_train.h5|noisy_train.h5"),
    (replaced("noisy", lambda x: x[:1]), r"noisy_train.h5: shape: expected \(2, 87552, 1\), as clean_train.h5"),
    (replaced("unattended", lambda x: x[:1]), r"unattended_train.h5: shape: expected \(2, 87552, 1\)"),
    (replaced("subjects", lambda x: x[:1]), r"subjects_train.h5: shape: expected \(2\), whole numbers, found int64"),
    (replaced("subjects", lambda x: x * 1.0), r"whole numbers, found float64"),
    (value("subjects", 0), "subjects_train.h5: row 0: subject: expected 1 to 33, as in the raw files, found 0"),
    (value("subjects", 34), "found 34"),
    (value("eegs", np.nan), "eegs_train.h5: rows 0 to 1: samples: expected finite ones"),
    (value("eegs", np.inf), "finite ones"),
    (value("eegs", -1e300), "finite ones"),
    (lambda root: write_part(root, "val", part(2, channels=64)), "eegs_val.h5: electrodes: expected 128, as eegs"),
    (lambda root: (root / "noisy_train.h5").write_bytes(b"x"), "noisy_train.h5: content: expected an HDF5 file"),
    (
        lambda root: write_part(root, "train", {"clean": part(2)["clean"]}, compression="gzip"),
        "clean_train.h5: .*h5repack -l CONTI -f NONE",
    ),
]  # fmt: skip


@pytest.mark.parametrize("change, told", REFUSED, ids=[told for _, told in REFUSED])
def test_files_that_are_not_the_study_s_are_refused(tmp_path: Path, change: Callable[[Path], None], told: str) -> None:
    write_study(tmp_path, parts=ONE)
    change(tmp_path)
    with pytest.raises(BadInput, match=told):
        found(tmp_path)


@pytest.mark.parametrize("kind", ["eegs", "clean"])
@pytest.mark.parametrize("put", [np.nan, np.inf, -1e30])
def test_samples_that_no_file_can_have_are_refused_as_they_are_read(tmp_path: Path, kind: str, put: float) -> None:
    write_study(tmp_path, parts=ONE)
    value(kind, put)(tmp_path)
    bad, good = takes(found(tmp_path, eeg_unit="V").items)
    with pytest.raises(BadInput, match=f"{kind}_train.h5: row 0: samples: expected finite ones"):
        whole(bad.eeg if kind == "eegs" else bad.attended.open())
    assert np.isfinite(whole(good.eeg)).all() and np.isfinite(whole(good.attended.open())).all()


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadInput, match="files: expected eegs_train.h5, clean_train.h5, .* found none"):
            found(path)


@pytest.mark.parametrize(
    "name, put", [("eeg_unit", "mV"), ("normalised_to", "0"), ("normalised_to", "nan"), ("x", "1")]
)
def test_settings_are_refused_by_name(name: str, put: str) -> None:
    with pytest.raises(BadInput, match=name):
        settled(NeurocodecHdf5Steps, {name: put}, "neurocodec-hdf5")


def prepared(root: Path, out: Path, **given: Any) -> Store:
    study = neurocodec_hdf5()
    study.raw, study.given = root, given
    return study.prepare(out)


def test_a_store_has_what_the_files_have(tmp_path: Path) -> None:
    write_study(tmp_path / "raw")
    store = prepared(tmp_path / "raw", tmp_path / "store")
    store.verify()
    assert store.subjects == ("S01", "S18") and len(store.trials) == 12 and len(store.stimuli) == 24
    assert [trial.part for trial in store.trials.values()] == ["train"] * 6 + ["valid"] * 2 + ["test"] * 4
    assert "EEG is volts" in str(store.index.settings["notes"])
    expected = part(6)["eegs"][4].T * 1e6
    begin = round(store.trial("train-S18-00004").start * RATE)
    # A trial ends with its sound: 1.98531 s.
    assert store.trial("train-S18-00004").duration == 254 / RATE
    np.testing.assert_allclose(store.eeg("train-S18")[:, begin : begin + 254], expected[:, :254], rtol=1e-6)


def test_what_this_package_writes_is_taken(tmp_path: Path) -> None:
    """Windows of raw files: normalised EEG, rows permuted, each with the subject whose it is."""
    write_raw(tmp_path / "raw", (1, 18), (1, 2, 22), seconds=4)
    rows = write_hdf5(RawFiles.find(tmp_path / "raw"), tmp_path / "files")
    study = found(tmp_path / "files")
    assert study.notes[0].startswith("EEG is normalised") and study.notes[0].endswith("is 1")
    for name in ("train", "valid", "test"):
        arrays = read_hdf5(tmp_path / "files", name)
        own = {take.id: take for take in takes(study.items) if take.part == name}
        assert len(own) == rows[name]
        for row, subject in enumerate(arrays["subjects"]):
            take = own[f"{name}-S{subject:02d}-{row:05d}"]
            np.testing.assert_array_equal(whole(take.eeg), 100 * arrays["eegs"][row].T)
            np.testing.assert_array_equal(whole(take.attended.open()), arrays["clean"][row].T)
    assert len({take.attended.key for take in takes(study.items)}) == sum(rows.values())


def test_sound_that_several_subjects_heard_is_stored_once(tmp_path: Path) -> None:
    arrays = part(4, subjects=(1, 2))
    for kind in ("clean", "unattended"):
        arrays[kind][2:] = arrays[kind][:2]
    write_part(tmp_path / "raw", "train", arrays)
    store = prepared(tmp_path / "raw", tmp_path / "store")
    one, _, other, _ = store.trials.values()
    assert len(store.stimuli) == 4 and one.pair == other.pair and one.subject != other.subject


@pytest.mark.parametrize("sound", [ROW_SOUND, 88_200])
@pytest.mark.parametrize("pieces", [1, 30])
def test_impulses_stay_together_to_the_end_of_the_longest_row(tmp_path: Path, pieces: int, sound: int) -> None:
    seconds = pieces * sound / SOUND
    places = (0.25, seconds / 2, seconds - 0.25)
    arrays = part(1, pieces=pieces, sound=sound)
    arrays["eegs"][:], arrays["clean"][:] = 0, 0
    for place in places:
        arrays["eegs"][0, round(place * RATE)] = 1e-4 * np.arange(1, CHANNELS + 1) / CHANNELS
        arrays["clean"][0, round(place * SOUND)] = 0.9
    write_part(tmp_path / "raw", "test", arrays)
    store = prepared(tmp_path / "raw", tmp_path / "store", high_pass=0.5 if pieces > 10 else 0)
    (trial,) = store.trials.values()
    assert trial.duration == int(seconds * RATE) / RATE
    for place in places:
        for signal, rate in ((store.eeg("test-S01")[7], RATE), (store.stimulus(trial.attended), 16_000)):
            near = slice(round((place - 0.2) * rate), round((place + 0.2) * rate))
            peak = (near.start + np.argmax(np.abs(signal[near]))) / rate
            assert abs(peak - place) <= 1 / RATE


def test_rows_that_are_shorter_than_a_filter_are_refused_with_a_way_out(tmp_path: Path) -> None:
    write_study(tmp_path / "raw", parts=ONE)
    with pytest.raises(BadInput, match="set high_pass=0"):
        prepared(tmp_path / "raw", tmp_path / "store", high_pass=0.5)


def read_all(root: Path) -> None:
    """Read whatever the adapter gives, and require of it what holds of any file that is taken for whole."""
    for take in takes(found(root).items):
        eeg = whole(take.eeg)
        assert eeg.shape == (CHANNELS, ROW_EEG) and np.abs(eeg).max() <= 1e6
        for speech in (take.attended, take.unattended):
            assert speech is not None
            heard = whole(speech.open())
            assert heard.shape == (1, ROW_SOUND) and np.abs(heard).max() <= 1e3
        assert take.part == "train" and take.id.startswith(f"train-S{take.id[7:9]}-0000")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("libver", [None, "latest"])
@pytest.mark.parametrize("kind", ["eegs", "clean", "unattended", "noisy", "subjects"])
def test_damaged_files_are_refused_or_read_whole(tmp_path: Path, kind: str, libver: str | None) -> None:
    """Headers, of which there are 2 KiB, take most of the damage: that of the data can only change a number."""
    write_part(tmp_path, "train", part(1, subjects=(1,)), libver=libver)
    path = tmp_path / f"{kind}_train.h5"
    content = path.read_bytes()
    head = 2048 + 8
    for number, case in enumerate(damaged(content[:head], 200)):
        path.write_bytes(case + content[head:] if number % 9 else case)
        try:
            read_all(tmp_path)
        except BadInput as refusal:
            assert kind in refusal.where or kind in refusal.found or "eegs" in refusal.expected
    for case in damaged(content, 30, seed=1):
        path.write_bytes(case)
        try:
            read_all(tmp_path)
        except BadInput:
            continue


def test_files_of_random_shapes_and_types_are_refused_or_read_whole(tmp_path: Path) -> None:
    write_part(tmp_path, "train", part(1, subjects=(1,)))
    rng = np.random.default_rng(0)
    for _ in range(200):
        kind = str(rng.choice(["eegs", "clean", "unattended", "noisy", "subjects"]))
        path = tmp_path / f"{kind}_train.h5"
        kept = path.read_bytes()
        shape = tuple(rng.choice([1, 2, 3, 128, 256], size=rng.integers(1, 4)))
        write(path, np.zeros(shape, rng.choice(["f4", "f8", "i2", "i8", "u1", "c8"])), **{})
        try:
            read_all(tmp_path)
        except BadInput as refusal:
            assert refusal.expected and refusal.found
        path.write_bytes(kept)
    read_all(tmp_path)
