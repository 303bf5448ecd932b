"""SparrKULee from its raw files: gzipped BDF, tables of events, stimuli as gzipped archives, triggers."""

import gzip
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import damaged
from study_sparrkulee_files import (
    AMPLIFIER,
    CHANNELS,
    COLUMNS,
    ONSET,
    RATE,
    SECONDS,
    SOUND,
    STIMULI,
    apr,
    bdf,
    eeg_path,
    noise,
    npz,
    pulse_times,
    pulses,
    row,
    status,
    stem_of,
    write_events,
    write_run,
    write_stimulus,
    write_study,
    zipped,
)

from eeg2speech.data.preparation import gzipped
from eeg2speech.data.preparation.blocks import ArrayBlocks
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Take
from eeg2speech.data.store import Store
from eeg2speech.data.studies.sparrkulee import INADEQUATE, SparrkuleeSteps, source, sparrkulee, story
from eeg2speech.data.studies.sparrkulee_bdf import Bdf, BdfBlocks
from eeg2speech.data.studies.sparrkulee_runs import events, snr
from eeg2speech.data.studies.sparrkulee_sound import sound
from eeg2speech.data.studies.sparrkulee_triggers import Stretched, clock, onsets
from eeg2speech.data.studies.sparrkulee_triggers import pulses as pulses_of
from eeg2speech.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:sparrkulee")
STEM = stem_of(27, 1)


def takes(root: Path, **given: Any) -> dict[str, Take]:
    found = source(root, SparrkuleeSteps(**given))
    return {take.id: take for item in found.items for take in item.takes()}


def prepared(root: Path, **given: Any) -> Store:
    study = sparrkulee()
    study.raw, study.given = root, given
    return study.prepare(root.parent / f"store{len(list(root.parent.iterdir()))}")


def one_run(root: Path, **given: Any) -> Path:
    """A study of one recording, and its file of EEG."""
    if not (root / "stimuli").exists():
        write_stimulus(root, STIMULI[0])
    return write_run(root, STEM, given.pop("rows", [row(STIMULI[0])]), **given)


def short(root: Path) -> Path:
    """As ``one_run``, in few bytes: EEG and sound at low rates."""
    folder = root / "stimuli" / "eeg"
    zipped(folder / "a_1.npz.gz", npz(noise(64, scale=0.1), 16))
    zipped(folder / "t_a_1.npz.gz", npz(np.tile([1.0, 0.0], 2).repeat(8).astype(np.float32), 16))
    signal = bdf(noise(CHANNELS, 64), status(64, [1, 2, 2.5], 16), 16)
    path = zipped(eeg_path(root, STEM), signal)
    write_events(path.with_name(f"{STEM}_events.tsv"), [row("a_1", onset=1, duration=2)])
    return path


# What is read


def test_recordings_are_runs_and_trials_have_one_talker(tmp_path: Path) -> None:
    root = write_study(tmp_path / "raw")
    found = source(root, SparrkuleeSteps())
    assert [item.id for item in found.items] == [stem_of(5, 1), stem_of(27, 2), stem_of(27, 10)]
    assert [item.subject for item in found.items] == ["sub-005", "sub-027", "sub-027"]
    assert found.missing == ("files of 2 of 85 subjects",)
    assert found.notes == (f"in noise, SNR -4 dB: {stem_of(5, 1)}",)
    for take in takes(root).values():
        assert take.unattended is None and take.attended.language == "nl" and take.eeg.rate == RATE
        assert take.attended.speaker == take.attended.story == take.attended.title.removesuffix("_5")
    assert source(tmp_path, SparrkuleeSteps()).items[0].id == found.items[0].id


def test_eeg_and_sound_are_as_written(tmp_path: Path) -> None:
    signal = np.round(noise(CHANNELS, 10 * RATE, scale=400) * 32) / 32
    one_run(tmp_path, eeg=signal)
    take = takes(tmp_path)[STEM]
    # Half a step of the amplifier's.
    np.testing.assert_allclose(take.eeg.read(0, take.eeg.samples), signal, atol=1 / 64 + 1e-9)
    np.testing.assert_array_equal(take.eeg.read(1000, 2100), take.eeg.read(0, 3000)[:, 1000:2100])
    heard = take.attended.open()
    assert (heard.rate, heard.channels, heard.samples) == (SOUND, 1, round(SECONDS * SOUND))
    expected = noise(round(SECONDS * SOUND), seed=len(STIMULI[0]), scale=0.05)
    np.testing.assert_array_equal(heard.read(0, heard.samples)[0], expected)


