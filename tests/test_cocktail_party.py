"""The Cocktail Party data: raw files, both preparations, the HDF5 form, the published split, metrics and protocols."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from eeg2speech_baselines.ceilings import OracleMask
from eeg2speech_baselines.floors import MixtureFloor, SubjectIdOracle
from pystoi.utils import remove_silent_frames
from scipy import io
from scipy.signal import resample_poly

import eeg2speech
from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.studies.cocktail_party import (
    CORRECTED,
    HELD,
    ITEM,
    ITEM_EEG,
    PUBLISHED,
    CocktailParty,
    Preparation,
    corrected,
    held_eeg,
    published,
)
from eeg2speech.data.studies.cocktail_party_example import with_sibilance, write_example
from eeg2speech.data.studies.cocktail_party_files import (
    ATTENTION,
    VARIABLE,
    RawFiles,
    attended_story,
    eeg_path,
    story_path,
)
from eeg2speech.data.studies.cocktail_party_hdf5 import read_hdf5, write_hdf5
from eeg2speech.data.studies.cocktail_party_runs import part_of, published_runs, run_of
from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.metrics import METRICS, Signals, pesq_nb, si_sdr
from eeg2speech.metrics.checks import Unscorable
from eeg2speech.metrics.published import pesq_nb_8k, sdr_voiced, si_sdr_voiced
from eeg2speech.splits import audit, make_split
from eeg2speech.systems.interface import Context, NoSettings
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.examples import Examples

pytestmark = pytest.mark.filterwarnings("ignore:.*runs without a file")
RATE = 44_100
SUBJECTS, RUNS = (1, 18), (11, 22, 2, 3)
"""One test run, one valid run, two of training."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_example(folder, SUBJECTS, RUNS, seconds=20)
    return folder


