"""SparrKULee's derivatives: two spellings, 28 or 10 bands, whole or split, and lengths that differ."""

from pathlib import Path

import numpy as np
import pytest
from fuzz import damaged

from eeg2speech.data.store import Store
from eeg2speech.data.studies.sparrkulee_features import _array, sparrkulee_envelopes, sparrkulee_mels
from eeg2speech.errors import BadInput
from eeg2speech.splits import make_split

pytestmark = pytest.mark.filterwarnings("ignore:sparrkulee")
RATE, SECONDS = 64, 20
STIMULI = ("audiobook_7_5", "podcast_3")
STEM = "ses-varyingStories01_task-listeningActive_run-0"


def eeg(subject: int, stimulus: str) -> np.ndarray:
    """[64, T], longer than the features, in Fortran's order."""
    rng = np.random.default_rng((subject, STIMULI.index(stimulus)))
    return np.asfortranarray(rng.standard_normal((64, SECONDS * RATE + 40)) * 10)


def feature(stimulus: str, bands: int) -> np.ndarray:
    """[T, bands]."""
    made = np.random.default_rng((bands, STIMULI.index(stimulus))).standard_normal((SECONDS * RATE, bands))
    return np.abs(made).astype(np.float64 if bands == 1 else np.float32)


def write(root: Path, separator: str = "_-_", bands: int = 28) -> Path:
    """Whole recordings of two subjects, as the authors' scripts write them."""
    stimuli = root / "derivatives" / "preprocessed_stimuli"
    stimuli.mkdir(parents=True)
    for name in STIMULI:
        np.save(stimuli / f"{name}{separator}envelope.npy", feature(name, 1))
        np.save(stimuli / f"{name}{separator}mel.npy", feature(name, bands))
    for subject in (1, 27):
        home = root / "derivatives" / "preprocessed_eeg" / f"sub-{subject:03}" / "ses-varyingStories01"
        home.mkdir(parents=True)
        for run, name in enumerate(STIMULI):
            np.save(home / f"sub-{subject:03}_{STEM}{run}_desc-preproc-audio-{name}_eeg.npy", eeg(subject, name))
    return root