def test_blocks_are_as_mne_reads_them(tmp_path: Path) -> None:
    import mne

    content = bdf(noise(CHANNELS, 3 * RATE), status(3 * RATE, [1.0]))
    (tmp_path / "a.bdf").write_bytes(content)
    own = Bdf(tmp_path / "a.bdf")
    raw = mne.io.read_raw_bdf(tmp_path / "a.bdf", verbose="ERROR")
    expected = raw.get_data(AMPLIFIER) * 1e6
    np.testing.assert_allclose(BdfBlocks(own, tuple(range(CHANNELS))).read(0, own.samples), expected, atol=1e-6)
    np.testing.assert_array_equal(own.triggers(), raw.get_data(["Status"])[0].astype(np.int64) & 0xFFFF)


@pytest.mark.parametrize("names", [AMPLIFIER, montage("biosemi64").names])
def test_sensors_are_found_by_their_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    signal = np.arange(1.0, CHANNELS + 4)[:, None] * np.ones((1, 10 * RATE))
    mixed = ["EXG1", *names[::-1], "EXG2", "EXG3"]
    one_run(tmp_path, eeg=signal, names=mixed)
    for channels, expected in (("labels", np.arange(65, 1, -1)), ("order", np.arange(1, 65))):
        first = takes(tmp_path, channels=channels)[STEM].eeg.read(0, 1)[:, 0]
        np.testing.assert_array_equal(first.round(), expected)


def test_unpacked_files_are_taken_as_well(tmp_path: Path) -> None:
    for packed in (one_run(tmp_path), *(tmp_path / "stimuli" / "eeg").iterdir()):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    take = takes(tmp_path)[STEM]
    assert take.start == pytest.approx(ONSET, abs=1 / RATE) and take.attended.open().samples == round(SECONDS * SOUND)


def test_a_recording_may_hold_several_stimuli(tmp_path: Path) -> None:
    second = ONSET + 10.5
    for name in STIMULI:
        write_stimulus(tmp_path, name)
    rows = [row(STIMULI[0]), row(STIMULI[1], onset=second)]
    marks = np.concatenate([each + pulse_times() for each in (ONSET, second)])
    one_run(tmp_path, rows=rows, eeg=noise(CHANNELS, 21 * RATE), onsets=marks)
    found = takes(tmp_path)
    assert [*found] == [f"{STEM}_1", f"{STEM}_2"]
    assert [take.start for take in found.values()] == pytest.approx([ONSET, second], abs=1 / RATE)


def test_a_recording_without_an_end_in_its_header(tmp_path: Path) -> None:
    one_run(tmp_path, records=-1)
    path = eeg_path(tmp_path, STEM)
    zipped(path, gzip.decompress(path.read_bytes()) + bytes(1000))
    assert takes(tmp_path)[STEM].eeg.samples == 10 * RATE


def test_nothing_is_left_in_the_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_run(tmp_path / "raw")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    for take in takes(tmp_path / "raw").values():
        take.attended.open().read(0, 10)
    assert not [*(tmp_path / "scratch").iterdir()]


# What is left out, and told


def test_what_cannot_be_used_is_left_out_and_told(tmp_path: Path) -> None:
    root = write_study(tmp_path)
    write_run(root, stem_of(27, 3), [row(STIMULI[0], stim_file="n/a")])
    write_run(root, stem_of(27, 4), [row("audiobook_1")])
    write_run(root, stem_of(27, 5), [row(STIMULI[0], trigger_file="n/a")])
    write_run(root, stem_of(27, 6), [])
    write_run(root, stem_of(27, 7), [row(STIMULI[0])]).with_name(f"{stem_of(27, 7)}_events.tsv").unlink()
    told = source(root, SparrkuleeSteps()).missing
    assert len(source(root, SparrkuleeSteps()).items) == 3
    email = "(some stimuli are given out by e-mail only)"
    assert told[1:] == (
        f"without speech: {stem_of(27, 3)}",
        f"no stimuli/eeg/audiobook_1.npz.gz {email} and no stimuli/eeg/t_audiobook_1.npz.gz {email}: {stem_of(27, 4)}",
        f"without a trigger file (--set align=events goes by the table of events): {stem_of(27, 5)}",
        f"an empty table of events: {stem_of(27, 6)}",
        f"no table of events: {stem_of(27, 7)}",
    )
    assert stem_of(27, 5) in takes(root, align="events")