@pytest.fixture(scope="module")
def stores(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    root = tmp_path_factory.mktemp("stores")
    return {
        "published": published(raw=raw).prepare(root / "published"),
        "corrected": corrected(raw=raw).prepare(root / "corrected"),
    }


def copied(raw: Path, to: Path) -> Path:
    """The files of run 2 alone, to be damaged."""
    for subject in SUBJECTS:
        path = eeg_path(to, subject, 2)
        path.parent.mkdir(parents=True)
        shutil.copy(eeg_path(raw, subject, 2), path)
    for story in ("20000", "Journey"):
        path = story_path(to, story, 2)
        path.parent.mkdir(parents=True)
        shutil.copy(story_path(raw, story, 2), path)
    return to


# The split


def test_the_published_split_is_that_of_the_published_code(stores: dict[str, Store]) -> None:
    runs = published_runs()
    assert runs["test"] == (27, 11, 1, 14, 24) and runs["valid"] == (22, 29) and len(runs["train"]) == 23
    assert sorted(sum(runs.values(), ())) == list(range(1, 31))
    split = make_split(stores["corrected"].index, "published", 14)
    assert split.trials("test") == ("Subject18_Run11", "Subject1_Run11")
    assert split.trials("valid") == ("Subject18_Run22", "Subject1_Run22")
    assert {run_of(name) for name in split.trials("train")} == {2, 3}
    state = random.getstate()
    published_runs()
    assert random.getstate() == state


def test_the_published_split_is_no_other_data_s_nor_seed_s(stores: dict[str, Store]) -> None:
    index = stores["corrected"].index
    with pytest.raises(BadInput, match="seed: expected 14"):
        make_split(index, "published", 0)
    with pytest.raises(BadInput, match="SubjectN_RunM"):
        make_split(replace(index, trials=[replace(t, recording="S01") for t in index.trials]), "published", 14)
    with pytest.raises(BadInput, match="1 to 30"):
        run_of("Subject1_Run31")
    with pytest.raises(BadInput, match="1 to 30"):
        part_of(0)


# Raw files


def test_the_tables_of_attention_differ_for_sixteen_subjects() -> None:
    assert len(ATTENTION["readme"] ^ ATTENTION["correction"]) == 16
    assert attended_story(17, "readme") == "20000" and attended_story(18, "readme") == "Journey"


def test_turned_matrices_are_turned_and_longer_runs_are_kept(raw: Path, tmp_path: Path) -> None:
    root = copied(raw, tmp_path)
    expected = RawFiles(root).eeg(1, 2)
    path = eeg_path(root, 1, 2)
    content = io.loadmat(path)
    turned = {"eegData": content["eegData"].T, "mastoids": content["mastoids"].T, "fs": content["fs"]}
    io.savemat(path, turned)
    np.testing.assert_array_equal(RawFiles(root).eeg(1, 2), expected)
    assert expected.shape == (128, 20 * 128) and expected.dtype == np.float32
    longer = {"eegData": np.pad(content["eegData"], ((0, 10), (0, 0)), "edge"), "fs": content["fs"]}
    io.savemat(path, longer | {"mastoids": np.pad(content["mastoids"], ((0, 10), (0, 0)), "edge")})
    made = CocktailParty(raw=root).prepare(tmp_path / "store")
    assert made.recordings["Subject1_Run2"].samples == 2570 and made.trial("Subject1_Run2").duration == 20.0


def test_the_reference_is_the_mean_of_the_mastoids(raw: Path, tmp_path: Path) -> None:
    root = copied(raw, tmp_path)
    expected, path = RawFiles(root).eeg(1, 2), eeg_path(root, 1, 2)
    content = io.loadmat(path)
    hum = 50 * np.sin(np.arange(len(content["eegData"])) / 4)[:, None]
    io.savemat(path, {"eegData": content["eegData"] + hum, "mastoids": content["mastoids"] + hum, "fs": content["fs"]})
    np.testing.assert_allclose(RawFiles(root).eeg(1, 2), expected, atol=1e-3)


def test_missing_runs_are_told(raw: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Subject1: 1, 4-10, 12-21, 23-30; Subject18"):
        made = corrected(raw=raw).prepare(tmp_path)
    assert made.index.settings["missing"][0].startswith("Subject1: 1, 4-10")  # type: ignore[index]


def test_subject_six_is_left_out_as_published(raw: Path, tmp_path: Path) -> None:
    root = copied(raw, tmp_path / "raw")
    shutil.copytree(root / "EEG" / "Subject1", root / "EEG" / "Subject6")
    (root / "EEG" / "Subject6" / "Subject1_Run2.mat").rename(root / "EEG" / "Subject6" / "Subject6_Run2.mat")
    assert published(raw=root).prepare(tmp_path / "p").subjects == ("Subject01", "Subject18")
    assert corrected(raw=root).prepare(tmp_path / "c").subjects == ("Subject01", "Subject06", "Subject18")


def test_what_is_missing_is_said(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(BadInput, match=f"in the environment variable {VARIABLE}"):
        corrected().prepare(tmp_path / "store")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(BadInput, match="no folder EEG"):
        corrected().prepare(tmp_path / "store")
    root = copied(raw, tmp_path / "Cocktail Party")
    assert corrected().prepare(tmp_path / "store").subjects == ("Subject01", "Subject18")
    story_path(root, "Journey", 2).unlink()
    with pytest.raises(BadInput, match=r"Journey_2\.wav: file"):
        corrected().prepare(tmp_path / "other")
    shutil.rmtree(root / "EEG")
    (root / "EEG").mkdir()
    with pytest.raises(BadInput, match="SubjectN_RunM.mat, found none"):
        corrected().prepare(tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fs": 512.0}, "fs: expected 128 Hz, found 512 Hz"),
        ({"eegData": np.zeros((2560, 64))}, r"eegData: expected \[samples, 128\]"),
        ({"mastoids": np.zeros((2561, 2))}, "mastoids: expected 2560 samples"),
        ({"eegData": np.full((2560, 128), np.nan)}, "eegData: expected finite"),
        ({"mastoids": None}, "variables: expected eegData, mastoids, fs"),
    ],
)
def test_eeg_that_is_not_as_it_should_be_is_refused(
    raw: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = eeg_path(copied(raw, tmp_path), 1, 2)
    content = {key: value for key, value in io.loadmat(path).items() if key[0] != "_"} | change
    io.savemat(path, {key: value for key, value in content.items() if value is not None})
    with pytest.raises(BadInput, match=message):
        RawFiles(tmp_path).eeg(1, 2)


def test_files_of_another_kind_are_refused(raw: Path, tmp_path: Path) -> None:
    root = copied(raw, tmp_path)
    eeg_path(root, 1, 2).write_bytes(b"no matrix")
    with pytest.raises(BadInput, match="a MATLAB file"):
        RawFiles(root).eeg(1, 2)
    wav = story_path(root, "20000", 2)
    for rate, sound, message in ((48_000, np.zeros(99), "rate: expected 44100"), (RATE, np.zeros((9, 2)), "channels")):
        soundfile.write(wav, sound, rate)
        with pytest.raises(BadInput, match=message):
            RawFiles(root).story("20000", 2)
    wav.write_bytes(b"no sound")
    with pytest.raises(BadInput, match="a wav file"):
        RawFiles(root).story("20000", 2)


# The preparations, switch by switch


def tone(hertz: float, seconds: float = 6.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def strongest(sound: np.ndarray, rate: int) -> tuple[float, float]:
    """Frequency in Hz and amplitude of the strongest part of a sound."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) * 4 / len(sound)
    return float(np.argmax(spectrum) * rate / len(sound)), float(spectrum.max())


def test_decimation_without_a_filter_folds_what_a_filter_removes() -> None:
    half, both = Preparation(audio_rate=14_700), tone(440) + tone(12_000)
    filtered, folded = half.sound(both), replace(half, anti_alias=False).sound(both)
    residue = folded - filtered
    assert strongest(residue[7350:-7350], 14_700)[0] == pytest.approx(14_700 - 12_000, abs=1)
    assert strongest(residue[7350:-7350], 14_700)[1] == pytest.approx(0.05, rel=0.01)
    assert strongest(half.sound(tone(12_000) + 0.1 * tone(440))[7350:-7350], 14_700)[0] == pytest.approx(440, abs=1)


@pytest.mark.parametrize("rate", [14_700, 16_000])
def test_with_the_drift_an_item_of_sound_meets_an_item_of_eeg(rate: int) -> None:
    """A click at the start of item i of the sound lies at 2 i s of the store's clock, and 14.7 ms later with each."""
    sound = 1e-3 * np.random.default_rng(0).standard_normal(30 * ITEM + 5)
    sound[np.arange(30) * ITEM + 3] = 1.0
    drifting, straight = Preparation(drift=True, audio_rate=rate), Preparation(audio_rate=rate)
    made = drifting.sound(sound)
    assert len(made) == 60 * drifting.store_rate and drifting.seconds(len(sound), 7681) == 60.0
    assert (drifting.store_rate, straight.store_rate) == ({14_700: 14_592, 16_000: 15_882}[rate], rate)
    clicks = [2 * i + np.argmax(made[2 * i * drifting.store_rate :][: drifting.store_rate]) / rate for i in range(30)]
    np.testing.assert_allclose(clicks, 2.0 * np.arange(30), atol=2.5e-4)
    right = straight.sound(sound)
    late = [2 * i - np.argmax(right[round(i * ITEM / RATE * rate) - 9 :][:99]) / rate for i in range(30)]
    begun = np.array([round(i * ITEM / RATE * rate) - 9 for i in range(30)]) / rate
    drift = np.array(late) - begun
    np.testing.assert_allclose(drift, np.arange(30) * (2 - ITEM / RATE), atol=2.5e-4)
    assert drift[-1] + 2 - ITEM / RATE == pytest.approx(0.44, abs=0.002)


def test_without_the_drift_all_of_the_sound_is_used() -> None:
    assert CORRECTED.seconds(60 * RATE, 7681) == 60.0 and CORRECTED.seconds(60 * RATE, 7600) == 7600 / 128
    assert len(CORRECTED.sound(tone(440))) == 6 * 16_000
    assert PUBLISHED.seconds(60 * RATE, 7679) == 58.0 and len(PUBLISHED.sound(tone(440))) == 3 * ITEM // 3


def test_held_eeg_holds_nothing_new() -> None:
    eeg = np.random.default_rng(0).standard_normal((3, 256))
    held = PUBLISHED.as_seen(eeg)
    assert held.shape == (3, ITEM // 3) and CORRECTED.as_seen(eeg) is eeg
    np.testing.assert_array_equal(held[:, ::HELD], eeg)
    np.testing.assert_array_equal(held, held_eeg(eeg))
    slow = np.sin(2 * np.pi * 4 * np.arange(512) / 128)
    read = resample_poly(held_eeg(slow), 1, HELD)
    late = np.sin(2 * np.pi * 4 * (np.arange(512) / 128 - (HELD - 1) / HELD / 256))
    np.testing.assert_allclose(read[64:-64], late[64:-64], atol=5e-3)


def test_the_other_table_exchanges_the_talkers(raw: Path, stores: dict[str, Store], tmp_path: Path) -> None:
    other = CocktailParty(replace(CORRECTED, attention="correction"), "other", raw).prepare(tmp_path)
    for name, trial in stores["corrected"].trials.items():
        assert (other.trial(name).attended, other.trial(name).unattended) == (trial.unattended, trial.attended)


def test_a_study_says_what_it_is_and_opens_its_own_store_alone(raw: Path, stores: dict[str, Store]) -> None:
    facts = published().facts
    assert (facts.name, facts.doi, facts.licence) == ("cocktail-party-published", "10.5061/dryad.070jc", "CC0 1.0")
    assert (facts.audio_rate, corrected().facts.audio_rate) == (14_592, 16_000)
    assert any("drift" in problem for problem in facts.known_problems)
    root = stores["published"].root
    assert published().prepare(root).index.revision == stores["published"].index.revision
    with pytest.raises(BadInput, match="settings: "):
        CocktailParty(replace(PUBLISHED, drift=False), "cocktail-party-published").prepare(root)
    with pytest.raises(BadInput, match="settings: study"):
        corrected().prepare(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anti_alias": False}, "to drop samples without a filter"),
        ({"audio_rate": 48_000}, "below the 44100 Hz"),
        ({"attention": "readmee"}, "did you mean 'readme'"),
    ],
)
def test_switches_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(CORRECTED, **change)  # type: ignore[arg-type]


def test_silence_and_sound_shorter_than_an_item_are_refused() -> None:
    for prepared, sound in ((CORRECTED, np.zeros(RATE)), (PUBLISHED, tone(440, 1.9))):
        with pytest.raises(BadInput, match="expected speech"):
            prepared.sound(sound)


# The example


def test_the_example_has_sound_above_the_speech_that_follows_it() -> None:
    rng = np.random.default_rng(0)
    speech = np.float32(0.1) * rng.standard_normal(32_000).astype(np.float32)
    speech[16_000:] = 0
    made = with_sibilance(speech, "x")
    high = np.abs(np.fft.rfft(made[: RATE // 2]))[4500:7500].mean(), np.abs(np.fft.rfft(made[-RATE // 2 :])).mean()
    assert high[0] > 100 * high[1]


def test_the_example_does_not_go_beyond_its_stories(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="runs: expected 1 to 30"):
        write_example(tmp_path, (1,), (31,), 2)
    with pytest.raises(BadInput, match="attention"):
        write_example(tmp_path, (1,), (1,), 2, "nobody")  # type: ignore[arg-type]


# HDF5


@pytest.fixture(scope="module")
def hdf5(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hdf5")
    assert write_hdf5(RawFiles(raw), folder, 2) == {"train": 4 * 10, "valid": 2 * 10, "test": 2 * 10}
    return folder


def test_the_fifteen_files_have_the_published_form(raw: Path, hdf5: Path, tmp_path: Path) -> None:
    assert len(list(hdf5.glob("*.h5"))) == 15
    rows = read_hdf5(hdf5, "train")
    assert rows["eegs"].shape == (40, 256, 128) and rows["eegs"].dtype == np.float64
    assert all(rows[kind].shape == (40, ITEM, 1) for kind in ("noisy", "clean", "unattended"))
    assert all(rows[kind].dtype == np.float32 for kind in ("noisy", "clean", "unattended"))
    assert rows["subjects"].dtype == np.int64 and sorted(rows["subjects"]) == 20 * [1] + 20 * [18]
    assert all(np.abs(rows[kind]).max() == pytest.approx(1.0) for kind in ("eegs", "noisy", "clean", "unattended"))
    assert write_hdf5(RawFiles(raw), tmp_path, 20)["test"] == 2
    long = read_hdf5(tmp_path, "test")
    assert long["clean"].shape == (2, 10 * ITEM, 1) and long["eegs"].shape == (2, 2560, 128)


def test_rows_are_permuted_alike_and_drift(raw: Path, hdf5: Path) -> None:
    """Before the permutation, row i of a run is its sound from i * 1.98531 s on, and its EEG from 2 i s on."""
    train = read_hdf5(hdf5, "train")
    rng = np.random.RandomState(14)
    order = rng.permutation(40)
    files = RawFiles(raw)
    run = {k: place for place, k in enumerate(order)}
    for subject, first in ((1, 0), (18, 20)):
        sound, eeg = files.story("20000", 2), files.eeg(subject, 2)
        for item in (0, 4, 9):
            row = run[first + item]
            assert train["subjects"][row] == subject
            kind = "clean" if subject == 1 else "unattended"
            near(train[kind][row, :, 0], sound[item * ITEM :][:ITEM])
            near(train["eegs"][row].T, eeg[:, item * ITEM_EEG :][:, :ITEM_EEG])
    assert pytest.approx(1.98531, abs=1e-5) == ITEM / RATE
    valid = read_hdf5(hdf5, "valid")
    assert list(valid["subjects"]) == [1 if k < 10 else 18 for k in rng.permutation(20)]


def near(found: np.ndarray, expected: np.ndarray) -> None:
    """The same but for a gain."""
    gain = (found * expected).sum() / np.square(expected, dtype=np.float64).sum()
    np.testing.assert_allclose(found, gain * expected, atol=2e-6)


def test_published_store_and_hdf5_hold_the_same_samples(stores: dict[str, Store], hdf5: Path) -> None:
    """Each window of the store is [::3] of a row and meets the same EEG; the mixture is the same to 40 dB."""
    store, rows = stores["published"], read_hdf5(hdf5, "test")
    rng = np.random.RandomState(14)
    order = [rng.permutation(count) for count in (40, 20, 20)][-1]
    mixer = Mixer(store)
    for row, item in enumerate(order):
        subject, number = (1, item) if item < 10 else (18, item - 10)
        segment = Segment(f"Subject{subject}_Run11", 2.0 * number, 2.0)
        cut, scene = store.cut(segment), mixer.scene(segment)
        assert rows["subjects"][row] == subject and cut.attended.shape == (ITEM // 3,)
        near(rows["clean"][row, ::3, 0], cut.attended)
        near(rows["unattended"][row, ::3, 0], cut.unattended)
        near(rows["eegs"][row].T, cut.eeg)
        assert si_sdr(rows["noisy"][row, ::3, 0], scene.mixture) > 40


def test_hdf5_files_that_are_wrong_are_refused(raw: Path, hdf5: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2 or 20"):
        write_hdf5(RawFiles(raw), tmp_path, 60)
    with pytest.raises(BadInput, match=r"\(valid\)"):
        write_hdf5(RawFiles(copied(raw, tmp_path / "one")), tmp_path, 2)
    with pytest.raises(BadInput, match=r"eegs_train\.h5: file"):
        read_hdf5(tmp_path, "train")
    with pytest.raises(BadInput, match="part"):
        read_hdf5(hdf5, "val")
    shutil.copytree(hdf5, tmp_path / "mixed")
    shutil.copy(hdf5 / "clean_train.h5", tmp_path / "mixed" / "clean_test.h5")
    with pytest.raises(BadInput, match="as many in all five files"):
        read_hdf5(tmp_path / "mixed", "test")
    (tmp_path / "mixed" / "eegs_test.h5").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="an HDF5 file"):
        read_hdf5(tmp_path / "mixed", "test")


# Metrics


def speech_like(seed: int, rate: int = 14_700) -> np.ndarray:
    """Two seconds of noise that comes and goes, one second of silence."""
    rng = np.random.default_rng(seed)
    t = np.arange(3 * rate) / rate
    return (0.1 * rng.standard_normal(3 * rate) * (1 + np.sin(2 * np.pi * 4 * t)) * (t < 2)).astype(np.float32)


def test_errors_in_the_pauses_are_not_counted_once_silence_is_removed() -> None:
    clean = speech_like(0)
    hiss = 0.1 * np.random.default_rng(1).standard_normal(len(clean)).astype(np.float32)
    pause = np.arange(len(clean)) > 2.05 * 14_700
    noisy = clean + np.where(pause, hiss, 0.01 * hiss).astype(np.float32)
    assert si_sdr_voiced(clean, noisy) > si_sdr(clean, noisy) + 20
    assert METRICS["sdr_voiced"](Signals(clean, noisy), 14_700) == sdr_voiced(clean, noisy)
    assert si_sdr_voiced(clean, clean) == si_sdr(clean, clean) == 100.0


def test_silence_is_removed_as_in_the_published_code() -> None:
    clean = speech_like(0)
    noisy = clean + speech_like(2)
    s, e = remove_silent_frames(clean.astype(float), noisy.astype(float), 40, 256, 128)
    projection = (s @ e) / (s @ s) * s
    expected = 10 * np.log10((projection @ projection) / ((projection - e) @ (projection - e)))
    assert METRICS["si_sdr_voiced"](Signals(clean, noisy), 14_700) == pytest.approx(expected)
    assert si_sdr_voiced(clean, 3 * noisy) == pytest.approx(expected, abs=1e-4)


def test_published_pesq_is_narrow_band_behind_another_filter(stores: dict[str, Store]) -> None:
    scene = Mixer(stores["corrected"]).scene(Segment("Subject1_Run11", 4.0, 4.0))
    one, other = pesq_nb_8k(scene.target, scene.mixture, 16_000), pesq_nb(scene.target, scene.mixture, 16_000)
    assert one == pytest.approx(other, abs=0.05) and one != other
    slow = scene.target[::2].copy(), scene.mixture[::2].copy()
    assert pesq_nb_8k(*slow, 8_000) == pesq_nb(*slow, 8_000)


def test_published_metrics_say_why_they_have_no_score() -> None:
    short = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    for scored in (si_sdr_voiced, sdr_voiced):
        with pytest.raises(Unscorable, match="too short"):
            scored(short, short)
    with pytest.raises(Unscorable, match="silent estimate"):
        si_sdr_voiced(speech_like(0), np.zeros_like(speech_like(0)))


# Protocols


@pytest.mark.parametrize("name", ["published", "corrected"])
def test_a_protocol_runs_from_raw_files_to_a_record(stores: dict[str, Store], name: str) -> None:
    store, label = stores[name], f"cocktail-party-{name}-1"
    means = {}
    for system in (MixtureFloor, OracleMask):
        made = system(Context.of(store, 20.0), NoSettings())
        result = eeg2speech.evaluate(made, store, "published", ["true_eeg"], label)
        record = result.records["true_eeg"]
        assert record.n_segments_expected == 2 and all(m.n_failed == 0 for m in record.metrics.values())
        assert set(record.metrics) == set(protocol(label).metrics)
        means[system] = {metric: result.mean for metric, result in record.metrics.items()}
    assert all(means[OracleMask][metric] > means[MixtureFloor][metric] for metric in ("si_sdr", "stoi"))
    headline = "si_sdr_voiced" if name == "published" else "si_sdr"
    assert -1 < means[MixtureFloor][headline] < 2 < means[OracleMask][headline]


def test_a_protocol_is_of_its_own_preparation(stores: dict[str, Store]) -> None:
    split = make_split(stores["corrected"].index, "published", 14)
    with pytest.raises(BadInput, match=r"14592 Hz \(cocktail-party-published-1\), found 16000 Hz"):
        protocol("cocktail-party-published-1").test_segments(stores["corrected"], split)


def test_who_listens_tells_the_talker(stores: dict[str, Store], tmp_path: Path) -> None:
    store = stores["published"]
    split, mixer = make_split(store.index, "published", 14), Mixer(store)
    knows = SubjectIdOracle(Context.of(store, 20.0), NoSettings())
    parts = [Examples(store, split.parts[part], mixer) for part in ("train", "valid")]
    knows.fit(*parts, Budget("demo"), RunOptions(tmp_path))
    record = eeg2speech.evaluate(knows, store, "published", ["true_eeg"], "cocktail-party-published-1").records
    assert record["true_eeg"].metrics["selection_accuracy"].mean == 1.0
    assert "subject decides target" in {finding.name for finding in audit(store.index, split)}
