"""Natural Speech: one talker, with its sound or with envelopes in its place."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fuzz import damaged
from scipy import io
from study_broderick_files import RATE, SECONDS, SOUND, eeg, sound, write_eeg, write_natural

from eeg2speech.data.store import Store
from eeg2speech.data.studies.broderick_natural_speech import (
    NaturalSpeechSteps,
    _envelope,
    natural_speech,
    natural_speech_envelopes,
    source,
)
from eeg2speech.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:natural-speech")


def prepared(raw: Path, out: Path, envelopes: bool = False, **given: object) -> Store:
    study = natural_speech_envelopes() if envelopes else natural_speech()
    study.raw, study.given = raw, given
    return study.prepare(out)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_natural(tmp_path_factory.mktemp("dryad"))


def test_runs_are_trials_of_one_talker(raw: Path, tmp_path: Path) -> None:
    told = r"Subject1: no run 3-14, 16-20|Subject2: no run 2-14|no subject 3-19"
    with pytest.warns(UserWarning, match=told):
        store = prepared(raw, tmp_path / "store")
    assert {*store.trials} == {"Subject1_Run1", "Subject1_Run2", "Subject1_Run15", "Subject2_Run1", "Subject2_Run15"}
    assert all(t.unattended is None and t.duration == SECONDS for t in store.trials.values())
    wave = store.stimulus(store.trial("Subject1_Run2").attended)
    own = sound("20000", 2) / 32768
    # Noise up to 22 kHz: a low-pass at 8 kHz leaves 8 / 22 of its power.
    assert wave.std() / own.std() == pytest.approx(np.sqrt(16_000 / SOUND), rel=0.05)


def test_the_other_way_round_and_against_the_mastoids(raw: Path, tmp_path: Path) -> None:
    store = prepared(raw / "Natural Speech", tmp_path / "store", high_pass=0)
    for run in (1, 15):
        signal = eeg(1, run)[: RATE * SECONDS].astype(np.float64)
        expected = signal[:, :128].T - signal[:, 128:].mean(axis=1)
        np.testing.assert_allclose(store.eeg(f"Subject1_Run{run}"), expected, atol=1e-3)


def test_envelopes_stand_in_for_sound(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw / "Natural Speech", tmp_path / "raw")
    with pytest.raises(BadInput, match="or the study natural-speech-envelopes., found none: it is not published"):
        prepared(tmp_path / "raw", tmp_path / "store")
    store = prepared(tmp_path / "raw", tmp_path / "store", envelopes=True)
    path = tmp_path / "raw" / "Stimuli" / "Envelopes" / "audio15_128Hz.mat"
    found = store.stimulus(store.trial("Subject2_Run15").attended)
    np.testing.assert_allclose(found[0], io.loadmat(path)["env"][:, 0], rtol=1e-6)


def test_impulses_are_found_within_one_eeg_sample(tmp_path: Path) -> None:
    root = write_natural(tmp_path, (1,), (1,))
    places = (0.5, 6.0, SECONDS - 0.5)
    signal, slow = np.zeros((RATE * SECONDS, 130), np.float32), np.zeros((RATE * SECONDS, 1))
    for place in places:
        signal[round(place * RATE), :128] = 1000
        slow[round(place * RATE)] = 1
    write_eeg(root / "Natural Speech" / "EEG" / "Subject1" / "Subject1_Run1.mat", signal)
    io.savemat(root / "Natural Speech" / "Stimuli" / "Envelopes" / "audio1_128Hz.mat", {"env": slow})
    store = prepared(root, tmp_path / "store", envelopes=True)
    wave = store.stimulus(store.trial("Subject1_Run1").attended)[0]
    for place in places:
        near = slice(round((place - 0.25) * RATE), round((place + 0.25) * RATE))
        for each in (store.eeg("Subject1_Run1")[0], wave):
            assert abs((near.start + np.argmax(np.abs(each[near]))) / RATE - place) <= 1 / RATE


FIRST = "Subject1/Subject1_Run1.mat"


def moved(home: Path, name: str) -> None:
    """Another file of the first one's content."""
    target = home / "EEG" / name
    target.parent.mkdir(exist_ok=True)
    shutil.copy(home / "EEG" / FIRST, target)


def test_eeg_and_speech_of_different_lengths_are_told(tmp_path: Path) -> None:
    root = write_natural(tmp_path, (1,), (1, 2))
    write_eeg(root / "Natural Speech" / "EEG" / FIRST, eeg(1, 1, RATE * 8))
    (told,) = source(root, NaturalSpeechSteps()).notes
    assert "more than 1 s" in told and told.endswith("Subject1_Run1 (8.0, 12.0 s)")
    assert prepared(root, tmp_path / "store").trial("Subject1_Run1").duration == 8


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda home: shutil.rmtree(home / "EEG"), "no folder EEG"),
        (lambda home: [p.unlink() for p in (home / "EEG").rglob("*.mat")], "SubjectN/SubjectN_RunM.mat, found none"),
        (
            lambda home: shutil.copy(
                home / "EEG" / "Subject1" / "Subject1_Run1.mat", home / "EEG" / "Subject1" / "Subject1_Run21.mat"
            ),
            "run: expected 1 to 20",
        ),
        (lambda home: (home.parent / "private" / "audio2.wav").unlink(), "audio2.wav: file"),
        (lambda home: moved(home, "Subject20/Subject20_Run1.mat"), "subject: expected 1 to 19, found 20"),
        (lambda home: moved(home, "Subject100/Subject100_Run1.mat"), "subject: expected 1 to 19, found 100"),
        (lambda home: moved(home, "Subject2/Subject1_Run1.mat"), "folder: expected Subject1, found Subject2"),
        (lambda home: moved(home, "Subject1/Subject1_Run01.mat"), "one file, found another one"),
        (lambda home: write_eeg(home / "EEG" / FIRST, eeg(1, 1) * np.float32(1e-6)), "unit=1e6 if the file is in volt"),
    ],
)
def test_broken_copies_are_refused(tmp_path: Path, spoil: object, told: str) -> None:
    root = write_natural(tmp_path, (1,), (1, 2))
    spoil(root / "Natural Speech")  # type: ignore[operator]
    with pytest.raises(BadInput, match=told):
        prepared(root, tmp_path / "store")


def test_damaged_envelopes_are_refused_or_read_as_they_were(tmp_path: Path) -> None:
    """2,000 damaged files, compressed with a checksum."""
    path, slow, refused = tmp_path / "audio1_128Hz.mat", np.arange(64.0)[:, None], 0
    io.savemat(path, {"env": slow}, do_compression=True)
    for version in damaged(path.read_bytes(), 2000):
        path.write_bytes(version)
        try:
            np.testing.assert_array_equal(_envelope(path).read(0, 64), slow.T)
        except BadInput:
            refused += 1
    assert refused > 1000