def test_recordings_without_enough_triggers_are_left_out(tmp_path: Path) -> None:
    write_stimulus(tmp_path, STIMULI[0])
    for stem in (*INADEQUATE, STEM):
        write_run(tmp_path, stem, [row(STIMULI[0])])
    assert [*takes(tmp_path)] == [STEM]
    assert source(tmp_path, SparrkuleeSteps()).missing[1].startswith("left out by the setting left_out: sub-006")
    assert len(takes(tmp_path, left_out="")) == 4
    assert len(takes(tmp_path, left_out=f"sub-006, {STEM}")) == 2
    with pytest.raises(BadInput, match="left_out: expected names of recordings or subjects, found sub-99"):
        takes(tmp_path, left_out="sub-99")


def test_noise_and_films_are_told_and_may_be_left_out(tmp_path: Path) -> None:
    root = write_study(tmp_path)
    write_run(root, stem_of(27, 3), [row(STIMULI[0], video_file="eeg/film.mp4")])
    assert source(root, SparrkuleeSteps()).notes[1] == f"with a film: {stem_of(27, 3)}"
    found = takes(root, noise="leave_out", video="leave_out")
    assert [*found] == [stem_of(27, 2), stem_of(27, 10)]


@pytest.mark.parametrize(
    "table, results, told",
    [
        (-4, None, "-4 dB"),
        (-4, -4, "-4 dB"),
        (-4, -2.5, "-4 dB (events.tsv) or -2.5 dB (apr)"),
        ("n/a", 3, "3 dB"),
        ("n/a", None, "unknown"),
    ],
)
def test_the_snr_is_told(tmp_path: Path, table: object, results: object, told: str) -> None:
    path = one_run(tmp_path, rows=[row(STIMULI[0], noise_file="eeg/n.npz.gz", snr=table)])
    path.with_name(f"{STEM}_eeg.apr").write_text(apr(results))
    assert source(tmp_path, SparrkuleeSteps()).notes == (f"in noise, SNR {told}: {STEM}",)


@pytest.mark.parametrize(
    "stimulus, book",
    [
        ("audiobook_7_5", "audiobook_7"),
        ("audiobook_14", "audiobook_14"),
        ("audiobook_1_artefact", "audiobook_1"),
        ("podcast_12", "podcast_12"),
        ("tale", "tale"),
        ("tale_2_13", "tale_2"),
    ],
)
def test_a_stimulus_is_part_of_a_book(stimulus: str, book: str) -> None:
    assert story(stimulus) == book


# Triggers

EXPECTED = pulse_times(60.4)


def aligned(marks: np.ndarray, onset: float = 5.0, rate: int = 1024, length: float = 70.0) -> Any:
    found = onsets(status(round(length * rate), marks, rate).astype(np.int64).astype(np.uint16), rate)
    return clock(Path("a.bdf"), EXPECTED, found, onset, 60.4, 1 / rate)


@pytest.mark.parametrize("off", [-1.3, -0.4, 0.0, 0.01, 0.9, 1.7])
def test_the_onset_is_that_of_the_triggers(off: float) -> None:
    found = aligned(EXPECTED + 5, 5 + off)
    assert found.start == pytest.approx(5, abs=1e-3) and found.lost == 0


@pytest.mark.parametrize("gone", [[0], [61], [30], [1, 2, 3], [58, 59, 60, 61], [0, 20, 40]])
def test_lost_triggers_do_not_move_the_onset(gone: list[int]) -> None:
    found = aligned(np.delete(EXPECTED, gone) + 5)
    assert found.start == pytest.approx(5, abs=1e-3) and found.lost == len(gone)


def test_triggers_of_something_else_are_passed_over() -> None:
    found = aligned(np.sort([0.1, 3.2, *(EXPECTED + 5), 20.5, 66.6, 68.2]))
    assert found.start == pytest.approx(5, abs=1e-3) and found.lost == 0