def write_split(root: Path) -> Path:
    """80, 10 and 10 % of each recording, time first."""
    home = root / "derivatives" / "split_data"
    home.mkdir(parents=True)
    cuts = {"train": (0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
    for part, (begin, end) in cuts.items():
        low, high = int(begin * SECONDS * RATE), int(end * SECONDS * RATE)
        for subject in (1, 27):
            for name in STIMULI:
                arrays = {"eeg": eeg(subject, name).T, "envelope": feature(name, 1), "mel": feature(name, 28)}
                for kind, array in arrays.items():
                    np.save(home / f"{part}_-_sub-{subject:03}_-_{name}_-_{kind}.npy", array[low:high])
    return root


def prepared(raw: Path, out: Path, mels: bool = False, **given: object) -> Store:
    study = sparrkulee_mels() if mels else sparrkulee_envelopes()
    study.raw, study.given = raw, given
    return study.prepare(out)


@pytest.mark.parametrize("separator", ["_-_", "_"])
@pytest.mark.parametrize("mels, bands", [(False, 28), (True, 28), (True, 10)])
def test_recordings_meet_their_features(tmp_path: Path, separator: str, mels: bool, bands: int) -> None:
    store = prepared(write(tmp_path / "raw", separator, bands), tmp_path / "store", mels)
    assert store.subjects == ("sub-001", "sub-027") and len(store.trials) == 4 and len(store.stimuli) == 2
    for trial in store.trials.values():
        stimulus = store.stimuli[trial.attended]
        assert trial.duration == SECONDS and trial.unattended is None
        expected = feature(stimulus.title, bands if mels else 1)
        np.testing.assert_allclose(store.stimulus(stimulus.id), expected.T, rtol=1e-6)
        signal = eeg(int(trial.subject[4:]), stimulus.title)[:, : SECONDS * RATE]
        np.testing.assert_allclose(store.eeg(trial.recording), signal, rtol=1e-5, atol=1e-5)
    assert {s.story for s in store.stimuli.values()} == {"audiobook_7", "podcast"}


@pytest.mark.parametrize("place", [".", "derivatives", "derivatives/preprocessed_eeg"])
def test_any_of_its_folders_may_be_named(tmp_path: Path, place: str) -> None:
    write(tmp_path / "raw")
    assert len(prepared(tmp_path / "raw" / place, tmp_path / "store").trials) == 4


def test_split_data_keeps_its_parts_and_is_time_first(tmp_path: Path) -> None:
    store = prepared(write_split(tmp_path / "raw"), tmp_path / "store", mels=True)
    split = make_split(store.index, "given")
    assert {part: len(split.trials(part)) for part in split.parts} == {"train": 4, "valid": 4, "test": 4}
    low, high = int(0.9 * SECONDS * RATE), SECONDS * RATE
    trial = store.trial("test_sub-027_podcast_3")
    np.testing.assert_allclose(store.eeg(trial.recording), eeg(27, "podcast_3")[:, low:high], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(store.stimulus(trial.attended), feature("podcast_3", 28)[low:high].T, rtol=1e-6)
    assert len(store.stimuli) == 6


def test_which_data_is_read_can_be_told(tmp_path: Path) -> None:
    write_split(write(tmp_path / "raw"))
    assert len(prepared(tmp_path / "raw", tmp_path / "a").trials) == 4
    assert len(prepared(tmp_path / "raw", tmp_path / "b", data="split").trials) == 12


def test_recordings_without_their_feature_are_left_out_and_told(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    (raw / "derivatives" / "preprocessed_stimuli" / "podcast_3_-_envelope.npy").unlink()
    with pytest.warns(UserWarning, match="no podcast_3_-_envelope.npy: 2 recordings are left out"):
        assert len(prepared(raw, tmp_path / "store").trials) == 2


def test_impulses_are_found_within_one_eeg_sample(tmp_path: Path) -> None:
    raw, places = write(tmp_path / "raw"), (0.5, 10.0, SECONDS - 0.5)
    signal, wave = np.zeros((64, SECONDS * RATE + 40)), np.zeros((SECONDS * RATE, 1))
    for place in places:
        signal[:, round(place * RATE)] = wave[round(place * RATE)] = 100
    home = raw / "derivatives"
    np.save(next(home.rglob("sub-001*audiobook_7_5_eeg.npy")), signal)
    np.save(home / "preprocessed_stimuli" / "audiobook_7_5_-_envelope.npy", wave)
    store = prepared(raw, tmp_path / "store", eeg_rate=128)
    trial = next(t for t in store.trials.values() if t.subject == "sub-001" and "audiobook" in t.id)
    for place in places:
        for each, rate in ((store.eeg(trial.recording)[0], 128), (store.stimulus(trial.attended)[0], RATE)):
            near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
            assert abs((near.start + np.argmax(np.abs(each[near]))) / rate - place) <= 1 / RATE


def stimulus(raw: Path, kind: str = "envelope") -> Path:
    return raw / "derivatives" / "preprocessed_stimuli" / f"podcast_3_-_{kind}.npy"


def recording(raw: Path) -> Path:
    return next((raw / "derivatives" / "preprocessed_eeg").rglob("sub-001*podcast_3_eeg.npy"))


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda raw: np.save(stimulus(raw), np.ones((99, 3))), "bands of envelope: expected as many in all files"),
        (lambda raw: np.save(stimulus(raw), np.full((99, 1), np.nan)), "finite numbers"),
        (lambda raw: np.save(stimulus(raw), np.ones(99)), "a matrix of floating-point numbers"),
        (lambda raw: np.save(stimulus(raw), np.array([[None]]), allow_pickle=True), "an array of numpy"),
        (
            lambda raw: np.savez(stimulus(raw).open("wb"), a=np.ones(3)),
            "numbers, found NpzFile",
        ),
        (lambda raw: stimulus(raw).write_text("no"), "an array of numpy"),
        (lambda raw: np.save(recording(raw), np.ones((99, 64))), r"shape: expected \[64, samples\], found \[99, 64\]"),
        (lambda raw: recording(raw).rename(recording(raw).with_name("sub-001_eeg.npy")), "name: expected sub-XXX"),
        (lambda raw: [p.unlink() for p in raw.rglob("*envelope.npy")], "EEG with its envelope, found 4 of EEG, none"),
    ],
)
def test_broken_copies_are_refused(tmp_path: Path, spoil: object, told: str) -> None:
    raw = write(tmp_path / "raw")
    spoil(raw)  # type: ignore[operator]
    with pytest.raises(BadInput, match=told):
        prepared(raw, tmp_path / "store")


def test_copies_that_mix_widths_and_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    np.save(stimulus(raw, "mel"), feature("podcast_3", 10))
    with pytest.raises(BadInput, match="bands of mel: expected as many in all files, found 10 in podcast_3"):
        prepared(raw, tmp_path / "store", mels=True)
    with pytest.raises(BadInput, match="found no preprocessed_eeg"):
        prepared(tmp_path, tmp_path / "store")
    with pytest.raises(BadInput, match="found no split_data"):
        prepared(raw, tmp_path / "store", data="split")


def test_damage_ends_in_a_refusal_or_in_a_read_of_what_is_there(tmp_path: Path) -> None:
    """2,000 damaged files. The format has no checksum: a flipped byte of a number is another number, and no more."""
    path, refused = tmp_path / "x.npy", 0
    np.save(path, np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32))
    for version in damaged(path.read_bytes(), 2000):
        path.write_bytes(version)
        try:
            found = _array(path)
            assert found.ndim == 2 and found.dtype.kind == "f" and np.isfinite(found).all()
            assert found.nbytes <= len(version)
        except BadInput:
            refused += 1
    assert refused > 500
