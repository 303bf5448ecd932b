"""DTU's recordings on files written here: tables out of MATLAB, events laid on them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fuzz import damaged
from scipy import io
from study_dtu_files import cell
from study_dtu_raw_files import (
    COLUMNS,
    LEAD,
    NAMES,
    PAUSE,
    RATE,
    SECONDS,
    SOUND,
    Recording,
    Row,
    columns,
    row,
    save,
    sound,
    structs,
    table,
    table_object,
    write_csv,
    write_sounds,
    write_study,
)

from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Take
from eeg2speech.data.preparation.steps import settled
from eeg2speech.data.store import Store
from eeg2speech.data.studies.dtu_expinfo import EXPORT, read
from eeg2speech.data.studies.dtu_raw import FACTS, DtuSteps, dtu, source
from eeg2speech.errors import BadInput
from eeg2speech.splits import make_split

pytestmark = pytest.mark.filterwarnings("ignore:dtu:UserWarning")
Change = Callable[[list[Row]], object]


def takes(root: Path, item: int = 0, **given: Any) -> list[Take]:
    return list(source(root, settled(DtuSteps, given, "dtu")).items[item].takes())


def prepared(raw: Path, out: Path, **given: object) -> Store:
    study = dtu()
    study.raw, study.given = raw, given
    return study.prepare(out)


def one(root: Path, rows: Sequence[Row] | None = None, body: dict[str, Any] | None = None, **given: Any) -> list[Take]:
    """Takes of a study of one subject, with a table or a recording other than usual."""
    rows = table() if rows is None else rows
    save(root / "EEG" / "S1.mat", Recording(rows).body() if body is None else body)
    write_csv(root / "EEG" / "S1.csv", rows)
    write_sounds(root / "AUDIO", table())
    return takes(root, **given)


def told(found: Sequence[Take]) -> list[tuple[Any, ...]]:
    """All that takes say but signals."""
    return [
        (t.id, t.start, t.seconds, t.attended.key, t.unattended and t.unattended.key, t.ear, t.eeg.samples)
        for t in found
    ]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("dtu") / "raw", (2, 10, 1))


def test_takes_name_what_was_attended_and_where(raw: Path) -> None:
    found = source(raw, DtuSteps())
    assert [item.id for item in found.items] == ["S1", "S2", "S10"]
    assert found.sensors == montage("biosemi64") and found.references == ("EXG1", "EXG2")
    first, second, third = found.items[0].takes()
    assert [take.id for take in (first, second, third)] == ["S1_01", "S1_02", "S1_03"]
    assert (first.attended.title, first.ear) == ("marianne_story2_trial_1", "left")
    assert (second.attended.title, second.ear) == ("marianne_story4_trial_3", "right")
    assert (third.attended.title, third.ear) == ("aske_story3_trial_4", "right")
    assert third.unattended is not None and third.unattended.title == "marianne_story4_trial_4"
    about = third.attended
    assert (about.speaker, about.language, about.story, about.files[0].name) == (
        *("aske", "da", "story3"),
        "aske_story3_trial_4.wav",
    )
    # The second trial has one talker: the third begins after it.
    begins = [LEAD + k * (SECONDS + PAUSE) for k in (0, 2, 3)]
    assert [take.start for take in (first, second, third)] == begins and first.seconds == SECONDS


def test_eeg_is_that_of_the_sensors_and_the_mastoids_in_microvolt(raw: Path) -> None:
    (take, *_) = takes(raw, unit="0.5")
    wanted = Recording(table(1), 1).samples()[700:900, :66].T / 2
    assert take.eeg.channels == 66 and take.eeg.rate == RATE
    np.testing.assert_array_equal(take.eeg.read(700, 900), wanted)


def test_what_is_missing_and_what_is_left_out_is_told(raw: Path) -> None:
    found = source(raw, DtuSteps())
    assert found.missing[0].startswith("no file of S3, S4, ") and "S10: 3 of 60 trials" in found.missing
    assert found.notes == ("trials with one talker are left out: 1 of S1, 1 of S2, 1 of S10",)


def test_a_sound_that_is_not_there_is_told_and_refused_when_needed(tmp_path: Path) -> None:
    write_study(tmp_path / "raw", (1,))
    (tmp_path / "raw" / "AUDIO" / "aske_story3_trial_4.wav").unlink()
    assert "sounds: no aske_story3_trial_4.wav" in source(tmp_path / "raw", DtuSteps()).missing
    with pytest.raises(BadInput, match="aske_story3_trial_4.wav: file: expected a sound file, found no such file"):
        prepared(tmp_path / "raw", tmp_path / "store", high_pass=0)


def as_csv(folder: Path, rows: Sequence[Row]) -> None:
    write_csv(folder / "S1.csv", rows)


def as_semicolons(folder: Path, rows: Sequence[Row]) -> None:
    path = write_csv(folder / "S1_expinfo.csv", rows, ";", COLUMNS[::-1])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def as_pandas(folder: Path, rows: Sequence[Row]) -> None:
    changed = [each | {"": k, "attend_mf": float(each["attend_mf"])} for k, each in enumerate(rows)]
    emptied = [{name: value if value != "" else "NaN" for name, value in each.items()} for each in changed]
    write_csv(folder / "S1.csv", emptied, ",", ("", *COLUMNS))


def as_columns(folder: Path, rows: Sequence[Row]) -> None:
    io.savemat(folder / "S1_expinfo.mat", {"expinfo": columns(rows)})


def as_structs(folder: Path, rows: Sequence[Row]) -> None:
    io.savemat(folder / "S1_expinfo.mat", {"expinfo": structs(rows)})


def as_variables(folder: Path, rows: Sequence[Row]) -> None:
    io.savemat(folder / "S1_expinfo.mat", columns(rows))


def as_struct_in_the_recording(folder: Path, rows: Sequence[Row]) -> None:
    save(folder / "S1.mat", Recording(rows).body(), expinfo=structs(rows))


def as_prepared(folder: Path, rows: Sequence[Row]) -> None:
    """The trials with two talkers only, each column a cell, in another folder."""
    two = [each for each in rows if each["n_speakers"] == 2]
    cells = {name: cell([each[name] for each in two]).T for name in COLUMNS}
    (folder.parent / "DATA_preproc").mkdir()
    io.savemat(folder.parent / "DATA_preproc" / "expinfo_prepro_S1.mat", {"expinfo_prepro": cells})


@pytest.mark.parametrize(
    "write",
    [as_csv, as_semicolons, as_pandas, as_columns, as_structs, as_variables, as_struct_in_the_recording, as_prepared],
)
def test_a_table_is_the_same_however_it_came_out_of_matlab(raw: Path, tmp_path: Path, write: Any) -> None:
    write_study(tmp_path, (1,))
    (tmp_path / "EEG" / "S1.csv").unlink()
    write(tmp_path / "EEG", table(1))
    assert told(takes(tmp_path)) == told(takes(raw))


def test_the_table_in_the_recording_cannot_be_read_and_the_way_out_is_told(tmp_path: Path) -> None:
    write_study(tmp_path, (1, 2))
    recording = tmp_path / "EEG" / "S1.mat"
    recording.write_bytes(recording.read_bytes() + table_object("expinfo"))
    assert len(takes(tmp_path)) == 3
    (tmp_path / "EEG" / "S1.csv").unlink()
    with pytest.raises(BadInput, match="S1.csv or S1_expinfo.mat beside S1.mat") as refusal:
        source(tmp_path, DtuSteps())
    assert EXPORT in refusal.value.expected and refusal.value.found == "none of S1"
    exported = tmp_path / "EEG" / "S1_expinfo.mat"
    io.savemat(exported, {"x": 1.0})
    exported.write_bytes(exported.read_bytes() + table_object("expinfo"))
    with pytest.raises(BadInput, match="found a table, which MATLAB alone reads"):
        source(tmp_path, DtuSteps())


def test_a_table_the_authors_prepared_is_passed_over_where_it_cannot_be_read(tmp_path: Path) -> None:
    write_study(tmp_path, (1,))
    (tmp_path / "EEG" / "S1.csv").unlink()
    closed = tmp_path / "EEG" / "expinfo_prepro_S1.mat"
    io.savemat(closed, {"x": 1.0})
    closed.write_bytes(closed.read_bytes() + table_object("expinfo_prepro"))
    with pytest.raises(BadInput, match="none of S1"):
        source(tmp_path, DtuSteps())


@pytest.mark.parametrize("as_array", [True, False])
def test_events_are_one_struct_or_many(raw: Path, tmp_path: Path, as_array: bool) -> None:
    assert told(one(tmp_path, body=Recording(table(1)).body(as_array=as_array))) == told(takes(raw))


@pytest.mark.parametrize("wrapped", ["cell", "cell of cell", "none", "empty"])
def test_columns_go_by_their_names(raw: Path, tmp_path: Path, wrapped: str) -> None:
    recording = Recording(table(1))
    eeg, turned = recording.samples(), np.random.default_rng(0).permutation(73)
    body = recording.body()
    names = cell([NAMES[k] for k in turned])
    if wrapped in ("none", "empty"):
        turned = np.arange(73)
        body["dim"] = {"chan": {"eeg": np.zeros((0, 0))}} if wrapped == "empty" else {"time": {"eeg": 1.0}}
    else:
        body["dim"] = {"chan": {"eeg": cell([names]) if wrapped == "cell of cell" else names}}
    body["eeg"] = cell([eeg[:, turned]])
    (take, *_) = one(tmp_path, body=body)
    np.testing.assert_array_equal(take.eeg.read(0, 99), eeg[:99, :66].T)


def test_a_table_of_fewer_rows_lies_on_the_onsets_in_one_way_or_is_refused(tmp_path: Path) -> None:
    rows = [row(k, attended=1 + (k == 2), story=1) for k in range(1, 4)]
    for each, trigger in zip(rows, (1, 2, 1), strict=True):
        each["trigger"] = trigger
    body = Recording(rows).body()
    save(tmp_path / "EEG" / "S1.mat", body)
    write_sounds(tmp_path / "AUDIO", rows)

    def starts(kept: Sequence[Row], **given: Any) -> list[float]:
        write_csv(tmp_path / "EEG" / "S1.csv", kept)
        return [take.start for take in takes(tmp_path, **given)]

    step = SECONDS + PAUSE
    assert starts(rows[:2]) == [LEAD, LEAD + step]
    assert starts(rows[1:]) == [LEAD + step, LEAD + 2 * step]
    assert starts(rows[1:2]) == [LEAD + step]
    with pytest.raises(BadInput, match="1 triggers that are found at 3 onsets in one way only, found more than one"):
        starts(rows[:1])
    with pytest.raises(BadInput, match=r"triggers of the table at its onsets.*events=order"):
        starts([rows[1], rows[1] | {"wavfile_male": "aske_story9_trial_9.wav"}])
    with pytest.raises(BadInput, match="as many onsets as the table has rows, 2, or more"):
        starts(rows[:2], events="order")
    with pytest.raises(BadInput, match="4, or more of them and a trigger in each row, found 3 onsets, 4 triggers"):
        starts([*rows, row(9)])


def test_triggers_have_to_agree_unless_order_is_told(tmp_path: Path) -> None:
    rows = table(1)
    body = Recording(rows).body()
    rows[0]["trigger"] = 99
    with pytest.raises(BadInput, match=r"data.event.eeg.value.*triggers of the table"):
        one(tmp_path, rows, body)
    by_order = one(tmp_path, rows, body, events="order")
    for each in rows:
        each["trigger"] = ""
    assert told(one(tmp_path, rows, body)) == told(by_order)


def test_a_trial_ends_with_its_offset_or_with_the_sound(tmp_path: Path) -> None:
    assert [take.seconds for take in one(tmp_path)] == [SECONDS] * 3
    assert [take.seconds for take in takes(tmp_path, end="sound")] == [SECONDS + PAUSE] * 3
    assert [take.start for take in takes(tmp_path, end="sound")] == [LEAD + k * (SECONDS + PAUSE) for k in (0, 2, 3)]


def test_ears_may_be_unknown(tmp_path: Path) -> None:
    rows = [{name: value for name, value in each.items() if name != "attend_lr"} for each in table(1)]
    save(tmp_path / "S1.mat", Recording(rows).body())
    write_csv(tmp_path / "S1.csv", rows, columns=[name for name in COLUMNS if name not in ("attend_lr", "n_speakers")])
    write_sounds(tmp_path, rows)
    found = takes(tmp_path)
    assert [take.ear for take in found] == [""] * 3 and len(source(tmp_path, DtuSteps()).notes) == 1


def test_sounds_of_other_names_have_the_talker_s_sex_and_no_story(tmp_path: Path) -> None:
    rows = table(1)
    rows[0] |= {"wavfile_male": "man 1.WAV", "wavfile_female": "woman1.wav"}
    save(tmp_path / "EEG" / "S1.mat", Recording(rows).body())
    write_csv(tmp_path / "EEG" / "S1.csv", rows)
    write_sounds(tmp_path / "AUDIO", rows[1:])
    soundfile.write(tmp_path / "AUDIO" / "Man 1.wav", sound("x"), SOUND)
    (take, *_) = takes(tmp_path)
    assert (take.attended.speaker, take.attended.story) == ("female", "")
    assert take.unattended is not None and take.unattended.speaker == "male"
    assert take.unattended.open().samples == round(SECONDS * SOUND)


def test_the_folder_may_be_the_one_that_holds_the_study(raw: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "a" / "b", (1,))
    assert told(takes(tmp_path / "a")) == told(takes(tmp_path / "a" / "b")) == told(takes(raw))
    write_study(tmp_path / "a" / "c", (2,))
    with pytest.raises(BadInput, match="S18.mat in one folder, found b, c"):
        takes(tmp_path / "a")


def field_of(name: str, value: Any) -> Change:
    return lambda rows: rows[0].update({name: value})


REFUSED_ROWS: list[tuple[Change, str]] = [
    (field_of("attend_mf", 3), r"attend_mf: expected 1 \(male\) or 2 \(female\), found 3"),
    (field_of("attend_mf", ""), "attend_mf: expected a whole number, found ''"),
    (field_of("attend_mf", "male"), "attend_mf: expected a whole number, found 'male'"),
    (field_of("attend_mf", "inf"), "attend_mf: expected a whole number, found 'inf'"),
    (field_of("attend_lr", 0), r"attend_lr: expected 1 \(left\) or 2 \(right\), found 0"),
    (field_of("trigger", 1.5), "trigger: expected a whole number, found '1.5'"),
    (field_of("n_speakers", 3), "n_speakers: expected one or two talkers, found 3"),
    (field_of("wavfile_male", ""), "wavfile_male: expected the name of a wav file, found ''"),
    (field_of("wavfile_male", "../../a.wav"), r"wavfile_male: expected the name of a wav file, found '../../a.wav'"),
    (field_of("wavfile_male", "a\\b.wav"), "wavfile_male: expected the name of a wav file"),
    (field_of("wavfile_male", "aske.mp3"), "wavfile_male: expected the name of a wav file"),
    (field_of("wavfile_male", "marianne_story2_trial_1.wav"), "wavfile_female: expected another file|of aske"),
    (field_of("wavfile_male", "marianne_story9_trial_1.wav"), "wavfile_male: expected a sound of aske"),
    (field_of("wavfile_female", "Aske_story9_trial_1.wav"), "wavfile_female: expected a sound of marianne"),
]


@pytest.mark.parametrize("change, reason", REFUSED_ROWS, ids=range(len(REFUSED_ROWS)))
def test_rows_that_cannot_be_are_refused(tmp_path: Path, change: Change, reason: str) -> None:
    rows = table(1)
    change(rows)
    with pytest.raises(BadInput, match=reason) as refusal:
        one(tmp_path, rows, Recording(table(1)).body())
    assert refusal.value.where.endswith("S1.csv, row 1")


HEAD = b"attend_mf,wavfile_male,wavfile_female"
REFUSED_CSV: list[tuple[bytes, str]] = [
    (b"", "a line with their names: wavfile_male, .* found an empty file"),
    (b"\n\n", "an empty file"),
    (HEAD, "expinfo.wavfile_male: expected at least one row, found 0"),
    (b"wavfile_male,wavfile_female\na.wav,b.wav", "expinfo.attend_mf: expected a column of this name"),
    (HEAD + b",attend_mf\n1,a.wav,b.wav,2", "expinfo.attend_mf: expected one column of this name, found 2"),
    (HEAD + b"\n1,a.wav", "row 1: expected 3 cells, as there are columns, found 2"),
    (HEAD + b'\n1,"a.wav,b.wav', "comma-separated values"),
    (HEAD + b"\n1,\xff.wav,b.wav", "text: expected UTF-8"),
    (HEAD + b"\n" * (1 << 20), "size: expected at most 1048576 bytes"),
    (HEAD + b"\n1,,", "wavfile_male: expected one or two talkers, found 0"),
]


@pytest.mark.parametrize("content, reason", REFUSED_CSV, ids=range(len(REFUSED_CSV)))
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "S1.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=reason):
        read(path)


ROWS = columns(table(1))
REFUSED_STRUCTS: list[tuple[dict[str, Any], str]] = [
    ({"x": 1.0}, "variables: expected expinfo, or its columns wavfile_male, wavfile_female, attend_mf, found x"),
    ({"expinfo": 1.0}, "expinfo: expected a cell, found"),
    ({"expinfo": {"attend_mf": 1.0}}, "expinfo.wavfile_male: expected a column of this name, found attend_mf"),
    ({"expinfo": ROWS | {"attend_mf": np.ones((3, 1))}}, "expinfo.attend_mf: expected 4 rows, found 3"),
    ({"expinfo": ROWS | {"attend_mf": np.ones((2, 2))}}, "attend_mf: expected a column of text or numbers"),
    ({"expinfo": ROWS | {"attend_mf": np.ones((4, 1)) * 1j}}, "attend_mf: expected a column of text or numbers"),
    ({"expinfo": ROWS | {"attend_mf": cell([np.ones(2)] * 4)}}, "attend_mf: expected text or a number in each cell"),
    ({"expinfo": ROWS | {"wavfile_male": cell([{"a": 1}] * 4)}}, "wavfile_male: expected text or a number"),
    ({"expinfo": np.empty((0, 0), [("attend_mf", object)])}, "expinfo"),
]


@pytest.mark.parametrize("content, reason", REFUSED_STRUCTS, ids=range(len(REFUSED_STRUCTS)))
def test_structs_that_are_no_tables_are_refused(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    io.savemat(tmp_path / "S1_expinfo.mat", content)
    with pytest.raises(BadInput, match=reason):
        read(tmp_path / "S1_expinfo.mat")


def with_events(**changed: Any) -> dict[str, Any]:
    body = Recording(table(1)).body()
    return body | {"event": {"eeg": body["event"]["eeg"] | changed}}


def samples_but(place: int, sample: float) -> np.ndarray:
    found = np.array(Recording(table(1)).events()["sample"])
    found[place] = sample
    return found


def renamed(old: str, new: str) -> dict[str, Any]:
    return Recording(table(1), names=[new if name == old else name for name in NAMES]).body()


def recording_but(**changed: Any) -> dict[str, Any]:
    return Recording(table(1)).body() | changed


NAN = np.where(np.arange(5632 * 73).reshape(5632, 73) == 99, np.nan, 1.0)
REFUSED_RECORDINGS: list[tuple[dict[str, Any], str]] = [
    (recording_but(fsample={"eeg": 64.0}), "data.fsample.eeg: expected 512 Hz, found 64 Hz"),
    (recording_but(fsample={"wavA": 64.0}), "data.fsample.eeg: expected a field 'eeg'"),
    (recording_but(eeg=cell([np.ones((99, 72))])), r"data.eeg: expected \[samples, 73\]"),
    (recording_but(eeg=cell([np.ones((99, 73))] * 2)), "data.eeg: expected one element"),
    (recording_but(eeg=cell([NAN])), "data.eeg: expected finite"),
    (recording_but(event={"wavA": 1.0}), "data.event.eeg: expected a field 'eeg'"),
    (renamed("EXG2", "M2"), "EXG1 and EXG2, the mastoids, found no EXG2"),
    (renamed("Cz", "Nz"), "64 sensors of BioSemi's cap, found none named Cz"),
    (renamed("Status", "Cz"), "names of channels: expected each once"),
    (Recording(table(1), names=NAMES[:66]).body(), r"data.eeg: expected \[samples, 66\]"),
    (with_events(sample=samples_but(2, 1.5)), "event.eeg.sample: expected a whole number, found '1.5'"),
    (with_events(sample=samples_but(0, 0)), "1 to 5632, as in the recording, found 0 to"),
    (with_events(sample=samples_but(7, 5634)), "1 to 5632, as in the recording, found .* to 5634"),
    (with_events(sample=samples_but(1, 513)), r"samples that rise, found 513, then 513 \(events 1, 2\)"),
    (with_events(sample=samples_but(1, 520)), "at least 1 s from each onset to its offset, .* found 0.014 s"),
    (with_events(sample=samples_but(0, 1)[:7]), "for each trial, with a value each, found 7 samples and 8 values"),
    (with_events(sample=np.zeros((0, 0)), value=np.zeros((0, 0))), "found 0 samples and 0 values"),
    (
        with_events(sample=samples_but(0, 1)[:7], value=np.ones((7, 1))),
        "an onset and an offset for each trial, .* found 7 samples and 7 values",
    ),
    (with_events(value=np.full((8, 1), np.nan)), "event.eeg.value: expected a whole number, found ''"),
]


@pytest.mark.parametrize("body, reason", REFUSED_RECORDINGS, ids=range(len(REFUSED_RECORDINGS)))
def test_recordings_that_are_not_the_study_s_are_refused(tmp_path: Path, body: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as refusal:
        one(tmp_path, table(1), body)
    assert "S1.mat" in refusal.value.where


def write_two_sets(root: Path) -> None:
    for folder in ("a", "b"):
        save(root / folder / "S1.mat", {"x": 1.0})


def write_no_sounds(root: Path) -> None:
    write_study(root, (1,))
    for path in (root / "AUDIO").iterdir():
        path.unlink()


def write_sounds_twice(root: Path) -> None:
    write_study(root, (1,))
    (root / "AUDIO").rename(root / "sound")
    write_sounds(root / "sound 8 kHz", table(1))


def write_text(root: Path) -> None:
    write_study(root, (1,))
    (root / "EEG" / "S1.mat").write_bytes(b"x" * 999)


FOLDERS: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: None, "S1.mat to S18.mat, here or one folder below, found none"),
    (write_two_sets, "subject 1: expected one file"),
    (write_no_sounds, "a folder AUDIO with aske_story4_trial_8.wav and others, found none"),
    (write_sounds_twice, "sounds: expected one folder AUDIO, found .*sound, .*sound 8 kHz"),
    (write_text, "a MATLAB file"),
]


@pytest.mark.parametrize("write, reason", FOLDERS, ids=range(len(FOLDERS)))
def test_folders_that_are_not_the_study_are_refused(
    tmp_path: Path, write: Callable[[Path], object], reason: str
) -> None:
    write(tmp_path)
    with pytest.raises(BadInput, match=reason):
        takes(tmp_path)
    with pytest.raises(BadInput, match="found none"):
        source(tmp_path / "nowhere", DtuSteps())


def test_of_two_folders_of_sounds_the_one_named_audio_is_taken(raw: Path, tmp_path: Path) -> None:
    write_study(tmp_path, (1,))
    write_sounds(tmp_path / "A 8 kHz", table(1), seconds=0.1)
    assert told(takes(tmp_path)) == told(takes(raw))
    assert takes(tmp_path)[0].attended.files[0].parent.name == "AUDIO"


@pytest.mark.parametrize("name, value", [("events", "x"), ("end", "x"), ("unit", "0"), ("unit", "nan")])
def test_settings_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        settled(DtuSteps, {name: value}, "dtu")


def test_a_store_has_what_the_files_have(raw: Path, tmp_path: Path) -> None:
    store = prepared(raw, tmp_path / "store", reference="none", high_pass=0, eeg_rate=RATE)
    store.verify()
    assert {*store.subjects} == {"S1", "S2", "S10"} and len(store.trials) == 9
    assert store.facts.doi == FACTS.doi and {s.speaker for s in store.stimuli.values()} == {"aske", "marianne"}
    recording = Recording(table(2), 2)
    cuts = [recording.samples()[onset : onset + round(SECONDS * RATE), :64] for onset in recording.onsets]
    np.testing.assert_array_equal(store.eeg("S2"), np.concatenate([cuts[0], *cuts[2:]]).T)
    assert "EEG/S2.csv" in store.index.settings["sources"] and "EEG/S2.mat" in store.index.settings["sources"]


def test_against_the_mastoids_if_told(raw: Path, tmp_path: Path) -> None:
    given = {"high_pass": 0, "eeg_rate": RATE, "reference": "electrodes"}
    recording = Recording(table(1), 1)
    whole = recording.samples()[recording.onsets[0] :][: round(SECONDS * RATE)].T.astype(float)
    found = prepared(raw, tmp_path / "store", **given).eeg("S1")[:, : whole.shape[1]]
    np.testing.assert_allclose(found, whole[:64] - whole[64:66].mean(axis=0), atol=1e-3)


def test_a_sound_that_many_heard_is_stored_once(raw: Path, tmp_path: Path) -> None:
    store = prepared(raw, tmp_path / "store", high_pass=0)
    names = {each[f"wavfile_{sex}"] for each in table(1) if each["n_speakers"] == 2 for sex in ("male", "female")}
    assert len(store.stimuli) == len(names) == 6


def test_a_story_stays_in_one_part_of_a_split(tmp_path: Path) -> None:
    rows = [row(k, attended=1 + k % 2, story=1 + 2 * (k % 4)) for k in range(1, 9)]
    save(tmp_path / "raw" / "EEG" / "S1.mat", Recording(rows).body())
    write_csv(tmp_path / "raw" / "EEG" / "S1.csv", rows)
    write_sounds(tmp_path / "raw" / "AUDIO", rows)
    store = prepared(tmp_path / "raw", tmp_path / "store", high_pass=0)
    split = make_split(store.index, "story", 0)
    stories = [{store.stimuli[store.trial(name).attended].story for name in split.trials(part)} for part in split.parts]
    assert sum(map(len, stories)) == len(set.union(*stories)) > 2


@pytest.mark.parametrize("as_heard, eeg_rate", [("first", 128), ("second", 64)])
def test_impulses_stay_together_to_the_end_of_the_longest_trial(tmp_path: Path, as_heard: str, eeg_rate: int) -> None:
    seconds, places = 50.0, (0.5, 25.25, 49.5)
    rows = [row(1, attended=1, ear=2), row(2, attended=1, talkers=1), row(3, attended=2, story=3)]
    recording = Recording(rows, seconds=seconds)
    eeg = recording.samples()
    eeg[:] = 0
    for onset in recording.onsets:
        for place in places:
            eeg[round(onset + place * RATE), :64] = 300 * np.arange(1, 65)
    save(tmp_path / "raw" / "EEG" / "S1.mat", recording.body())
    write_csv(tmp_path / "raw" / "EEG" / "S1.csv", rows)
    write_sounds(tmp_path / "raw" / "AUDIO", rows)
    impulses = np.zeros(round(seconds * SOUND))
    impulses[[round(place * SOUND) for place in places]] = 0.9
    for each in (rows[0], rows[2]):
        for sex in ("male", "female"):
            soundfile.write(tmp_path / "raw" / "AUDIO" / each[f"wavfile_{sex}"], impulses, SOUND)
    store = prepared(tmp_path / "raw", tmp_path / "store", reference="none", eeg_rate=eeg_rate)
    found = store.trial("S1_01" if as_heard == "first" else "S1_02")
    assert found.duration == seconds and found.unattended is not None
    for place in places:
        begin = round(found.start * eeg_rate)
        sounds = [(store.stimulus(name), 16_000) for name in (found.attended, found.unattended)]
        for signal, rate in [(store.eeg("S1")[7, begin:], eeg_rate), *sounds]:
            near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
            peak = (near.start + np.argmax(np.abs(signal[near]))) / rate
            assert abs(peak - place) <= 1 / eeg_rate


def small(folder: Path, compress: bool) -> tuple[Path, np.ndarray]:
    """A study of one trial with as little in it as can be."""
    rows = [row(1)]
    recording = Recording(rows, seconds=1.0)
    recording.eeg = np.zeros((round(2.5 * RATE), 73), np.int8)
    recording.eeg[::100] = np.arange(73)
    write_sounds(folder / "AUDIO", rows, 0.01)
    write_csv(folder / "S1.csv", rows)
    return save(folder / "S1.mat", recording.body(), compress), recording.eeg.T


@pytest.mark.parametrize("compress", [True, False])
def test_damaged_recordings_are_refused_or_read_right(tmp_path: Path, compress: bool) -> None:
    """What is packed has a checksum: then what is read is what was written. Else all but the samples is damaged."""
    path, eeg = small(tmp_path, compress)
    content, good, refused = path.read_bytes(), told(takes(tmp_path)), 0
    samples = b"" if compress else np.ascontiguousarray(eeg).tobytes()
    head, tail = content.split(samples) if samples else (content, b"")
    for rest in damaged(head + tail, 1000):
        path.write_bytes(rest[: len(head)] + samples + rest[len(head) :])
        try:
            found = takes(tmp_path)
            read_back = found[0].eeg.read(0, found[0].eeg.samples)
        except BadInput:
            refused += 1
            continue
        assert np.isfinite(read_back).all() and read_back.shape == (66, found[0].eeg.samples) and len(found) == 1
        if compress:
            assert told(found) == good
            np.testing.assert_array_equal(read_back, eeg[:66])
    assert refused > 600


@pytest.mark.parametrize("write", [as_csv, as_columns, as_structs])
def test_damaged_tables_are_refused_or_say_what_they_say(tmp_path: Path, write: Any) -> None:
    write(tmp_path, table(1))
    (path,) = tmp_path.iterdir()
    good, refused = read(path), 0
    for content in damaged(path.read_bytes(), 700):
        path.write_bytes(content)
        try:
            found = read(path)
        except BadInput:
            refused += 1
            continue
        assert 0 < len(found) <= 2 * len(good) and [each.number for each in found] == [*range(1, len(found) + 1)]
        for each in found:
            assert each.talkers == 1 or (each.ear in ("", "left", "right") and each.attended in ("male", "female"))
            assert "/" not in each.male + each.female
    assert refused > 100