@pytest.mark.parametrize("ppm", [-400, -50, 1, 50, 400])
def test_drift_is_measured(ppm: int) -> None:
    found = aligned(5 + EXPECTED * (1 + 1e-6 * ppm))
    assert found.drift == pytest.approx(ppm, abs=5) and found.start == pytest.approx(5, abs=1e-3)


@pytest.mark.parametrize(
    "marks, told",
    [
        (EXPECTED[:0], "a trigger within 2 s of the onset, 5 s .or --set align=events.*found no trigger at all"),
        (EXPECTED + 9, "found 62, the first at 9.000 s"),
        (EXPECTED[:50] + 5, "triggers no more than 5 s apart .*, found 11.4 s without one"),
        (np.delete(EXPECTED, range(20, 26)) + 5, "found 7.0 s without one"),
        (5 + EXPECTED * 1.0008, "clocks: expected at most 500 ppm apart .*, found 80[01] ppm"),
        (5 + EXPECTED + 0.015 * (np.arange(62) == 30), "triggers within 5 ms of a line"),
    ],
)
def test_triggers_that_do_not_fit_are_refused(marks: np.ndarray, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        aligned(marks)


def test_pulses_are_where_the_file_has_them() -> None:
    np.testing.assert_allclose(pulses_of(ArrayBlocks(pulses()[None], SOUND)), pulse_times(), atol=1e-9)
    with pytest.raises(BadInput, match="pulses: expected at least two, found 0"):
        pulses_of(ArrayBlocks(np.zeros((1, 100)), SOUND))


@pytest.mark.parametrize("factor", [1 - 4e-4, 1 + 2e-5, 1 + 4e-4])
def test_stretching_is_resampling(factor: float) -> None:
    times = np.arange(20_000) / RATE
    waves = np.array([np.sin(2 * np.pi * f * times + f) for f in (1.0, 13.0, 60.0)])
    made = Stretched(ArrayBlocks(waves, RATE), factor)
    wanted = np.arange(made.samples) * factor / RATE
    assert wanted[-1] <= times[-1]
    expected = np.array([np.sin(2 * np.pi * f * wanted + f) for f in (1.0, 13.0, 60.0)])
    found = made.read(0, made.samples)
    np.testing.assert_allclose(found[:, 1:-2], expected[:, 1:-2], atol=5e-3)
    parts = [made.read(begin, min(begin + 777, made.samples)) for begin in range(0, made.samples, 777)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), found)


def test_events_alone_when_told_so(tmp_path: Path) -> None:
    one_run(tmp_path, onsets=[])
    with pytest.raises(BadInput, match="align=events, or left_out=NAME"):
        takes(tmp_path)
    assert takes(tmp_path, align="events")[STEM].start == ONSET


# End to end


def test_a_store_has_what_the_files_have(tmp_path: Path) -> None:
    store = prepared(write_study(tmp_path / "raw"), high_pass=0, reference="none")
    store.verify()
    assert store.subjects == ("sub-005", "sub-027") and len(store.stimuli) == 2
    assert all(trial.duration == pytest.approx(SECONDS, abs=1 / 128) for trial in store.trials.values())
    assert store.index.settings["notes"] == [f"in noise, SNR -4 dB: {stem_of(5, 1)}"]
    assert {each.story for each in store.stimuli.values()} == {"audiobook_7", "podcast_3"}


