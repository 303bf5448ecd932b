"""The HDF5 windows: read as they are, in every layout; refused by file and field; damage never read in silence."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from study_neurocodec_hdf5_files import ROWS, arrays, replace, write

from eeg2speech.data.store import Store
from eeg2speech.data.studies.neurocodec_hdf5 import neurocodec_hdf5
from eeg2speech.errors import BadInput
from eeg2speech.splits import make_split

pytestmark = pytest.mark.filterwarnings("ignore:neurocodec-hdf5")


def prepared(raw: Path, out: Path, **given: object) -> Store:
    study = neurocodec_hdf5()
    study.raw, study.given = raw, given
    return study.prepare(out)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("windows"))


@pytest.fixture(scope="module")
def store(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepared(raw, tmp_path_factory.mktemp("prepared") / "store")


def test_every_row_is_a_trial_of_its_subject_and_part(store: Store) -> None:
    assert len(store.trials) == sum(ROWS.values()) and store.subjects == ("Subject01", "Subject18")
    assert len(store.recordings) == 6
    assert {t.duration for t in store.trials.values()} == {254 / 128}
    split = make_split(store.index, "given")
    assert {part: len(split.trials(part)) for part in split.parts} == {"train": 6, "valid": 2, "test": 4}


def test_eeg_is_the_row_in_microvolt(store: Store) -> None:
    eegs = arrays("test")["eegs"] * 1e6
    for row in range(4):
        trial = store.trial(f"test-{row:05d}")
        begin = round(trial.start * 128)
        found = store.eeg(trial.recording)[:, begin : begin + 254]
        np.testing.assert_allclose(found, eegs[row, :254].T, rtol=1e-5, atol=1e-4)


def test_the_same_speech_is_stored_once(store: Store) -> None:
    assert len(store.stimuli) == sum(ROWS.values())
    one, other = store.trial("train-00000"), store.trial("train-00003")
    assert (one.attended, one.unattended) == (other.attended, other.unattended)
    assert one.subject != other.subject


def test_speech_is_the_row_at_the_rate_of_the_suite(store: Store) -> None:
    wave = store.stimulus(store.trial("val-00000".replace("val", "valid")).attended)
    clean = arrays("val")["clean"][0, :, 0]
    assert len(wave) == 87_552 * 160 // 441
    low, own = np.fft.rfft(wave)[:3000], np.fft.rfft(clean)[:3000]
    assert np.corrcoef(np.abs(low), np.abs(own))[0, 1] > 0.99


@pytest.mark.parametrize(
    "layout",
    [{"nested": True}, {"sign": ""}, {"length": 88_200}, {"length": 875_520, "seconds": 20}],
    ids=["nested", "keys without =", "88200 samples", "20 s"],
)
def test_layouts(tmp_path: Path, layout: dict[str, object]) -> None:
    found = prepared(write(tmp_path / "raw", **layout), tmp_path / "store")  # type: ignore[arg-type]
    assert len(found.trials) == sum(ROWS.values())
    length = int(layout.get("length", 87_552))  # type: ignore[call-overload]
    assert {t.duration for t in found.trials.values()} == {length * 128 // 44_100 / 128}


def test_a_copy_without_val_is_told(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    for path in raw.glob("*_val.h5"):
        path.unlink()
    with pytest.warns(UserWarning, match="no files of the part 'val'"):
        found = prepared(raw, tmp_path / "store")
    assert {t.part for t in found.trials.values()} == {"train", "test"}


def test_a_copy_without_the_other_talker_is_told(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    for path in raw.glob("unattended*"):
        path.unlink()
    with pytest.warns(UserWarning, match="its trials have one talker"):
        found = prepared(raw, tmp_path / "store")
    assert {t.unattended for t in found.trials.values()} == {None}


@pytest.mark.parametrize("unit, told, scale", [(1e-5, "V", 1e6), (0.2, "normalised", 100.0), (20.0, "uV", 1.0)])
def test_the_unit_is_decided_by_a_rule_and_told(tmp_path: Path, unit: float, told: str, scale: float) -> None:
    raw = write(tmp_path / "raw", unit=unit)
    if told == "normalised":
        largest = np.abs(arrays("train", unit=unit)["eegs"]).max()
        for part in ROWS:
            replace(raw / f"eegs_{part}.h5", arrays(part, unit=unit)["eegs"] / largest)
        scale /= float(largest)
    with pytest.warns(UserWarning, match=f"EEG taken for {told}: its largest number is"):
        found = prepared(raw, tmp_path / "store")
    assert f"EEG taken for {told}" in str(found.index.settings["notes"])
    begin = round(found.trial("train-00000").start * 128)
    eeg = found.eeg("train-S01")[:, begin : begin + 254]
    np.testing.assert_allclose(eeg, arrays("train", unit=unit)["eegs"][0, :254].T * scale, rtol=1e-4, atol=1e-4)


def test_the_unit_can_be_told(tmp_path: Path, raw: Path) -> None:
    with pytest.warns(UserWarning, match="EEG taken for normalised, as told"):
        found = prepared(raw, tmp_path / "store", eeg_unit="normalised", full_scale=5e5)
    assert found.eeg("train-S01").std() == pytest.approx(5, rel=0.1)


def test_other_caps_need_names(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", columns=14)
    with pytest.raises(BadInput, match=r"eegs_train.h5: columns: expected 128 electrodes, or --set sensors="):
        prepared(raw, tmp_path / "store")
    with pytest.raises(BadInput, match="14 names"):
        prepared(raw, tmp_path / "store", sensors="A1,A2")
    with pytest.raises(BadInput, match="sensors of biosemi128"):
        prepared(raw, tmp_path / "store", sensors=",".join(f"X{k}" for k in range(14)))
    names = [f"B{k}" for k in range(1, 15)]
    assert prepared(raw, tmp_path / "store", sensors=",".join(names)).index.sensors.names == tuple(names)


def test_impulses_are_found_within_one_eeg_sample(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", length=882_000, seconds=20)
    places = (0.5, 10.0, 19.5)
    eegs, sounds = np.zeros((6, 2560, 128)), np.zeros((6, 882_000, 1), np.float32)
    for place in places:
        eegs[:, round(place * 128)] = 1e-4
        sounds[:, round(place * 44_100)] = 1
    replace(raw / "eegs_train.h5", eegs)
    replace(raw / "clean_train.h5", sounds)
    found = prepared(raw, tmp_path / "store", bad_deviation=1e9)
    for trial in (t for t in found.trials.values() if t.part == "train"):
        begin = round(trial.start * 128)
        eeg = found.eeg(trial.recording)[0, begin : begin + 2560]
        for place in places:
            for wave, rate in ((eeg, 128), (found.stimulus(trial.attended), 16_000)):
                near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
                assert abs((near.start + np.argmax(np.abs(wave[near]))) / rate - place) <= 1 / 128


def test_a_level_of_many_folders_is_refused_with_their_names(tmp_path: Path) -> None:
    write(tmp_path / "2s" / "eeg")
    with pytest.raises(BadInput, match="in one folder or in train and test, found .*h5"):
        prepared(tmp_path, tmp_path / "store")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing subjects": (lambda raw: (raw / "subjects_test.h5").unlink(), "subjects_test.h5: file"),
    "missing clean": (lambda raw: (raw / "clean_train.h5").unlink(), "clean_train.h5: file"),
    "rows": (lambda raw: replace(raw / "clean_test.h5", np.zeros((3, 87_552, 1), "f4")), "rows: expected 4, .*found 3"),
    "samples": (lambda raw: replace(raw / "clean_test.h5", np.zeros((4, 80_000, 1), "f4")), "80000 beside 256"),
    "axes": (lambda raw: replace(raw / "eegs_test.h5", np.zeros((4, 256))), r"\[N, samples, electrodes\]"),
    "turned": (lambda raw: replace(raw / "eegs_test.h5", np.zeros((4, 128, 256))), "87552 beside 128"),
    "kind": (lambda raw: replace(raw / "subjects_val.h5", np.array([b"a", b"b"])), "numbers"),
    "subject": (lambda raw: replace(raw / "subjects_val.h5", np.array([0, 1])), "whole numbers from 1 to 999"),
    "NaN": (lambda raw: replace(raw / "eegs_test.h5", np.full((4, 256, 128), np.nan)), "NaN or infinite"),
    "size": (lambda raw: replace(raw / "eegs_train.h5", np.ones((6, 256, 128)) * 0.1), "largest number of the EEG"),
    "text": (lambda raw: (raw / "eegs_test.h5").write_text("no"), "an HDF5 file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    raw = write(tmp_path / "raw")
    spoil, told = BROKEN[case]
    spoil(raw)
    with pytest.raises(BadInput, match=told):
        prepared(raw, tmp_path / "store")
    assert not (tmp_path / "store" / "index.json").exists()


FUZZ = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[3])
from fuzz import damaged
from eeg2speech.data.studies.neurocodec_hdf5 import _Data
from eeg2speech.errors import BadInput
content, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
expected = None
read = refused = 0
for version in damaged(content, int(sys.argv[4])):
    path.write_bytes(version)
    try:
        data = _Data.of(path, "eegs")
        rows = data.read(0, data.shape[0])
        assert rows.shape == data.shape and np.isfinite(rows).all()
        read += 1
    except BadInput:
        refused += 1
print(read, refused)
"""


def test_damage_ends_in_a_refusal_or_in_a_read(tmp_path: Path) -> None:
    """2,000 damaged files, in a process of its own: HDF5's library is not ours to trust."""
    small = tmp_path / "eegs_test.h5"
    replace(small, np.random.default_rng(0).standard_normal((3, 16, 4)))
    (tmp_path / "damaged").mkdir()
    words = [str(small), str(tmp_path / "damaged" / "eegs_test.h5"), str(Path(__file__).parent), "2000"]
    done = subprocess.run([sys.executable, "-c", FUZZ, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == 2000 and refused > 200
