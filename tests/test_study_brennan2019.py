"""Alice: words of the table and of the EEG meet by their order; both releases; both ideas of when a word begins."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzz import damaged
from study_brennan2019_files import (
    LABELS,
    RATE,
    SENSORS,
    SOUND,
    cell,
    noise,
    proc,
    raw,
    spread,
    trl,
    words,
    write_proc,
    write_raw,
    write_study,
)

from eeg2speech.data.store import Store
from eeg2speech.data.studies.brennan2019 import Brennan2019Steps, _fieldtrip, _Words, brennan2019, source
from eeg2speech.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:brennan2019")
PLAIN = {"high_pass": 0, "reference": "none", "bad_deviation": 1e9}
FIRST = spread(words(2))
"""The sample at which each segment begins."""


def prepared(root: Path, out: Path, **given: object) -> Store:
    study = brennan2019()
    study.raw, study.given = root, given
    return study.prepare(out)


def starts(root: Path, **given: object) -> list[float]:
    """Where segments begin in the first person's EEG, in samples."""
    steps = Brennan2019Steps(**given)  # type: ignore[arg-type]
    return [take.start * RATE for take in source(root, steps).items[0].takes()]


def changed(root: Path, change: Callable[[np.ndarray], np.ndarray], **given: object) -> None:
    """Another ``proc`` of the first person."""
    write_proc(root / "proc", proc(change(trl(words(2), FIRST)), "S01", **given))


@pytest.mark.parametrize("release", ["v1", "v2"])
def test_segments_are_trials_where_their_words_say(tmp_path: Path, release: str) -> None:
    root = write_study(tmp_path / "raw", release=release)
    store = prepared(root, tmp_path / "store", eeg_rate=500, **PLAIN)
    assert store.subjects == ("S01", "S03") and len(store.trials) == 4 and len(store.stimuli) == 2
    assert store.index.sensors.names == tuple(SENSORS)
    assert all(trial.unattended is None for trial in store.trials.values())
    count = FIRST[2] + round((max(row["offset"] for row in words(2)) + 0.2) * RATE)
    for number, trials in ((1, [t for t in store.trials.values() if t.subject == "S01"]),):
        signal = noise(len(LABELS), count, seed=number)[:60]
        for trial, begin in zip(trials, FIRST.values(), strict=True):
            first, length = round(trial.start * RATE), round(trial.duration * RATE)
            found = store.eeg(trial.recording)[:, first : first + length]
            np.testing.assert_allclose(found, signal[:, begin : begin + length], rtol=1e-3, atol=1e-2)


def test_the_onset_is_undone_to_the_sample_and_an_epoch_taken_for_it_is_early(tmp_path: Path) -> None:
    root = write_study(tmp_path / "raw")
    assert starts(root) == pytest.approx(list(FIRST.values()))
    early = np.array(starts(root, onset="epoch")) - list(FIRST.values())
    np.testing.assert_allclose(early, -150, atol=1.5)


def test_words_meet_by_their_order_and_not_by_their_place(tmp_path: Path) -> None:
    root = write_study(tmp_path / "raw")
    changed(root, lambda matrix: matrix[::-1][:-1])
    assert starts(root) == pytest.approx(list(FIRST.values()))
    with pytest.raises(BadInput):
        starts(root, join="row", triggers="refuse")


def test_people_are_those_of_a_list_and_the_missing_are_told(tmp_path: Path) -> None:
    root = write_study(tmp_path / "raw", (1, 2, 7, 26))

    def chosen(name: str) -> set[str]:
        return {item.subject for item in source(root, Brennan2019Steps(subjects=name)).items}  # type: ignore[arg-type]

    assert chosen("paper") == {"S01", "S26"} and chosen("brainmagick") == {"S01", "S07"}
    assert chosen("all") == {"S01", "S02", "S07", "S26"}
    assert "S03" in " ".join(source(root, Brennan2019Steps()).missing)


@pytest.mark.parametrize(
    "bads, expected", [(cell(["12", "40"]).T, ("12", "40")), ("12", ("12",)), (np.empty((0, 0)), ())]
)
def test_bad_channels_one_many_or_none(tmp_path: Path, bads: object, expected: tuple[str, ...]) -> None:
    root = write_study(tmp_path / "raw")
    changed(root, lambda matrix: matrix, impedence={"bads": bads}, rejections={"badchans": bads})
    assert next(iter(source(root, Brennan2019Steps()).items[0].takes())).bad == expected