@pytest.mark.parametrize("ppm", [0, -120, 300])
def test_impulses_stay_together_to_the_end_of_the_longest_trial(tmp_path: Path, ppm: int) -> None:
    """Clocks drift by as much as 90 ms."""
    seconds, rate, hertz, onset = 300.0, 256, 8000, 3.3
    places = (0.5, 150.25, seconds - 0.5)
    audio, signal = np.zeros(round(seconds * hertz), np.float32), np.zeros((CHANNELS, 310 * rate), np.float32)
    for place in places:
        audio[round(place * hertz)] = 0.9
        signal[:, round((onset + place * (1 + 1e-6 * ppm)) * rate)] = 1000
    root = tmp_path / "raw"
    zipped(root / "stimuli" / "eeg" / "book_1.npz.gz", npz(audio, hertz))
    zipped(root / "stimuli" / "eeg" / "t_book_1.npz.gz", npz(pulses(seconds, hertz), hertz))
    marks = onset + pulse_times(seconds) * (1 + 1e-6 * ppm)
    # The table is not exact.
    rows = [row("book_1", onset=round(onset) + 0.6, duration=seconds)]
    write_run(root, STEM, rows, signal, marks, rate)
    store = prepared(root, reference="none")
    trial = store.trial(STEM)
    assert trial.duration == pytest.approx(seconds, abs=1 / 128)
    for place in places:
        for wave, hz in ((store.eeg(STEM)[5], 128), (store.stimulus(trial.attended), 16_000)):
            near = slice(round((place - 0.25) * hz), round((place + 0.25) * hz))
            assert abs((near.start + np.argmax(np.abs(wave[near]))) / hz - place) <= 1 / 128


def test_drift_that_is_kept_is_told(tmp_path: Path) -> None:
    seconds, root = 40.0, tmp_path
    zipped(root / "stimuli" / "eeg" / "book_1.npz.gz", npz(noise(320_000, scale=0.1), 8000))
    zipped(root / "stimuli" / "eeg" / "t_book_1.npz.gz", npz(pulses(seconds, 8000), 8000))
    marks = 2 + pulse_times(seconds) * (1 + 4e-4)
    write_run(root, STEM, [row("book_1", onset=2, duration=seconds)], noise(CHANNELS, 45 * 256), marks, 256)
    with pytest.warns(UserWarning, match=r"clocks (3[89]\d|4[01]\d) ppm apart, EEG and speech 1[56] ms at the end"):
        (take,) = takes(root, drift="keep").values()
    assert isinstance(take.eeg, BdfBlocks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (take,) = takes(root).values()
    assert isinstance(take.eeg, Stretched) and take.start == pytest.approx(2, abs=2 / 256)


def test_eeg_that_ends_before_the_speech_makes_a_shorter_trial(tmp_path: Path) -> None:
    one_run(tmp_path / "raw", eeg=noise(CHANNELS, 7 * RATE))
    store = prepared(tmp_path / "raw", high_pass=0)
    assert store.trial(STEM).duration == pytest.approx(7 - ONSET, abs=2 / 128)


def test_eeg_that_begins_after_the_speech_is_refused(tmp_path: Path) -> None:
    one_run(tmp_path / "raw", rows=[row(STIMULI[0], onset=0)], onsets=pulse_times() - 0.5)
    with pytest.raises(BadInput, match="start of the speech: expected within .*, found -0.500 s"):
        prepared(tmp_path / "raw")


def test_two_processes_make_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_study(tmp_path / "raw")
    monkeypatch.setattr("eeg2speech.data.preparation.study.SMALL", 0)
    study = sparrkulee()
    study.raw, study.jobs = root, 2
    assert study.prepare(tmp_path / "two").index.recordings == prepared(root).index.recordings


# Refusals of tables

TABLES: list[tuple[dict[str, object], str]] = [
    ({"stim_file": "../../etc/passwd"}, "stim_file: expected a file below the folder stimuli"),
    ({"stim_file": "/etc/passwd"}, "stim_file: expected a file below"),
    ({"stim_file": "eeg/../../x.npz.gz"}, "stim_file: expected a file below"),
    ({"stim_file": "eeg\\..\\x"}, "stim_file: expected a file below"),
    ({"stim_file": "C:/x"}, "stim_file: expected a file below"),
    ({"stim_file": "eeg/\0x"}, "stim_file: expected a file below"),
    ({"trigger_file": "../t.npz.gz"}, "trigger_file: expected a file below"),
    ({"onset": "n/a"}, "line 2: onset: expected seconds"),
    ({"onset": -1}, "line 2: onset: expected seconds"),
    ({"onset": "soon"}, "line 2: onset: expected a number, found 'soon'"),
    ({"onset": "1e999"}, "line 2: onset: expected a number"),
    ({"onset": "inf"}, "line 2: onset: expected a number"),
    ({"duration": 0}, "line 2: duration: expected more than 0 s"),
    ({"duration": "1_0"}, "line 2: duration: expected a number"),
    ({"snr": "loud"}, "line 2: snr: expected a number"),
    ({"condition": "a\tb"}, "line 2: expected 8 columns, found 9"),
]


@pytest.mark.parametrize("given, told", TABLES)
def test_tables_that_cannot_be_are_refused(tmp_path: Path, given: dict[str, object], told: str) -> None:
    path = write_events(tmp_path / "events.tsv", [row(STIMULI[0], **given)])
    with pytest.raises(BadInput, match=told):
        events(path)


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "one named onset, found none"),
        (b"onset\tduration\n1\t2\n", "one named stim_file, found onset, duration"),
        (b"onset\tonset\tstim_file\n1\t2\tx\n", "one named onset"),
        (b"\xff\xfe\x00", "a table, tabs between columns, UTF-8"),
        (b"x" * (1 << 20) + b"y", "length: expected at most 1048576"),
        (b"onset\tstim_file\n" + b"1" * 200_000 + b"\ta\n", "a table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "events.tsv").write_bytes(content)
    with pytest.raises(BadInput, match=told):
        events(tmp_path / "events.tsv")


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.tsv", [row("x", snr=3)], COLUMNS[::-1])
    assert events(path)[0].snr == 3 and events(path)[0].stimulus == "eeg/x.npz.gz"
    path.write_bytes(b"\xef\xbb\xbfstim_file\tonset\r\neeg/x.npz\t1.5\r\n\r\n")
    assert events(path)[0].onset == 1.5 and events(path)[0].duration is None


@pytest.mark.parametrize(
    "content, told",
    [
        ("<a>", "expected XML"),
        ("", "expected XML"),
        (apr("loud"), "SNR: expected a number, found 'loud'"),
        ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>', "without entities"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "expected XML"),
    ],
)
def test_results_that_cannot_be_are_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "a.apr").write_text(content)
    with pytest.raises(BadInput, match=told):
        snr(tmp_path / "a.apr")


