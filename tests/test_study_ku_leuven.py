"""The KU Leuven adapter on files written here: who was attended, what was played, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import damaged
from scipy import io
from study_ku_leuven_files import (
    CHANNELS,
    RATE,
    SOUND,
    cell,
    labelled,
    noise,
    trial,
    write_sound,
    write_sounds,
    write_study,
    write_subject,
)

from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Take
from eeg2speech.data.preparation.steps import settled
from eeg2speech.data.studies.ku_leuven import FACTS, KuLeuvenSteps, ku_leuven, source
from eeg2speech.errors import BadInput
from eeg2speech.splits import make_split

pytestmark = pytest.mark.filterwarnings("ignore:ku-leuven:UserWarning")


def takes(root: Path, item: int = 0, **given: Any) -> list[Take]:
    found = source(root, settled(KuLeuvenSteps, given, "ku-leuven"))
    return list(found.items[item].takes())


def one(root: Path, made: dict[str, Any], **given: Any) -> Take:
    """The take of a study with one trial."""
    write_subject(root / "S1.mat", [made])
    (take,) = takes(root, **given)
    return take


def eeg_of(take: Take) -> np.ndarray:
    return np.asarray(take.eeg.read(0, take.eeg.samples))


def without(made: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in made.items() if key != name}


def test_takes_have_the_eeg_of_the_file_and_name_what_was_heard(tmp_path: Path) -> None:
    write_study(tmp_path, subjects=(2, 10, 1))
    found = source(tmp_path, KuLeuvenSteps())
    assert [item.id for item in found.items] == ["S1", "S2", "S10"]
    assert found.sensors == montage("biosemi64") and found.sensors.names[47] == "Cz"
    odd, even = takes(tmp_path, 1)
    assert (odd.id, even.id, odd.ear, even.ear) == ("S2_01", "S2_02", "left", "right")
    for take in (odd, even):
        assert take.unattended is not None and (take.start, take.eeg.rate) == (0, RATE)
        assert (take.attended.key, take.unattended.key) == ("part1_track1_dry", "part1_track2_dry")
        assert (take.attended.speaker, take.unattended.speaker) == ("track1", "track2")
        assert take.attended.story == take.unattended.story == "part1"
    block = odd.eeg.read(0, 4 * RATE)
    assert block.dtype == np.float32
    np.testing.assert_array_equal(block, noise(4 * RATE, CHANNELS, seed=101).T)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_eeg_is_read_however_it_is_stored(tmp_path: Path, compress: bool, turned: bool, kind: type) -> None:
    eeg = noise(300, CHANNELS).astype(kind)
    write_subject(tmp_path / "S1.mat", [trial(1, eeg=eeg.T if turned else eeg)], compress)
    (take,) = takes(tmp_path, unit="2.5")
    np.testing.assert_allclose(take.eeg.read(0, 300), 2.5 * eeg.T.astype(np.float64), rtol=1e-6)


def test_missing_files_are_told(tmp_path: Path) -> None:
    write_study(tmp_path, subjects=(*range(1, 5), *range(6, 17)))
    (tmp_path / "stimuli" / "part2_track1_dry.wav").unlink()
    (tmp_path / "stimuli" / "rep_part3_track2_hrtf.wav").unlink()
    subjects, *trials, sounds = source(tmp_path, KuLeuvenSteps()).missing
    assert subjects == "no file of S5" and sounds == "stimuli: no part2_track1_dry.wav"
    assert trials == [f"S{k}: 2 of 20 trials" for k in range(1, 17) if k != 5]
    assert source(tmp_path, KuLeuvenSteps(audio="as_heard")).missing[-1].endswith("rep_part3_track2_hrtf.wav")


@pytest.mark.parametrize("folders", [("x/", "x/"), ("x/", ""), ("", ""), ("preprocessed_data/", "")])
def test_files_may_lie_a_folder_deeper(tmp_path: Path, folders: tuple[str, str]) -> None:
    files, stimuli = folders
    write_subject(tmp_path / f"{files}S1.mat", [trial(1)])
    write_sounds(tmp_path / stimuli, names=["part1_track1"])
    (take,) = takes(tmp_path)
    assert take.attended.open().samples == 4 * SOUND


def test_names_of_sounds_may_have_any_case_and_litter_is_not_taken(tmp_path: Path) -> None:
    write_subject(tmp_path / "S1.mat", [trial(1, stimuli=cell(["Part1_Track1_DRY.wav", "part1_track2_dry"]))])
    write_sound(tmp_path / "stimuli", "PART1_track1_Dry", noise(SOUND, scale=0.1))
    write_sound(tmp_path / "stimuli", "part1_track2_dry", noise(SOUND, scale=0.1))
    for litter in ("._S2.mat", "S01.mat", "S3_old.mat", "S4.txt", "xS5.mat"):
        (tmp_path / litter).write_bytes(b"")
    assert [item.id for item in source(tmp_path, KuLeuvenSteps()).items] == ["S1"]
    (take,) = takes(tmp_path)
    assert take.unattended is not None
    assert take.attended.open().samples == take.unattended.open().samples == SOUND


HRTF = cell(["part3_track2_hrtf.wav", "part3_track1_hrtf.wav"])


def test_dry_sounds_are_used_whatever_was_played(tmp_path: Path) -> None:
    """As the authors do, so that files of what was played need not be there."""
    write_sounds(tmp_path, names=["part3_track1", "part3_track2"], hrtf=False)
    take = one(tmp_path, trial(1, stimuli=HRTF, condition="HRTF", attended_track=2.0))
    assert take.unattended is not None
    assert (take.attended.key, take.unattended.key) == ("part3_track2_dry", "part3_track1_dry")
    assert take.attended.files == (tmp_path / "stimuli" / "part3_track2_dry.wav",)
    assert take.attended.open().samples == 4 * SOUND
    heard = one(tmp_path, trial(1, stimuli=HRTF, condition="HRTF", attended_track=2.0), audio="as_heard")
    with pytest.raises(BadInput, match="part3_track2_hrtf.wav: file: expected a sound file, found no such file"):
        heard.attended.open()


@pytest.mark.parametrize("condition", ["hrtf", "HRTF", "Hrtf"])
def test_what_was_heard_is_the_mean_of_both_channels(tmp_path: Path, condition: str) -> None:
    write_sounds(tmp_path, names=["part3_track2"])
    take = one(tmp_path, trial(1, stimuli=HRTF, condition=condition, attended_track=2.0), audio="as_heard")
    assert take.attended.key == "part3_track2_hrtf"
    dry = one(tmp_path, trial(1, stimuli=HRTF, condition=condition, attended_track=2.0))
    heard, clean = (each.attended.open().read(0, 1000) for each in (take, dry))
    np.testing.assert_allclose(heard, 0.75 * clean, atol=1e-4)


@pytest.mark.parametrize("condition", ["dry", "diotic", ""])
def test_what_was_heard_has_to_agree_with_the_condition(tmp_path: Path, condition: str) -> None:
    made = trial(1, stimuli=HRTF, condition=condition, attended_track=2.0)
    with pytest.raises(BadInput, match=r"trials\{1\}.condition: expected that of the stimuli, hrtf"):
        one(tmp_path, made, audio="as_heard")
    assert one(tmp_path, made).attended.key == "part3_track2_dry"


def test_repeats_are_of_the_story_that_they_repeat(tmp_path: Path) -> None:
    again = cell(["rep_part1_track1_hrtf.wav", "rep_part1_track2_hrtf.wav"])
    write_subject(tmp_path / "S1.mat", [trial(1), trial(3, stimuli=again, part=9.0, repetition=np.bool_(True))])
    first, repeated = takes(tmp_path)
    assert (first.attended.key, repeated.attended.key) == ("part1_track1_dry", "rep_part1_track1_dry")
    assert (first.attended.story, first.attended.speaker) == (repeated.attended.story, repeated.attended.speaker)
    assert first.attended.title != repeated.attended.title


def swapped(by: str) -> dict[str, Any]:
    """A trial whose track is at the other ear than attended."""
    return without(trial(1, attended_track=2.0), by) if by else trial(1, attended_track=2.0)


def test_an_ear_and_a_track_that_disagree_are_refused_unless_it_is_told_which_is_right(tmp_path: Path) -> None:
    told = r"attended_track: expected the track at the left ear, 1 \(or --set attended=ear or track\), found 2"
    with pytest.raises(BadInput, match=told):
        one(tmp_path, swapped(""))
    take = one(tmp_path, swapped("attended_track"), attended="ear")
    assert (take.attended.key, take.ear) == ("part1_track1_dry", "left")
    take = one(tmp_path, swapped("attended_ear"), attended="track")
    assert (take.attended.key, take.ear) == ("part1_track2_dry", "right")


NAMES = montage("biosemi64").names
BANKS = [f"{bank}{k}" for bank in "AB" for k in range(1, 33)]


@pytest.mark.parametrize("names", [NAMES, [name.upper() for name in NAMES], BANKS])
def test_labels_decide_the_order_of_the_channels(tmp_path: Path, names: list[str]) -> None:
    eeg, order = noise(200, CHANNELS), np.random.default_rng(0).permutation(CHANNELS)
    made = labelled(trial(1, eeg=eeg[:, order]), [f"{names[k]} " for k in order])
    np.testing.assert_array_equal(eeg_of(one(tmp_path, made)), eeg.T)
    np.testing.assert_array_equal(eeg_of(one(tmp_path, made, channels="order")), eeg[:, order].T)


def test_labels_beyond_those_of_the_eeg_have_no_say(tmp_path: Path) -> None:
    eeg = noise(200, CHANNELS)
    for labels in ([*NAMES, "EXG1", "Status"], [""] * 64):
        np.testing.assert_array_equal(eeg_of(one(tmp_path, labelled(trial(1, eeg=eeg), labels))), eeg.T)


@pytest.mark.parametrize("labels", [["x", *NAMES[1:]], NAMES[:63], [NAMES[1], *NAMES[1:]], ["", *NAMES[1:]]])
def test_unknown_labels_are_refused_with_a_way_out(tmp_path: Path, labels: list[str]) -> None:
    made = labelled(trial(1), labels)
    with pytest.raises(
        BadInput, match="FileHeader.Channels.Label: expected the 64 of BioSemi's cap .or --set channels"
    ):
        one(tmp_path, made)
    assert one(tmp_path, made, channels="order").eeg.channels == CHANNELS


def raw(**given: Any) -> dict[str, Any]:
    return trial(1, RawData=trial(1)["RawData"] | given)


REFUSED: list[tuple[dict[str, Any], str]] = [
    *((without(trial(1), name), f"a field '{name}'") for name in ("RawData", "FileHeader", "TrialID", "stimuli")),
    *((without(trial(1), name), f"a field '{name}'") for name in ("attended_ear", "attended_track")),
    (trial(1, RawData={"Channels": 1.0}), "a field 'EegData'"),
    (raw(EegData=noise(200, 63)), r"EegData: expected \[samples, 64\], or \[64, samples\], found float32 \[200, 63\]"),
    (raw(EegData=noise(0, 64)), "EegData: expected .samples, 64"),
    (raw(EegData=np.full((200, 64), np.nan)), "finite samples"),
    (raw(EegData=noise(200, 64) * 1j), "complex"),
    (raw(EegData="text"), "EegData"),
    (raw(Channels=np.arange(64.0, 0, -1)[None]), "RawData.Channels: expected 1 to 64"),
    (raw(Channels=np.arange(1.0, 64)[None]), "RawData.Channels: expected 1 to 64"),
    (trial(1, FileHeader={"SampleRate": 20.0}), "SampleRate: expected 128 Hz, as published, found 20 Hz"),
    (trial(1, FileHeader={"SampleRate": np.inf}), "a finite number"),
    (trial(1, FileHeader={"SampleRate": "128"}), "a number"),
    (trial(1, TrialID=0.0), "1 to 999"),
    (trial(1, TrialID=1.5), "a whole number"),
    (trial(1, TrialID=1e300), "1 to 999"),
    (trial(1, TrialID=np.zeros((0, 0))), "a number"),
    (trial(1, attended_ear="B"), "attended_ear: expected L or R, found 'B'"),
    (trial(1, attended_ear=1.0), "attended_ear: expected text"),
    (trial(1, attended_track=3.0), "attended_track: expected one of those played, 1 and 2"),
    (trial(1, attended_track=np.nan), "a finite number"),
    (trial(1, stimuli=cell(["part1_track1_dry.wav"])), "two files, the left ear's and the right's, found 1"),
    (trial(1, stimuli=cell(["part1_track1_dry.wav"] * 3)), "two files, the left ear's and the right's, found 3"),
    (trial(1, stimuli=cell(["part1_track1_dry.wav"] * 2)), "part1_track1 at both ears"),
    (trial(1, stimuli=cell(["part1_track1_dry.wav", "part1_track1_hrtf.wav"])), "part1_track1 at both ears"),
    (trial(1, stimuli="part1_track1_dry.wav"), "a cell"),
    (
        trial(1, stimuli=cell(["../../secret.wav", "part1_track2_dry.wav"])),
        "_dry.wav or _hrtf.wav, found '../../secret",
    ),
    (trial(1, stimuli=cell([1.0, 2.0])), "stimuli: expected text"),
    (trial(1, subject="S2"), "subject: expected S1, as the file is named, found S2"),
]


@pytest.mark.parametrize("made, told", REFUSED, ids=[told for _, told in REFUSED])
def test_trials_that_are_not_the_study_s_are_refused(tmp_path: Path, made: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told) as refusal:
        one(tmp_path, made)
    assert "S1.mat" in refusal.value.where and "trials{1}" in refusal.value.field


def test_what_is_not_needed_may_be_missing(tmp_path: Path) -> None:
    made = trial(1)
    for name in ("experiment", "part", "repetition", "condition", "subject"):
        made = without(made, name)
    made["RawData"] = without(made["RawData"], "Channels")
    assert one(tmp_path, made).id == "S1_01"


def test_a_number_used_twice_is_refused(tmp_path: Path) -> None:
    write_subject(tmp_path / "S1.mat", [trial(1), trial(1)])
    with pytest.raises(BadInput, match=r"trials\{2\}.TrialID: expected a number used once, found S1_01"):
        takes(tmp_path)


def write_two_sets(root: Path) -> None:
    for folder in ("a", "b"):
        write_subject(root / folder / "S1.mat", [trial(1)])


def write_other_variable(root: Path) -> None:
    io.savemat(root / "S1.mat", {"data": 1.0})


def write_numbers(root: Path) -> None:
    io.savemat(root / "S1.mat", {"trials": np.ones((1, 20))})


def write_structs(root: Path) -> None:
    io.savemat(root / "S1.mat", {"trials": cell([1.0, "x"])})


FOLDERS: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: None, "files: expected S1.mat to S16.mat, here or one folder below, found none"),
    (write_two_sets, "in one folder, found a, b"),
    (write_other_variable, "variables: expected trials, found data"),
    (write_numbers, "trials: expected a cell"),
    (write_structs, "trials{1}.TrialID|a field"),
    (lambda root: (root / "S1.mat").write_bytes(b""), "a MATLAB file"),
    (lambda root: (root / "S1.mat").write_bytes(b"x" * 1000), "a MATLAB file"),
    (lambda root: (root / "S1.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(512)), "a MATLAB file"),
]


@pytest.mark.parametrize("write, told", FOLDERS)
def test_folders_that_are_not_the_study_are_refused(tmp_path: Path, write: Callable[[Path], object], told: str) -> None:
    write(tmp_path)
    with pytest.raises(BadInput, match=told):
        takes(tmp_path)
    with pytest.raises(BadInput, match="S1.mat to S16.mat"):
        source(tmp_path / "nowhere", KuLeuvenSteps())


@pytest.mark.parametrize("name, value", [("audio", "wet"), ("attended", "eye"), ("channels", "x"), ("unit", "0")])
def test_settings_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        settled(KuLeuvenSteps, {name: value}, "ku-leuven")


def prepared(root: Path, **given: Any) -> Any:
    study = ku_leuven()
    study.raw, study.given = root, given
    return study.prepare(root.parent / f"store{len(list(root.parent.iterdir()))}")


def test_a_store_has_what_the_files_have(tmp_path: Path) -> None:
    store = prepared(write_study(tmp_path / "raw"), reference="none")
    store.verify()
    assert store.subjects == ("S1", "S2") and len(store.trials) == 4 and len(store.stimuli) == 2
    eeg = np.concatenate([noise(4 * RATE, CHANNELS, seed=50 + k).T for k in (1, 2)], axis=1)
    np.testing.assert_array_equal(store.eeg("S1"), eeg)
    assert {s.language for s in store.stimuli.values()} == {"nl"} and store.facts.doi == FACTS.doi
    assert "S1: 2 of 20 trials" in store.index.settings["missing"]


def test_a_trial_is_as_long_as_eeg_and_both_sounds(tmp_path: Path) -> None:
    names = [f"part{k}_track{t}" for k in (1, 2, 3) for t in (1, 2)]
    for name, seconds in zip(names, (5.0, 6.0, 3.0, 6.0, 6.0, 2.5), strict=True):
        write_sounds(tmp_path / "raw", seconds, [name], hrtf=False)
    pairs = [cell([f"part{k}_track{t}_dry.wav" for t in (1, 2)]) for k in (1, 2, 3)]
    write_subject(tmp_path / "raw" / "S1.mat", [trial(2 * k + 1, stimuli=pairs[k]) for k in range(3)])
    store = prepared(tmp_path / "raw")
    assert [each.duration for each in store.trials.values()] == [4.0, 3.0, 2.5]


def test_a_sound_that_a_trial_needs_is_not_left_out_silently(tmp_path: Path) -> None:
    write_study(tmp_path / "raw", subjects=(1,))
    (tmp_path / "raw" / "stimuli" / "part1_track2_dry.wav").unlink()
    with pytest.raises(BadInput, match="part1_track2_dry.wav: file: expected a sound file, found no such file"):
        prepared(tmp_path / "raw")


def test_a_story_stays_in_one_part_of_a_split(tmp_path: Path) -> None:
    made = []
    for k in range(1, 5):
        for again in ("", "rep_"):
            pair = cell([f"{again}part{k}_track{t}_dry.wav" for t in (1, 2)])
            made.append(trial(2 * len(made) + 1, stimuli=pair))
    write_subject(tmp_path / "raw" / "S1.mat", made)
    write_sounds(tmp_path / "raw", hrtf=False)
    store = prepared(tmp_path / "raw")
    split = make_split(store.index, "story", 0)
    stories = [{store.stimuli[store.trial(name).attended].story for name in split.trials(part)} for part in split.parts]
    assert sum(map(len, stories)) == 4 == len(set.union(*stories))


@pytest.mark.parametrize("seconds, places", [(40.0, (0.5, 20.0, 39.5)), (361.0, (0.5, 180.25, 360.5))])
def test_impulses_stay_together_to_the_end_of_the_longest_trial(
    tmp_path: Path, seconds: float, places: tuple[float, ...]
) -> None:
    eeg = np.zeros((round(seconds * RATE), CHANNELS), np.float32)
    sounds = np.zeros((2, round(seconds * SOUND)), np.float32)
    for place in places:
        eeg[round(place * RATE)] = 1000 * np.arange(1, CHANNELS + 1)
        sounds[:, round(place * SOUND)] = 0.9, -0.5
    write_subject(
        tmp_path / "raw" / "S1.mat", [trial(1, eeg=noise(10 * RATE, CHANNELS)), trial(2, eeg=eeg)], compress=False
    )
    for track, sound in enumerate(sounds, 1):
        write_sound(tmp_path / "raw" / "stimuli", f"part1_track{track}_dry", sound)
    store = prepared(tmp_path / "raw", reference="none", high_pass=0.5 if seconds > 100 else 0)
    found = store.trial("S1_02")
    assert found.duration == seconds and found.start == 10.0
    for place in places:
        begin = round(found.start * RATE)
        signals = ((store.eeg("S1")[7, begin:], RATE), (store.stimulus(found.attended), 16_000))
        for signal, rate in signals:
            near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
            peak = (near.start + np.argmax(np.abs(signal[near]))) / rate
            assert abs(peak - place) <= 1 / RATE


def read_all(root: Path) -> list[tuple[str, np.ndarray, str, str]]:
    """All that an adapter tells of a study, sounds read."""
    found = []
    for item in source(root, KuLeuvenSteps()).items:
        for take in item.takes():
            eeg = eeg_of(take)
            assert eeg.shape == (CHANNELS, take.eeg.samples) and np.isfinite(eeg).all() and take.eeg.rate == RATE
            assert take.ear in ("left", "right") and take.id.startswith("S1_") and take.unattended is not None
            found.append((take.id, eeg, take.attended.key, take.unattended.key))
    return found


def fuzzed(folder: Path, compress: bool, count: int, labels: bool) -> int:
    """Damage a subject's file in ``count`` ways; those that were read in spite of it."""
    made = [trial(k, eeg=noise(6, CHANNELS, seed=k)) for k in (1, 2)]
    if labels:
        made[0] = labelled(made[0], NAMES)
    path = write_subject(folder / "S1.mat", made, compress)
    good, read = read_all(folder), 0
    for content in damaged(path.read_bytes(), count):
        path.write_bytes(content)
        try:
            found = read_all(folder)
        except BadInput:
            continue
        read += 1
        if compress:
            assert [(a, c, d) for a, _, c, d in found] == [(a, c, d) for a, _, c, d in good]
            for one_read, one_good in zip(found, good, strict=True):
                np.testing.assert_array_equal(one_read[1], one_good[1])
        assert 0 < len(found) <= len(good)
    return read


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("compress", [True, False])
def test_damaged_files_are_refused_or_read_right(tmp_path: Path, compress: bool, labels: bool) -> None:
    fuzzed(tmp_path, compress, 600, labels)


def test_damaged_sounds_are_refused_or_read_whole(tmp_path: Path) -> None:
    write_subject(tmp_path / "S1.mat", [trial(1, eeg=noise(6, CHANNELS))])
    sound = write_sound(tmp_path / "stimuli", "part1_track1_dry", noise(300, scale=0.1))
    (take,) = takes(tmp_path)
    for content in damaged(sound.read_bytes(), 600):
        sound.write_bytes(content)
        try:
            blocks = take.attended.open()
            block = blocks.read(0, min(blocks.samples, 10_000))
        except BadInput:
            continue
        assert block.shape == (1, min(blocks.samples, 10_000)) and np.isfinite(block).all()