def test_files_without_the_channel_of_sound_and_with_another_name_of_it(tmp_path: Path) -> None:
    root = write_study(tmp_path / "raw")
    expected = starts(root)
    signal = noise(62, 4000, seed=1)
    for labels in (LABELS[:61], [*LABELS[:61], "Aux5"]):
        write_raw(root, raw(signal[: len(labels)], labels))
        blocks = _fieldtrip(root / "S01.mat")
        np.testing.assert_array_equal(blocks.read(0, 100), signal[:60, :100])
    assert starts(root) == expected


def test_impulses_are_found_within_one_eeg_sample(tmp_path: Path) -> None:
    root, places = write_study(tmp_path / "raw", (1,)), (0.3, 0.9, 1.6)
    count = FIRST[2] + round((max(row["offset"] for row in words(2)) + 0.2) * RATE)
    signal, sound = noise(len(LABELS), count, scale=1.0), np.zeros(round(1.9 * SOUND))
    for place in places:
        signal[:60, round(FIRST[2] + place * RATE)] = 1000
        sound[round(place * SOUND)] = 0.9
    write_raw(root, raw(signal))
    soundfile.write(root / "audio" / "DownTheRabbitHoleFinal_SoundFile2.wav", sound, SOUND, "PCM_16")
    store = prepared(root, tmp_path / "store", **PLAIN)
    trial = [*store.trials.values()][1]
    felt = store.eeg(trial.recording)[0, round(trial.start * 128) :]
    for place in places:
        for each, rate in ((felt, 128), (store.stimulus(trial.attended), 16_000)):
            near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
            assert abs((near.start + np.argmax(np.abs(each[near]))) / rate - place) <= 1 / 128


Spoil = Callable[[Path], object]
BROKEN: dict[str, Spoil] = {
    "no proc": lambda root: shutil.rmtree(root / "proc"),
    "no table": lambda root: (root / "AliceChapterOne-EEG.csv").unlink(),
    "no sound": lambda root: shutil.rmtree(root / "audio"),
    "width": lambda root: changed(root, lambda matrix: matrix[:, :5]),
    "NaN": lambda root: changed(root, lambda matrix: matrix * np.nan),
    "rate": lambda root: write_raw(root, raw(noise(62, 4000), fsample=250.0)),
    "labels": lambda root: write_raw(root, raw(noise(62, 4000), ["Fz", *LABELS[1:]])),
    "table": lambda root: (root / "AliceChapterOne-EEG.csv").write_text("Word,Segment\r\nAlice,1"),
    "not EEG": lambda root: (root / "S01.mat").write_bytes(b"no"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_copies_are_refused(tmp_path: Path, case: str) -> None:
    root = write_study(tmp_path / "raw", (1,))
    BROKEN[case](root)
    with pytest.raises(BadInput):
        prepared(root, tmp_path / "store", triggers="refuse")
    assert not (tmp_path / "store" / "index.json").exists()


def test_damage_ends_in_a_refusal_or_in_a_correct_read(tmp_path: Path) -> None:
    """2,100 damaged files of three kinds. MATLAB's are compressed with a checksum; the table has none."""
    root = write_study(tmp_path / "raw", (1,))
    signal, refused = noise(62, 4, seed=1), 0
    write_raw(tmp_path / "eeg", raw(signal), compress=True)
    expected = starts(root)
    for path in (root / "AliceChapterOne-EEG.csv", root / "proc" / "S01.mat", tmp_path / "eeg" / "S01.mat"):
        whole = path.read_bytes()
        for version in damaged(whole, 700):
            path.write_bytes(version)
            try:
                if path.suffix == ".csv":
                    table = _Words.read(path)
                    assert np.isfinite(table.onset).all() and ((table.segment >= 1) & (table.segment <= 12)).all()
                elif path.parent.name == "proc":
                    assert starts(root, triggers="refuse") == expected
                else:
                    np.testing.assert_array_equal(_fieldtrip(path).read(0, 4), signal[:60])
            except BadInput:
                refused += 1
        path.write_bytes(whole)
    assert refused > 700