# Refusals of folders and signals


def test_folders_that_are_not_the_study_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            BadInput, match="sub-001, sub-002, ... and stimuli, here or in one folder below, found none"
        ):
            takes(folder)
    (tmp_path / "a" / "sub-1").mkdir(parents=True)
    with pytest.raises(BadInput, match="sub-.*_eeg.bdf.gz, found none"):
        takes(tmp_path)
    (tmp_path / "b" / "sub-1").mkdir(parents=True)
    with pytest.raises(BadInput, match="found a, b"):
        takes(tmp_path)


def test_a_recording_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = one_run(tmp_path)
    path.with_suffix("").write_bytes(b"")
    with pytest.raises(BadInput, match="expected one file"):
        takes(tmp_path)


def test_a_study_without_any_stimulus_is_refused_with_the_reason(tmp_path: Path) -> None:
    one_run(tmp_path)
    for path in (tmp_path / "stimuli" / "eeg").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match="found no stimuli/eeg/audiobook_7_5.npz.gz"):
        takes(tmp_path)


CONTENT = bdf(noise(CHANNELS, 2 * 16), status(32, [1], 16), 16)


def spoilt(begin: int, text: bytes) -> bytes:
    return CONTENT[:begin] + text + CONTENT[begin + len(text) :]


FIELDS = 256 + (CHANNELS + 1) * np.cumsum([0, 16, 80, 8, 8, 8, 8, 8, 80, 8])
"""Where the fields of channels begin."""


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "a BDF file"),
        (CONTENT[:100], "a BDF file"),
        (b"0       " + CONTENT[8:], "a BDF file"),
        (CONTENT[:2000], "a header of 16896 bytes, found 2000"),
        (CONTENT[:-1], "records: expected 2 of 3120 bytes, as the header says"),
        (spoilt(236, b"3       "), "records: expected 3 of 3120 bytes"),
        (spoilt(236, b"0       "), "records: expected at least one, found 0"),
        (spoilt(236, b"99999999"), "records"),
        (spoilt(236, b"many    "), "records: expected -1 to 100000000, found 'many'"),
        (spoilt(184, b"512     "), "bytes of the header: expected 16896, found 512"),
        (spoilt(244, b"0       "), "seconds a record"),
        (spoilt(244, b"nan     "), "seconds a record"),
        (spoilt(244, b"-1      "), "seconds a record"),
        (spoilt(252, b"0   "), "channels: expected 1 to 512"),
        (spoilt(252, b"9999"), "channels: expected 1 to 512"),
        (spoilt(FIELDS[2], b"degree  "), "channel 'A1': expected a unit of volts"),
        (spoilt(FIELDS[3], b"9999999 "), "channel 'A1': range: expected a minimum below its maximum"),
        (spoilt(FIELDS[5], b"8388608 "), "range"),
        (spoilt(FIELDS[8], b"17      "), "samples a record: expected as many in every channel"),
        (spoilt(FIELDS[8], b"0       "), "samples a record"),
        (spoilt(256, b"A2"), "channels: expected A1 to B32, or the 64 of BioSemi's cap, each once"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_bdf_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes, told: str, packed: bool) -> None:
    path = short(tmp_path)
    if packed:
        zipped(path, content)
    else:
        path.unlink()
        path.with_suffix("").write_bytes(content)
    with pytest.raises(BadInput, match=told if packed is False or "records: expected 3" not in told else "records"):
        takes(tmp_path)


