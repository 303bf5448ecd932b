"""Cocktail Party as it is downloaded: who attended has to be chosen; every awkward file is read or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz import damaged
from scipy import io
from scipy.io import wavfile
from study_broderick_files import RATE, SECONDS, SOUND, eeg, sound, write, write_eeg, write_sound

from eeg2speech.data.store import Store
from eeg2speech.data.studies.broderick_cocktail_party import (
    CocktailPartySteps,
    _mono,
    cocktail_party,
    cocktail_party_envelopes,
    source,
)
from eeg2speech.data.studies.cocktail_party_files import ATTENTION, RawFiles, attended_story, run_blocks
from eeg2speech.errors import BadInput
from eeg2speech.splits import make_split

pytestmark = pytest.mark.filterwarnings("ignore:cocktail-party")


def prepared(raw: Path, out: Path, envelopes: bool = False, **given: object) -> Store:
    study = cocktail_party_envelopes() if envelopes else cocktail_party()
    study.raw, study.given = raw, {"attention": "readme"} | given
    return study.prepare(out)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("dryad"))


@pytest.fixture(scope="module")
def store(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepared(raw, tmp_path_factory.mktemp("prepared") / "store")


def test_every_run_is_a_recording_and_missing_ones_are_told(raw: Path, store: Store, tmp_path: Path) -> None:
    assert len(store.recordings) == len(store.trials) == 11
    assert "Subject6_Run2" not in store.recordings
    with pytest.warns(UserWarning, match=r"runs without a file: Subject1: 3-21, 23-26, 28-30; Subject6: 2-21"):
        prepared(raw / "Cocktail Party", tmp_path / "store")
    with pytest.warns(UserWarning, match=r"no subject 2-5, 7-17, 19-33"):
        prepared(raw, tmp_path / "another")
    split = make_split(store.index, "published", seed=14)
    assert {part: len(split.trials(part)) for part in split.parts} == {"train": 2, "valid": 3, "test": 6}


def test_trials_last_as_long_as_eeg_and_sound(store: Store) -> None:
    lengths = {name: trial.duration * RATE for name, trial in store.trials.items()}
    assert {lengths[f"Subject1_Run{run}"] - SECONDS * RATE for run in (1, 2, 27)} == {0}
    assert lengths["Subject1_Run22"] == SECONDS * RATE - 1


@pytest.mark.parametrize("attention, stories", [("readme", "220"), ("correction", "J2J")])
def test_who_attended_follows_the_table_that_was_chosen(
    raw: Path, tmp_path: Path, attention: str, stories: str
) -> None:
    found = prepared(raw, tmp_path / "store", attention=attention)
    heard = {t.subject: found.stimuli[t.attended].story for t in found.trials.values()}
    expected = {"readme": ("20000", "20000", "Journey"), "correction": ("Journey", "20000", "20000")}[attention]
    assert tuple(heard.values()) == expected, stories


def test_the_ear_is_told_where_the_table_leaves_no_doubt(raw: Path, store: Store, tmp_path: Path) -> None:
    """Subjects 1 and 18 are among those on whom the tables differ, subject 6 is not."""
    corrected = prepared(raw, tmp_path / "store", attention="correction")
    ears = [{t.subject: t.ear for t in each.trials.values()} for each in (store, corrected)]
    assert ears[0] == {"Subject01": "left", "Subject06": "left", "Subject18": "right"}
    assert ears[1] == {"Subject01": "", "Subject06": "left", "Subject18": ""}
    differ = [n for n in range(1, 34) if len({attended_story(n, table) for table in ATTENTION}) > 1]
    assert len(differ) == 16


def test_the_choice_has_to_be_made(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="attention: expected --set attention=readme or --set attention=correction: two"):
        prepared(raw, tmp_path / "store", attention="")
    with pytest.raises(BadInput, match="attention"):
        prepared(raw, tmp_path / "store", attention="both")


@pytest.mark.parametrize("subject", [1, 6])
def test_eeg_is_that_of_the_file_against_the_mastoids_whichever_way_it_lies(store: Store, subject: int) -> None:
    signal = eeg(subject, 27, RATE * SECONDS).astype(np.float64)
    expected = signal[:, :128].T - signal[:, 128:].mean(axis=1)
    found = store.eeg(f"Subject{subject}_Run27")
    # High-passed at 0.5 Hz: noise of 20 microvolt hardly changes.
    assert np.corrcoef(found[5, 200:-200], expected[5, 200:-200])[0, 1] > 0.98
    assert found.std() == pytest.approx(expected.std(), rel=0.05)


def test_units_and_subjects_are_settings(raw: Path, store: Store, tmp_path: Path) -> None:
    in_volts = tmp_path / "raw"
    shutil.copytree(raw, in_volts)
    for run in (1, 2, 22, 27):
        samples = RATE * SECONDS + (run == 1) - (run == 22)
        path = in_volts / "Cocktail Party" / "EEG" / "Subject1" / f"Subject1_Run{run}.mat"
        write_eeg(path, eeg(1, run, samples) * np.float32(1e-6))
    volts = prepared(in_volts, tmp_path / "volts", unit=1e6, left_out="6, 18")
    assert volts.subjects == ("Subject01",)
    np.testing.assert_allclose(volts.eeg("Subject1_Run1"), store.eeg("Subject1_Run1"), atol=1e-3)
    with pytest.raises(BadInput, match="by 0.1 to 100000 microvolt .unit=1e6 .* found 1.99e-05"):
        prepared(in_volts, tmp_path / "taken for microvolt")
    with pytest.raises(BadInput, match="median sensor"):
        prepared(raw, tmp_path / "taken for volts", unit=1e6)


@pytest.mark.parametrize(
    "name, value",
    [("unit", 0), ("unit", "inf"), ("unit", "nan"), ("x", 1)]
    + [("left_out", text) for text in ("six", "²", "٣", "0", "34", "6,,18", "-6", "1,6,18")],
)
def test_settings_that_say_nothing_are_refused(raw: Path, tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(BadInput, match=name):
        prepared(raw, tmp_path / "store", **{name: value})


def test_eeg_and_speech_of_different_lengths_are_told(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    home = tmp_path / "raw" / "Cocktail Party"
    write_eeg(home / "EEG" / "Subject1" / "Subject1_Run1.mat", eeg(1, 1, RATE * SECONDS + 10))
    assert source(tmp_path / "raw", CocktailPartySteps(attention="readme")).notes == ()
    wavfile.write(
        home / "Stimuli" / "Full_Audio" / "Journey" / "Journey_27.wav", SOUND, sound("Journey", 27)[: 5 * SOUND]
    )
    (told,) = source(tmp_path / "raw", CocktailPartySteps(attention="readme")).notes
    assert "more than 1 s" in told
    assert told.endswith("ends the trial: Subject1_Run27 (12.0, 12.0, 5.0 s)")
    store = prepared(tmp_path / "raw", tmp_path / "store")
    assert store.index.settings["notes"] == [told]
    assert (store.trial("Subject1_Run1").duration, store.trial("Subject1_Run27").duration) == (SECONDS, 5)


def test_the_way_of_mastoids_and_of_numbers_is_free(raw: Path, tmp_path: Path) -> None:
    """Mastoids flipped alone, and a run with a leading zero in its name."""
    shutil.copytree(raw, tmp_path / "raw")
    folder = tmp_path / "raw" / "Cocktail Party" / "EEG" / "Subject1"
    signal = eeg(1, 1)
    content = {"eegData": signal[:, :128], "mastoids": signal[:, 128:].T, "fs": 128.0}
    io.savemat(folder / "Subject1_Run01.mat", content)
    (folder / "Subject1_Run1.mat").unlink()
    first = source(tmp_path / "raw", CocktailPartySteps(attention="readme")).items[0]
    (take,) = first.takes()
    assert first.id == take.id == "Subject1_Run1"
    np.testing.assert_array_equal(take.eeg.read(0, take.eeg.samples), signal.T)


def test_envelopes_stand_in_for_sound(raw: Path, tmp_path: Path) -> None:
    without = tmp_path / "raw"
    shutil.copytree(raw, without)
    shutil.rmtree(without / "Cocktail Party" / "Stimuli" / "Full_Audio")
    with pytest.raises(BadInput, match="or the study cocktail-party-envelopes., found no wav file in Stimuli/Full_Au"):
        prepared(without, tmp_path / "store")
    found = prepared(without, tmp_path / "envelopes", envelopes=True)
    stimulus = found.stimuli[found.trial("Subject1_Run1").attended]
    assert (stimulus.bands, stimulus.rate, stimulus.samples) == (1, 128, SECONDS * RATE)
    path = without / "Cocktail Party" / "Stimuli" / "Envelopes" / "20000" / "20000_1_env.mat"
    np.testing.assert_allclose(found.stimulus(stimulus.id)[0], io.loadmat(path)["envelope"][:, 0], rtol=1e-6)
    io.savemat(path, {"envelope": np.ones((RATE * SECONDS // 2, 1)), "fsEnv": np.float64(64)})
    with pytest.raises(BadInput, match="fsEnv: expected 128 Hz, found 64 Hz"):
        prepared(without, tmp_path / "slow", envelopes=True)
    path.unlink()
    with pytest.raises(BadInput, match=r"20000_1_env.mat: file: expected the speech of every run.*1 files are missing"):
        prepared(without, tmp_path / "gone", envelopes=True)


def test_impulses_are_found_within_one_eeg_sample(tmp_path: Path) -> None:
    home = write(tmp_path, (1,), (1, 22, 27)) / "Cocktail Party"
    places = (0.5, 6.0, SECONDS - 0.5)
    signal, wave = np.zeros((RATE * SECONDS, 130), np.float32), np.zeros(SECONDS * SOUND, np.int16)
    for place in places:
        signal[round(place * RATE), :128] = 1000
        wave[round(place * SOUND)] = 30_000
    write_eeg(home / "EEG" / "Subject1" / "Subject1_Run1.mat", signal)
    write_sound(home, "20000", 1, wave)
    found = prepared(tmp_path, tmp_path / "store")
    trial = found.trial("Subject1_Run1")
    for place in places:
        for each, rate in ((found.eeg(trial.recording)[3], RATE), (found.stimulus(trial.attended), 16_000)):
            near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
            assert abs((near.start + np.argmax(np.abs(each[near]))) / rate - place) <= 1 / RATE


def moved(run: Path, name: str) -> None:
    """Another file of the same content."""
    target = run.parents[1] / name
    target.parent.mkdir(exist_ok=True)
    shutil.copy(run, target)


Spoil = Callable[[Path, Path], object]
BROKEN: dict[str, tuple[Spoil, str]] = {
    "rate": (lambda run, wav: write_eeg(run, eeg(1, 1), fs=np.float64(512)), "fs: expected 128 Hz, found 512 Hz"),
    "channels": (lambda run, wav: io.savemat(run, {"eegData": np.ones((99, 64)), "mastoids": 1, "fs": 128}), "eegData"),
    "no mastoids": (lambda run, wav: write_eeg(run, eeg(1, 1), mastoids=None), "eegData, mastoids, fs"),
    "lengths": (lambda run, wav: write_eeg(run, eeg(1, 1), mastoids=np.ones((5, 2))), "mastoids: expected 1537"),
    "NaN": (lambda run, wav: write_eeg(run, eeg(1, 1) * np.nan), "finite"),
    "text": (lambda run, wav: run.write_text("no"), "a MATLAB file"),
    "no sound": (lambda run, wav: wav.unlink(), "20000_1.wav: file"),
    "not a sound": (lambda run, wav: wav.write_bytes(b"RIFFno"), "a sound file"),
    "run": (lambda run, wav: shutil.copy(run, run.with_name("Subject1_Run31.mat")), "1 to 30"),
    "subject": (lambda run, wav: moved(run, "Subject34/Subject34_Run1.mat"), "subject: expected 1 to 33, found 34"),
    "nobody": (lambda run, wav: moved(run, "Subject0/Subject0_Run1.mat"), "subject: expected 1 to 33, found 0"),
    "folder": (lambda run, wav: moved(run, "Subject2/Subject1_Run1.mat"), "folder: expected Subject1, found Subject2"),
    "twice": (lambda run, wav: moved(run, "Subject1/Subject1_Run01.mat"), "one file, found another one"),
    "no EEG": (lambda run, wav: shutil.rmtree(run.parent), "SubjectN/SubjectN_RunM.mat, found none"),
    "flat": (lambda run, wav: write_eeg(run, eeg(1, 1) * 0), "median sensor"),
    "huge": (lambda run, wav: write_eeg(run, eeg(1, 1).astype(float) * 1e300), "median sensor"),
    "both ears": (lambda run, wav: wavfile.write(wav, SOUND, np.ones((SOUND, 2), np.int16)), "channels: expected one"),
    "empty sound": (lambda run, wav: wavfile.write(wav, SOUND, np.ones(0, np.int16)), "20000_1.wav"),
    "no Journey": (lambda run, wav: shutil.rmtree(wav.parents[1] / "Journey"), "Journey_1.wav.*2 files are missing"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    home = write(tmp_path, (1,), (1, 2)) / "Cocktail Party"
    spoil, told = BROKEN[case]
    spoil(home / "EEG" / "Subject1" / "Subject1_Run1.mat", home / "Stimuli" / "Full_Audio" / "20000" / "20000_1.wav")
    with pytest.raises(BadInput, match=told):
        prepared(tmp_path, tmp_path / "store")
    assert not (tmp_path / "store" / "index.json").exists()


def test_damage_ends_in_a_refusal_or_in_what_the_file_said(tmp_path: Path) -> None:
    """2,000 damaged files. They are compressed with a checksum: what is read at all is what was written."""
    path = tmp_path / "EEG" / "Subject1" / "Subject1_Run1.mat"
    signal = eeg(1, 1, 8)
    write_eeg(path, signal)
    whole, refused = path.read_bytes(), 0
    raw = RawFiles(tmp_path)
    for version in damaged(whole, 2000):
        path.write_bytes(version)
        try:
            np.testing.assert_array_equal(raw.unfiltered(1, 1), signal.T)
        except BadInput:
            refused += 1
    assert refused > 1000


def test_damage_without_a_checksum_leaves_shape_and_finite_numbers(tmp_path: Path) -> None:
    """2,000 damaged files that are not compressed: a number may be another one, and nothing else."""
    path = tmp_path / "Subject1_Run1.mat"
    io.savemat(path, {"eegData": eeg(1, 1, 4)[:, :128], "mastoids": eeg(1, 1, 4)[:, 128:], "fs": 128.0})
    read = 0
    for version in damaged(path.read_bytes(), 2000, seed=1):
        path.write_bytes(version)
        try:
            blocks = run_blocks(path, 1.0)
        except BadInput:
            continue
        assert (blocks.channels, blocks.rate) == (130, 128)
        assert np.isfinite(blocks.read(0, blocks.samples)).all()
        read += 1
    assert 0 < read < 2000


def test_damaged_sound_is_refused_or_as_long_as_it_says(tmp_path: Path) -> None:
    """2,000 damaged files: a wav has no checksum."""
    path = tmp_path / "20000_1.wav"
    wavfile.write(path, SOUND, sound("20000", 1)[:300])
    read = 0
    for version in damaged(path.read_bytes(), 2000, seed=2):
        path.write_bytes(version)
        try:
            blocks = _mono(path)
            wave = blocks.read(0, blocks.samples)
        except BadInput:
            continue
        assert wave.shape == (1, blocks.samples)
        assert blocks.samples <= 8 * len(version)
        read += 1
    assert 0 < read < 2000