@pytest.mark.parametrize("name, told", [("Trigger", "channels: expected one named Status, found 0")])
def test_a_recording_without_triggers_is_refused(tmp_path: Path, name: str, told: str) -> None:
    zipped(short(tmp_path), spoilt(256 + 16 * CHANNELS, f"{name:16}".encode()))
    with pytest.raises(BadInput, match=told):
        takes(tmp_path)
    assert len(takes(tmp_path, align="events")) == 1


def test_units_become_microvolt(tmp_path: Path) -> None:
    for unit, factor in (("uV", 1), ("µV", 1), ("mV", 1e3), ("nV", 1e-3)):
        (tmp_path / "a.bdf").write_bytes(bdf(np.full((CHANNELS, 16), 2.0), status(16, [], 16), 16, unit=unit))
        assert BdfBlocks(Bdf(tmp_path / "a.bdf"), (3,)).read(0, 1)[0, 0] == pytest.approx(2 * factor, rel=0.01)


def test_bombs_are_refused_before_they_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "SMALL", 1 << 16)
    path = short(tmp_path)
    zipped(path, CONTENT + bytes(1 << 24))
    with pytest.raises(BadInput, match="unpacked size: expected at most .* bytes, found more"):
        takes(tmp_path)
    zipped(path, spoilt(236, b"99999999") + bytes(1 << 24))
    with pytest.raises(BadInput, match="unpacked size: expected at most .* bytes, found more"):
        takes(tmp_path)
    monkeypatch.setattr("eeg2speech.data.studies.sparrkulee_sound.MOST", 1 << 20)
    zipped(path, npz(np.zeros(1 << 20, np.float32)))
    with pytest.raises(BadInput, match="unpacked size: expected at most 1048576 bytes"):
        sound(path)


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    one_run(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: namedtuple("U", "total used free")(10, 10, 5))
    with pytest.raises(BadInput, match="free space: expected 2.* bytes to unpack .*TMPDIR names another disk"):
        takes(tmp_path)


def test_damaged_gzip_files_are_refused(tmp_path: Path) -> None:
    path = short(tmp_path)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:-9], whole + b"more", b"x" * 100, whole[:50]):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="a gzip file, whole|a BDF file"):
            takes(tmp_path)


def two_arrays() -> bytes:
    return npz(np.zeros((2, 40), np.float32))


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "an archive of numpy with audio and fs"),
        (npz(np.zeros(0, np.float32)), "audio: expected 1 to"),
        (npz(np.zeros(10, np.int16)), "audio: expected floating-point numbers"),
        (npz(np.array([None])), "audio: expected floating-point numbers|allow_pickle|content"),
        (two_arrays(), r"audio: expected floating-point numbers \[T\], found float32 \[2, 40\]"),
        (npz(np.zeros(10, np.float32), 0), "rate: expected 1 to 1,000,000 Hz"),
        (npz(np.zeros(10, np.float32))[:-30], "an archive of numpy"),
        (npz(np.zeros(10, np.float32)).replace(b"fs.npy", b"gs.npy"), "arrays: expected audio and fs"),
    ],
)
def test_stimuli_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        sound(zipped(tmp_path / "a.npz.gz", content))


def test_stimuli_that_somebody_has_packed_otherwise_are_read(tmp_path: Path) -> None:
    audio = noise(50, scale=0.1)
    np.savez_compressed(tmp_path / "a.npz", audio=audio[:, None].astype(np.float64), fs=np.array([44100.0]))
    found = sound(tmp_path / "a.npz")
    assert found.rate == 44_100
    np.testing.assert_array_equal(found.read(0, 50)[0], audio)


@pytest.mark.parametrize("name, value", [("align", "ear"), ("drift", "x"), ("channels", "x"), ("noise", "x")])
def test_settings_are_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        prepared(one_run(tmp_path / "raw").parents[3], **{name: value})


# Damage


def versions(path: Path, content: bytes, count: int, write: Callable[[bytes], object]) -> Iterator[int]:
    """Numbers of damaged versions of a file, each on disk when its number comes."""
    for case, version in enumerate(damaged(content, count)):
        write(version)
        yield case


@pytest.mark.filterwarnings("error")
def test_damaged_recordings_are_refused_or_read_as_they_were(tmp_path: Path) -> None:
    """600 damaged gzip files, which have a checksum."""
    path = short(tmp_path)
    (good,) = takes(tmp_path).values()
    expected, refused = good.eeg.read(0, good.eeg.samples), 0
    for _ in versions(path, path.read_bytes(), 600, path.write_bytes):
        try:
            (take,) = takes(tmp_path).values()
            np.testing.assert_array_equal(take.eeg.read(0, take.eeg.samples), expected)
        except BadInput:
            refused += 1
    assert refused > 500


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("packed, count", [(True, 300), (False, 700)])
def test_recordings_damaged_within_have_their_shape(tmp_path: Path, packed: bool, count: int) -> None:
    """What is damaged before it is packed, and what never was: no checksum, so that values may be others."""
    path, read = short(tmp_path), 0
    content = gzip.decompress(path.read_bytes())
    if not packed:
        path.unlink()
        path = path.with_suffix("")
    for _ in versions(path, content, count, partial_write(path, packed)):
        try:
            (take,) = takes(tmp_path).values()
        except BadInput:
            continue
        block = take.eeg.read(0, take.eeg.samples)
        assert block.shape == (CHANNELS, take.eeg.samples) and np.isfinite(block).all()
        assert 0 < take.eeg.samples <= 64 and 0 <= take.start <= take.eeg.samples / take.eeg.rate
        read += 1
    assert read


def partial_write(path: Path, packed: bool) -> Callable[[bytes], object]:
    return (lambda content: zipped(path, content)) if packed else path.write_bytes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("packed, count", [(True, 500), (False, 700)])
def test_damaged_stimuli_are_refused_or_read_as_they_were(tmp_path: Path, packed: bool, count: int) -> None:
    """Both gzip and zip have a checksum of the samples."""
    audio = noise(200, scale=0.1)
    path, refused = tmp_path / "a.npz", 0
    content = npz(audio)
    if packed:
        path = zipped(tmp_path / "a.npz.gz", content)
        content = path.read_bytes()
    for _ in versions(path, content, count, path.write_bytes):
        try:
            found = sound(path)
            np.testing.assert_array_equal(found.read(0, found.samples)[0], audio)
            assert found.rate == SOUND
        except BadInput:
            refused += 1
    assert refused > count // 4


@pytest.mark.filterwarnings("error")
def test_damaged_tables_are_refused_or_have_rows_that_can_be(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.tsv", [row("x", snr=-4.5), row("y", onset=300)])
    for _ in versions(path, path.read_bytes(), 1000, path.write_bytes):
        try:
            for each in events(path):
                assert 0 <= each.onset < 1e6 and ".." not in Path(each.stimulus).parts
                assert not each.stimulus.startswith("/") and (each.duration is None or 0 < each.duration < 1e6)
        except BadInput:
            continue


@pytest.mark.filterwarnings("error")
def test_damaged_results_are_refused_or_have_a_number(tmp_path: Path) -> None:
    path = tmp_path / "a.apr"
    for _ in versions(path, apr(-4.5).encode(), 500, path.write_bytes):
        try:
            assert abs(snr(path)) < 1e6
        except BadInput:
            continue
