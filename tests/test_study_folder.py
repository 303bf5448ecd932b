"""One's own data in a folder: the table is checked line by line, signals stay together, nothing is guessed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import damaged
from study_folder_files import (
    NAMES,
    RATE,
    SOUND,
    WRITERS,
    noise,
    write_brainvision,
    write_edf,
    write_fif,
    write_folder,
    write_hdf5,
    write_npy,
    write_sound,
    write_table,
)

from eeg2speech.data.preparation.source import Source
from eeg2speech.data.preparation.steps import settled
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.store import Store
from eeg2speech.data.studies.folder import (
    FolderSteps,
    check,
    folder,
    folder_envelopes,
    folder_mels,
    notes,
    source,
    write_template,
)
from eeg2speech.data.studies.folder_table import COLUMNS, read_table
from eeg2speech.errors import BadInput

PLACED = FolderSteps(montage="easycap-M1")
Rows = list[dict[str, object]]


def prepared(study: RawStudy[Any], home: Path, out: Path, **given: object) -> Store:
    study.raw, study.given = home, {"montage": "easycap-M1"} | given
    return study.prepare(out)


def problems(home: Path, steps: FolderSteps = PLACED) -> str:
    return "\n".join(check(home, steps))


def takes(found: Source) -> list[Any]:
    return [take for item in found.items for take in item.takes()]


@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".vhdr", ".fif", ".h5"])
def test_a_folder_becomes_a_store(tmp_path: Path, suffix: str) -> None:
    rows = write_folder(tmp_path / "raw", suffix=suffix)
    assert check(tmp_path / "raw", PLACED) == [] and notes(tmp_path / "raw", PLACED) == []
    store = prepared(folder(), tmp_path / "raw", tmp_path / "store")
    assert [r.id for r in store.recordings.values()] == ["S1", "S2"] and store.subjects == ("S1", "S2")
    assert [*store.trials] == ["S1-1", "S1-2", "S2-1", "S2-2"] and len(store.stimuli) == 4
    titles = {stimulus.id: stimulus.title for stimulus in store.stimuli.values()}
    for trial, row in zip(store.trials.values(), rows, strict=True):
        assert trial.duration == 10 and trial.unattended is not None
        assert titles[trial.attended] == Path(str(row["attended"])).stem
        assert titles[trial.unattended] == Path(str(row["unattended"])).stem
    assert store.index.sensors.names == NAMES and max(np.abs(store.index.sensors.positions).ravel()) < 0.2
    store.verify()


@pytest.mark.parametrize("suffix", [*WRITERS])
def test_eeg_is_read_in_microvolt_in_the_order_of_the_first_file(tmp_path: Path, suffix: str) -> None:
    rows = write_folder(tmp_path, suffix=suffix)
    eeg = 20 * noise(len(NAMES), 20 * RATE, seed=9)
    if suffix != ".npy":
        WRITERS[suffix](tmp_path / "eeg" / f"S2{suffix}", eeg[::-1], RATE, NAMES[::-1])
    else:
        write_npy(tmp_path / "eeg" / f"S2{suffix}", eeg / 1e3, RATE)
        rows = [row | {"eeg_rate": RATE, "eeg_unit": "mV" if row["subject"] == "S2" else "uV"} for row in rows]
        write_table(tmp_path, rows)
    steps = replace(PLACED, channels=",".join(NAMES) if suffix == ".npy" else "")
    found = takes(source(tmp_path, steps))[2].eeg
    assert (found.rate, found.channels, found.samples) == (RATE, len(NAMES), 20 * RATE)
    np.testing.assert_allclose(found.read(100, 900), eeg[:, 100:900], atol=0.06)


@pytest.mark.parametrize("suffix, rate, sound", [(".edf", 500, 44_100), (".bdf", 512, 48_000), (".vhdr", 250, 16_000)])
def test_impulses_stay_together_to_the_end_of_the_longest_trial(
    tmp_path: Path, suffix: str, rate: int, sound: int
) -> None:
    trials = [(2.5, 12.0), (17.3, 60.0)]
    eeg, rows = np.zeros((len(NAMES), 80 * rate)), []
    for number, (start, seconds) in enumerate(trials):
        speech = np.zeros(round(seconds * sound))
        for place in (0.25, seconds / 2, seconds - 0.25):
            eeg[:, round((start + place) * rate)] = 1000
            speech[round(place * sound)] = 1
        write_sound(tmp_path / "raw" / f"a{number}.flac", speech, sound)
        rows.append({"subject": "x", "eeg": f"x{suffix}", "start": start, "attended": f"a{number}.flac"})
    WRITERS[suffix](tmp_path / "raw" / f"x{suffix}", eeg, rate, NAMES)
    write_table(tmp_path / "raw", rows)
    store = prepared(folder(), tmp_path / "raw", tmp_path / "store", reference="none")
    for (_, seconds), trial in zip(trials, store.trials.values(), strict=True):
        assert trial.duration == seconds
        whole = store.eeg(trial.recording)[0, round(trial.start * 128) :]
        for place in (0.25, seconds / 2, seconds - 0.25):
            for signal, own in ((whole, 128), (store.stimulus(trial.attended), 16_000)):
                near = slice(round((place - 0.2) * own), round((place + 0.2) * own))
                assert abs((near.start + np.argmax(np.abs(signal[near]))) / own - place) <= 1 / 128


def test_all_columns_come_into_the_store(tmp_path: Path) -> None:
    rows = write_folder(tmp_path / "raw")
    about: dict[str, Any] = {"ear": "Left", "part": "test", "language": "de", "duration": 9.5}
    for number, row in enumerate(rows):
        names = {
            f"{what}_{role}": f"{what} of {row[role]}"
            for what in ("speaker", "story")
            for role in ("attended", "unattended")
        }
        row |= about | names | {"id": f"trial.{number}"}
    write_table(tmp_path / "raw", rows)
    store = prepared(folder(), tmp_path / "raw", tmp_path / "store", title="ours", licence="CC0")
    assert (store.facts.title, store.facts.licence, store.facts.name) == ("ours", "CC0", "folder")
    for number, (trial, row) in enumerate(zip(store.trials.values(), rows, strict=True)):
        assert (trial.id, trial.ear, trial.part, trial.duration) == (f"trial.{number}", "left", "test", 9.5)
        speech = store.stimuli[trial.attended]
        assert (speech.speaker, speech.story) == (f"speaker of {row['attended']}", f"story of {row['attended']}")
        assert speech.language == "de"


def test_one_talker(tmp_path: Path) -> None:
    rows = write_folder(tmp_path / "raw")
    write_table(tmp_path / "raw", [{name: row[name] for name in row if name != "unattended"} for row in rows])
    store = prepared(folder(), tmp_path / "raw", tmp_path / "store")
    assert {trial.unattended for trial in store.trials.values()} == {None}


@pytest.mark.parametrize("kind, bands", [("envelope", 1), ("mel", 10)])
def test_features_are_kept_at_their_rate(tmp_path: Path, kind: str, bands: int) -> None:
    rows = write_folder(tmp_path / "raw")
    for number, name in enumerate(("a1", "b1", "a2", "b2")):
        feature = np.abs(noise(bands, 640, seed=number))
        np.save(tmp_path / "raw" / "speech" / f"{name}.npy", feature[0] if name == "a1" and bands == 1 else feature)
    told = {"feature_rate": 64}
    changed = [
        row | told | {role: str(row[role]).replace("wav", "npy") for role in ("attended", "unattended")} for row in rows
    ]
    write_table(tmp_path / "raw", changed)
    assert check(tmp_path / "raw", PLACED) == []
    study = folder_envelopes() if kind == "envelope" else folder_mels()
    store = prepared(study, tmp_path / "raw", tmp_path / "store")
    assert (store.facts.stimuli, store.facts.audio_rate, store.facts.name) == (kind, 64, f"folder-{kind}s")
    assert {(s.bands, s.samples) for s in store.stimuli.values()} == {(bands, 640)}
    first = store.stimulus(store.trial("S1-1").attended)
    np.testing.assert_allclose(first, np.abs(noise(bands, 640, seed=0)), rtol=1e-6)
    other = folder_mels() if kind == "envelope" else folder_envelopes()
    with pytest.raises(BadInput, match="shape: expected .*samples"):
        prepared(other, tmp_path / "raw", tmp_path / "other")
    with pytest.raises(BadInput, match=r"suffix: expected \.wav or \.flac, found \.npy \(features are for"):
        prepared(folder(), tmp_path / "raw", tmp_path / "other")


def test_the_folder_may_lie_one_deeper(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw" / "inner")
    assert [item.id for item in source(tmp_path / "raw", PLACED).items] == ["S1", "S2"]
    write_folder(tmp_path / "raw" / "other")
    with pytest.raises(BadInput, match="trials.csv: file: expected the table of trials, a CSV file, found no such"):
        source(tmp_path / "raw", PLACED)


def test_a_folder_of_links_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "there")
    (tmp_path / "here").mkdir()
    for name in ("eeg", "speech", "trials.csv"):
        (tmp_path / "here" / name).symlink_to(tmp_path / "there" / name)
    assert len(takes(source(tmp_path / "here", PLACED))) == 4


def test_paths_stay_in_the_folder_unless_told(tmp_path: Path) -> None:
    rows = write_folder(tmp_path / "raw")
    (tmp_path / "raw" / "eeg" / "S1.edf").rename(tmp_path / "S1.edf")
    for given in ("../S1.edf", str(tmp_path / "S1.edf")):
        changed = [row | ({"eeg": given} if row["subject"] == "S1" else {}) for row in rows]
        write_table(tmp_path / "raw", changed)
        assert "line 2: eeg: expected a path below" in problems(tmp_path / "raw")
        assert problems(tmp_path / "raw", replace(PLACED, outside=True)) == ""
        assert source(tmp_path / "raw", replace(PLACED, outside=True)).items[0].id == "S1"


def test_names_of_recordings_are_made_of_paths(tmp_path: Path) -> None:
    write_folder(tmp_path)
    files = ["a/ru n.edf", "b/ru n.edf", "b/rü.edf", "b/-.edf", "c.edf", "C.edf"]
    rows: Rows = []
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((tmp_path / "eeg" / "S1.edf").read_bytes())
        rows.append({"subject": f"{number}", "eeg": name, "start": 0, "attended": "speech/a1.wav"})
    write_table(tmp_path, rows)
    names = [item.id for item in source(tmp_path, PLACED).items]
    assert names == ["a-ru-n", "b-ru-n", "r", "eeg", "c", "C-2"]
    assert [take.id for take in takes(source(tmp_path, PLACED))][0] == "a-ru-n-1"


def test_files_of_a_recording_are_all_told(tmp_path: Path) -> None:
    write_folder(tmp_path, suffix=".vhdr")
    files = source(tmp_path, PLACED).items[0].files
    assert sorted(path.name for path in files) == ["S1.eeg", "S1.vhdr", "S1.vmrk"]


# The table.


def with_text(home: Path, change: Callable[[str], str | bytes]) -> Path:
    """The table of a whole folder, its text changed."""
    if not (home / "eeg").exists():
        write_folder(home)
    path = home / "trials.csv"
    text = change(path.read_text(encoding="utf-8"))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


SAME: dict[str, Callable[[str], str | bytes]] = {
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "no end of the last line": lambda text: text.rstrip("\n"),
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "quotes": lambda text: "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in text.splitlines()),
    "spaces": lambda text: text.replace(",", " , "),
    "empty lines": lambda text: text.replace("\n", "\n\n ,,,,\n"),
    "comments": lambda text: '# one, "two\n' + text.replace("\n", '\n  # x\n"# ""y""",,,\n'),
    "columns without a name at the end": lambda text: text.replace("\n", ",,\n"),
    "names in capitals": lambda text: text.replace("subject,eeg", "Subject,EEG"),
    "other order": lambda text: "\n".join(",".join(line.split(",")[::-1]) for line in text.splitlines()),
}


@pytest.mark.parametrize("how", [*SAME])
def test_tables_that_are_written_otherwise_say_the_same(tmp_path: Path, how: str) -> None:
    plain = [replace(row, line=0) for row in read_table(with_text(tmp_path, str), tmp_path).rows]
    found = read_table(with_text(tmp_path, SAME[how]), tmp_path)
    assert not found.problems and [replace(row, line=0) for row in found.rows] == plain
    assert len(plain) == 4 and check(tmp_path, PLACED) == []


REFUSED: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "not UTF-8": (
        lambda text: text.replace("S2,", "Sé,").encode("latin-1"),
        "line 4: text: expected UTF-8, found the byte 0xe9",
    ),
    "not UTF-8, behind a byte order mark": (
        lambda text: b"\xef\xbb\xbf" + text.replace("S2,", "Sé,").encode("latin-1"),
        "line 4: text: expected UTF-8",
    ),
    "UTF-16": (lambda text: text.encode("utf-16"), "line 1: text: expected UTF-8"),
    "NUL": (lambda text: text.replace("S2,", "S\0,"), "line 4: text: expected letters.* 0x00"),
    "empty": (lambda text: "", "columns: expected a line with their names: subject, eeg.* found an empty table"),
    "comments only": (lambda text: "# a\n\n# b", "found an empty table"),
    "no trials": (lambda text: text.split("\n")[0], "trials: expected a line for each trial below"),
    "unknown column": (
        lambda text: text.replace("unattended", "unatended"),
        "line 1: column: .*did you mean 'unattended'",
    ),
    "column twice": (
        lambda text: text.replace("unattended", "Attended"),
        "line 1: column 'attended': expected a name used",
    ),
    "column without name": (lambda text: text.replace("start", ""), "column 3: expected a name, found none"),
    "no header": (lambda text: text.split("\n", 1)[1], "line 1: columns: expected subject.* found no subject, eeg"),
    "spaces as separator": (lambda text: text.replace(",", " "), "line 1: columns: expected .*separated by commas"),
    "too few cells": (
        lambda text: text.replace(",speech/b1.wav\n", "\n"),
        "line 2: cells: expected 5, one a column, found 4",
    ),
    "too many cells": (lambda text: text.replace("edf,1.0,", "edf,1,5,"), "line 2: cells: .*found 6 .a decimal comma"),
    "open quote": (lambda text: text.replace("S1,", '"S1,', 1), "line 2: cells: expected quotes that are closed"),
    "open quote in the first line": (lambda text: '"' + text, "line 1: cells: expected quotes"),
    "no subject": (lambda text: text.replace("S1,", ",", 1), "line 2: subject: expected a name, found none"),
    "no eeg": (lambda text: text.replace("eeg/S1.edf,", ",", 1), "line 2: eeg: expected a file, found none"),
    "no attended": (
        lambda text: text.replace("0,speech/a1.wav", "0,"),
        "line 2: attended: expected a file, found none",
    ),
    "eeg is not there": (
        lambda text: text.replace("S1.edf", "S9.edf", 1),
        "line 2: eeg: expected a file below .* no 'eeg/S9",
    ),
    "eeg of another case": (lambda text: text.replace("S1.edf", "s1.EDF", 1), r"no 'eeg/s1.EDF' \(there is 'S1.edf'\)"),
    "backslashes": (lambda text: text.replace("eeg/", "eeg\\", 1), "line 2: eeg: .*use / between folders"),
    "path of a thousand signs": (
        lambda text: text.replace("eeg/", "e" * 1000, 1),
        "line 2: eeg: expected a file below",
    ),
    "path is the folder": (lambda text: text.replace("eeg/S1.edf", ".", 1), "line 2: eeg: expected a file below"),
    "same sound twice": (
        lambda text: text.replace("b1.wav", "./a1.wav", 1),
        "line 2: unattended: expected another sound",
    ),
    "subject too long": (lambda text: text.replace("S1,", "S" * 101 + ",", 1), "line 2: subject: expected at most 100"),
    "two subjects in a file": (
        lambda text: text.replace("S1,", "S3,", 1),
        "line 3: subject: expected 'S3', as in line 2 for S1.edf, found 'S1'",
    ),
    "trial twice": (
        lambda text: text + text.split("\n")[1],
        "line 6: start: expected a trial given once, found 1 s in S1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", [*REFUSED])
def test_tables_are_refused_by_line_and_column(tmp_path: Path, how: str) -> None:
    change, message = REFUSED[how]
    path = with_text(tmp_path, change)
    with pytest.raises(BadInput, match=message) as refusal:
        source(tmp_path, PLACED)
    assert str(path) in str(refusal.value)
    assert refusal.match(message) and any(path.name in line for line in check(tmp_path, PLACED))


@pytest.mark.parametrize("column", ["start", "duration", "eeg_rate", "feature_rate"])
@pytest.mark.parametrize(
    "text", ["-1", "nan", "NaN", "inf", "-inf", "1e999", "1_0", "0x10", "１", "1 s", "0:30", "--1", ".", "1e", "+"]
)
def test_what_is_no_number_is_refused(tmp_path: Path, column: str, text: str) -> None:
    rows = write_folder(tmp_path)
    rows[1][column] = text
    path = write_table(tmp_path, rows)
    unit = "Hz, 1 to" if column.endswith("rate") else "seconds, 0 or more"
    assert f"{path}, line 3: {column}: expected {unit}" in problems(tmp_path)


def test_a_decimal_comma_is_refused_with_a_hint(tmp_path: Path) -> None:
    for change in (lambda t: t.replace("edf,1.0,", 'edf,"1,5",'), lambda t: t.replace('"1,5"', "1.5")):
        path = with_text(tmp_path, change)
    assert check(tmp_path, PLACED) == []
    text = path.read_text().replace(",", ";").replace("1.5", "1,5")
    path.write_text(text)
    assert (
        "line 2: start: expected seconds, 0 or more, with a decimal point, found '1,5' (a decimal comma?)"
        in problems(tmp_path)
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ear": "lft"}, "line 3: ear: expected one of left, right, found 'lft' .did you mean 'left'"),
        ({"part": "validation"}, "line 3: part: expected one of test, train, valid"),
        ({"eeg_unit": "nV"}, "line 3: eeg_unit: expected one of V, mV, uV"),
        ({"id": "a/b"}, "line 3: id: expected a name of letters, digits"),
        ({"id": "S1-1"}, "line 3: id: expected a name used once, found 'S1-1', as in line 2"),
        ({"duration": "0"}, "line 3: duration: expected more than 0 s, or none, found '0'"),
        ({"duration": "10.1"}, "line 3: duration: expected at most 10.000 s, as the attended sound lasts"),
        ({"start": "22"}, "line 3: start|line 3: duration"),
        ({"start": "23"}, "line 3: start: expected before the EEG's end, 23.000 s, found 23 s"),
        ({"start": "1e300"}, "line 3: start: expected before the EEG's end"),
        ({"start": "15", "duration": 9}, "line 3: duration: expected at most 8.000 s, as the EEG lasts from the start"),
        (
            {"unattended": "", "speaker_unattended": "Ben"},
            "speaker_unattended: expected none, for there is no unattended",
        ),
        ({"language": "x" * 101}, "language: expected at most 100 characters"),
        ({"eeg_rate": "256"}, "eeg_rate: expected none, as in line 2 for S1.edf, found 256"),
        ({"eeg_unit": "uV"}, "line 3: eeg_unit: expected none, as in line 2"),
        (
            {"attended": "speech/a1.wav", "speaker_attended": "Ben"},
            "line 3: speaker_attended: expected none, as in line 2",
        ),
        ({"attended": "trials.csv"}, r"line 3: attended: .*suffix: expected \.wav or \.flac, found \.csv"),
        ({"attended": "speech"}, "line 3: attended: .*suffix"),
        ({"eeg": "speech/a1.wav"}, "line 3: eeg: .*a1.wav: content: expected an EEG file that MNE reads"),
        ({"eeg": "trials.csv"}, "line 3: eeg: .*trials.csv: content: expected an EEG file that MNE reads"),
        ({"eeg": "eeg"}, "line 3: eeg: "),
    ],
)  # fmt: skip
def test_cells_are_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    rows = write_folder(tmp_path)
    rows[1] |= change
    write_table(tmp_path, rows)
    with pytest.raises(BadInput, match=message):
        source(tmp_path, PLACED)


def test_what_the_files_say_and_the_table_says_has_to_agree(tmp_path: Path) -> None:
    rows = write_folder(tmp_path)
    for given, message in (
        ({"eeg_rate": 256}, "eeg_rate: expected 128.0, as the file says"),
        ({"eeg_unit": "V"}, "none"),
    ):
        write_table(tmp_path, [row | given for row in rows])
        with pytest.raises(BadInput, match=message):
            source(tmp_path, PLACED)
    write_table(tmp_path, [row | {"eeg_rate": 128} for row in rows])
    assert check(tmp_path, PLACED) == []


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    rows = write_folder(tmp_path)
    many = [row | {"start": -number, "id": f"t{number}"} for number in range(1, 9) for row in rows[:2]]
    path = write_table(tmp_path, [*many, {**rows[0], "eeg": "gone.edf"}])
    found = check(tmp_path, PLACED)
    assert len(found) == 17 and found[-1].startswith(f"{path}, line 18: eeg")
    with pytest.raises(BadInput) as refusal:
        source(tmp_path, PLACED)
    told = str(refusal.value).splitlines()
    assert told[0].endswith("trials: expected no problem, found 17:") and told[-1] == "  and 7 more"
    assert len(told) == 12 and [line.strip() for line in told[1:-1]] == found[:10]


def test_what_is_unusual_is_told(tmp_path: Path) -> None:
    rows = write_folder(tmp_path)
    rows[1]["start"] = 5
    write_sound(tmp_path / "speech" / "b2.wav", noise(40 * SOUND) / 10, 2 * SOUND)
    rows[3]["start"] = 20
    write_edf(tmp_path / "eeg" / "S2.edf", 20 * noise(6, 30 * 256), 256, NAMES)
    write_table(tmp_path, rows)
    told = notes(tmp_path, PLACED)
    assert told[0].startswith("trials of S1.edf overlap") and "6.000 s of line 2 in line 3" in told[0]
    assert "line 3 by 10.000 s, line 5 by 10.000 s" in told[1]
    assert told[2:] == ["EEG files of 2 rates: 128 Hz, 256 Hz", "sounds of 2 rates: 8000 Hz, 16000 Hz"]


# Signals.


@pytest.mark.parametrize(
    "change, message",
    [
        ({"montage": ""}, "S1.edf: places of sensors: expected known .set montage=.*found none in the file of Fz, Cz"),
        ({"montage": "easycap-M2"}, "settings: montage: expected one of .*did you mean 'easycap-M1'"),
        ({"montage": "biosemi128"}, "none in the template biosemi128 of Fz, Cz, Pz, Oz"),
        ({"exclude": "Fp1"}, "settings: exclude: expected one of .*found 'fp1'"),
        ({"exclude": ",".join(NAMES)}, "EEG channels: expected one that all files have, not a reference, found none"),
        ({"references": "M1"}, "settings: references: .*S1.edf: channel: expected one of .*found 'M1'"),
        ({"trials": "../trials.csv"}, "settings: trials: expected the name of a file"),
        ({"trials": ""}, "trials"),
        ({"trials": "other.csv"}, "other.csv: file: expected the table of trials"),
        ({"channels": "montage", "montage": ""}, "settings: montage: expected the template whose order"),
    ],
)
def test_settings_are_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    write_folder(tmp_path)
    with pytest.raises(BadInput, match=message):
        source(tmp_path, replace(PLACED, **change))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="did you mean 'montage'"):
        settled(FolderSteps, {"montagee": "x"}, "folder")
    with pytest.raises(BadInput, match="folder: expected a folder with a table"):
        source(tmp_path / "nowhere", PLACED)


def test_places_of_the_files_are_taken_unless_a_template_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, suffix=".fif")
    own = source(tmp_path, FolderSteps()).sensors
    np.testing.assert_allclose(own.positions, source(tmp_path, PLACED).sensors.positions, atol=1e-6)
    write_fif(tmp_path / "eeg" / "S1.fif", 20 * noise(6, 23 * RATE), RATE, NAMES, placed=False)
    with pytest.raises(BadInput, match="places of sensors"):
        source(tmp_path, FolderSteps())


def test_files_of_other_sensors_are_refused_or_their_common_ones_taken(tmp_path: Path) -> None:
    write_folder(tmp_path)
    names = ("Oz", "cz", "Fz", "P3")
    eeg = 20 * noise(4, 23 * RATE)
    write_edf(tmp_path / "eeg" / "S2.edf", eeg, RATE, names)
    with pytest.raises(BadInput, match=r"line 4: eeg: .*S2.edf: channels: .*found no Pz, C3, C4; P3 too"):
        source(tmp_path, PLACED)
    found = source(tmp_path, replace(PLACED, sensors="common"))
    assert found.sensors.names == ("Fz", "Cz", "Oz") and found.notes == (
        "channels that not all EEG files have, left out: Pz, C3, C4, P3",
    )
    np.testing.assert_allclose(takes(found)[2].eeg.read(0, 500), eeg[[2, 1, 0], :500], atol=0.1)
    write_edf(tmp_path / "eeg" / "S2.edf", 20 * noise(7, 23 * RATE), RATE, (*NAMES, "EXG1"))
    assert source(tmp_path, replace(PLACED, exclude="exg1")).sensors.names == NAMES


def test_references_follow_the_sensors(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw")
    found = source(tmp_path / "raw", replace(PLACED, references="oz, Fz"))
    assert (found.sensors.names, found.references) == (NAMES[1:5], ("Oz", "Fz"))
    eeg = takes(found)[0].eeg.read(0, 400)
    raw = takes(source(tmp_path / "raw", PLACED))[0].eeg.read(0, 400)
    np.testing.assert_array_equal(eeg, raw[[1, 2, 3, 4, 5, 0]])
    store = prepared(folder(), tmp_path / "raw", tmp_path / "store", references="Oz,Fz", reference="electrodes")
    assert len(store.index.sensors) == 4


def test_channels_of_one_name_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_fif(tmp_path / "eeg" / "S1.fif", 20 * noise(3, 23 * RATE), RATE, ("Fz", "Cz", "CZ"), placed=False)
    with_text(tmp_path, lambda text: text.replace("S1.edf", "S1.fif"))
    with pytest.raises(BadInput, match="S1.fif: channels: expected names used once, found cz more than once"):
        source(tmp_path, replace(PLACED, sensors="common"))


def bare(home: Path, **told: object) -> Path:
    """One trial, of numbers in an array."""
    home.mkdir(exist_ok=True)
    write_npy(home / "a.npy", 20 * noise(64, 20 * RATE), RATE)
    write_sound(home / "a.wav", noise(10 * SOUND) / 10)
    write_table(home, [{"subject": "x", "eeg": "a.npy", "start": 1, "attended": "a.wav"} | told])
    return home


def test_bare_numbers_need_rate_unit_names_and_places(tmp_path: Path) -> None:
    named = replace(PLACED, montage="biosemi64", channels="montage")
    for told, steps, message in (
        ({"eeg_unit": "uV"}, named, "eeg_rate: expected its rate in Hz in this column, found none"),
        ({"eeg_rate": 128}, named, "eeg_unit: expected one of V, mV, uV in this column, found none"),
        (
            {"eeg_rate": 128, "eeg_unit": "uV"},
            PLACED,
            "channels: expected 64 names in the setting channels, .*found none",
        ),
        (
            {"eeg_rate": 128, "eeg_unit": "uV"},
            replace(PLACED, channels="Fz,Cz"),
            "channels: expected 64 names .*for the file has none, found 2",
        ),
    ):
        with pytest.raises(BadInput, match=f"line 2: eeg: .*a.npy: {message}"):
            source(bare(tmp_path, **told), steps)
    found = source(bare(tmp_path, eeg_rate=128, eeg_unit="µV"), named)
    assert len(found.sensors) == 64 and found.sensors.names[0] == "Fp1"


@pytest.mark.parametrize(
    "array",
    [noise(2000), noise(2000, 64), noise(64, 20, 30), noise(64, 0), noise(6, 2000) > 0, noise(6, 2000) + 1j]
    + [np.array([["a"] * 200]), np.array({"a": 1}, dtype=object)],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_are_no_eeg_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    bare(tmp_path, eeg_rate=128, eeg_unit="uV")
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadInput, match="line 2: eeg: .*a.npy: content: expected (numbers|an array)"):
        source(tmp_path, PLACED)
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=array)
    with pytest.raises(BadInput, match="a.npy: content: expected one array"):
        source(tmp_path, PLACED)


def test_hdf5_says_itself_what_it_holds(tmp_path: Path) -> None:
    rows = write_folder(tmp_path, suffix=".h5")
    eeg = 20 * noise(6, 23 * RATE)
    for attributes, told, message in (
        ({"rate": None}, {}, "eeg_rate: expected its rate"),
        ({"unit": None}, {}, "eeg_unit: expected one of"),
        ({"names": None}, {}, "channels: expected 6 names"),
        ({"names": ["Fz"]}, {}, "names: expected 6, one a channel, found 1"),
        ({}, {"eeg_rate": 64}, "eeg_rate: expected 128.0, as the file says"),
        ({}, {"eeg_unit": "V"}, "eeg_unit: expected uV, as the file says"),
        ({"rate": 0.0}, {}, "rate: expected 1 to 1,000,000 Hz"),
    ):
        write_table(tmp_path, [row | told for row in rows])
        write_hdf5(tmp_path / "eeg" / "S1.h5", eeg, RATE, **attributes)
        with pytest.raises(BadInput, match=message):
            source(tmp_path, PLACED)
    write_table(tmp_path, [row | {"eeg_rate": 128, "eeg_unit": "µV"} for row in rows])
    write_hdf5(tmp_path / "eeg" / "S1.h5", eeg, RATE, rate=None, unit=None)
    assert check(tmp_path, PLACED) == []


@pytest.mark.parametrize("unit, found", [("", "n/a"), ("nV", "nV")])
def test_files_of_no_unit_are_refused(tmp_path: Path, unit: str, found: str) -> None:
    write_folder(tmp_path)
    write_edf(tmp_path / "eeg" / "S1.edf", 20 * noise(6, 23 * RATE), RATE, NAMES, unit=unit)
    with pytest.raises(BadInput, match=f"line 2: eeg: .*S1.edf: unit of 'Fz': expected V, .*found '{found}'"):
        source(tmp_path, PLACED)


def test_sound_of_two_channels_is_refused_unless_told(tmp_path: Path) -> None:
    write_folder(tmp_path)
    sound = noise(10 * SOUND, 2) / 10
    write_sound(tmp_path / "speech" / "a1.wav", sound)
    with pytest.raises(BadInput, match=r"line 2: attended: .*a1.wav: channels: expected one \(or set stereo=mean"):
        source(tmp_path, PLACED)
    for stereo, expected in (("left", sound[:, 0]), ("right", sound[:, 1]), ("mean", sound.mean(axis=1))):
        take = takes(source(tmp_path, replace(PLACED, stereo=stereo)))[0]  # type: ignore[arg-type]
        np.testing.assert_allclose(take.attended.open().read(0, 500)[0], expected[:500], atol=1e-4)


def test_a_copy_of_the_attended_sound_is_not_another(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "speech" / "b1.wav").write_bytes((tmp_path / "speech" / "a1.wav").read_bytes())
    assert "line 2: unattended: expected another sound than the attended one, found a copy of a1.wav" in problems(
        tmp_path
    )


@pytest.mark.parametrize("name", ["eeg/S1.edf", "eeg/S1.bdf", "speech/a1.wav"])
@pytest.mark.parametrize("left", [0.0, 0.001, 0.5, 0.999])
def test_files_that_are_cut_short_are_refused(tmp_path: Path, name: str, left: float) -> None:
    write_folder(tmp_path, suffix=".bdf" if name.endswith("bdf") else ".edf")
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * left)])
    with pytest.raises(BadInput, match="length: expected|content: expected|length: .*as its header says"):
        source(tmp_path, PLACED)


def test_brainvision_files_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, suffix=".vhdr")
    eeg = 20 * noise(6, 23 * RATE)
    write_brainvision(tmp_path / "eeg" / "S1.vhdr", eeg, RATE, NAMES, points=23 * RATE)
    assert check(tmp_path, PLACED) == []
    content = (tmp_path / "eeg" / "S1.eeg").read_bytes()
    (tmp_path / "eeg" / "S1.eeg").write_bytes(content[:-24])
    with pytest.raises(BadInput, match="DataPoints: expected 2943, as S1.eeg has, found 2944"):
        source(tmp_path, PLACED)
    write_brainvision(tmp_path / "eeg" / "S1.vhdr", eeg, RATE, NAMES)
    (tmp_path / "eeg" / "S1.eeg").write_bytes(content[:-10])
    with pytest.raises(BadInput, match="S1.eeg: length: expected a multiple of 24 bytes"):
        source(tmp_path, PLACED)
    (tmp_path / "eeg" / "S1.eeg").unlink()
    with pytest.raises(BadInput, match="line 2: eeg: .*S1.vhdr: content"):
        source(tmp_path, PLACED)


@pytest.mark.parametrize(
    "feature, told, message",
    [
        (noise(1, 640), {}, "feature_rate: expected samples a second"),
        (noise(640, 1), {"feature_rate": 64}, r"shape: expected \[1, samples\]"),
        (noise(2, 640), {"feature_rate": 64}, r"shape: expected \[1, samples\], or \[samples\], found \[2, 640\]"),
        (noise(1, 640) + 1j, {"feature_rate": 64}, "shape: expected numbers"),
        (noise(1, 0), {"feature_rate": 64}, "shape: expected"),
        (noise(1, 640), {"feature_rate": 64, "unattended": "e.wav"}, r"suffix: expected \.npy, found \.wav"),
    ],
)
def test_features_are_refused(tmp_path: Path, feature: np.ndarray, told: dict[str, object], message: str) -> None:
    write_folder(tmp_path)
    np.save(tmp_path / "e.npy", feature)
    write_sound(tmp_path / "e.wav", noise(10 * SOUND) / 10)
    write_table(tmp_path, [{"subject": "x", "eeg": "eeg/S1.edf", "start": 0, "attended": "e.npy"} | told])
    with pytest.raises(BadInput, match=message):
        source(tmp_path, PLACED, "envelope")


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    import resource

    rows: Rows = []
    for number in range(100):
        np.save(tmp_path / f"{number}.npy", 20 * noise(6, 640, seed=number))
        np.save(tmp_path / f"e{number}.npy", noise(320, seed=number))
        row: dict[str, object] = {"subject": "x", "eeg": f"{number}.npy", "start": 0, "attended": f"e{number}.npy"}
        rows.append(row | {"eeg_rate": 64, "eeg_unit": "uV", "feature_rate": 64})
    write_table(tmp_path, rows)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 40, before[1]))
    try:
        found = source(tmp_path, replace(PLACED, channels=",".join(NAMES), high_pass=0.0), "envelope")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(found.items) == 100


def test_mels_have_as_many_bands_everywhere(tmp_path: Path) -> None:
    write_folder(tmp_path)
    row = {"subject": "x", "eeg": "eeg/S1.edf", "feature_rate": 64}
    for name, bands in (("a", 10), ("b", 28)):
        np.save(tmp_path / f"{name}.npy", noise(bands, 640))
    write_table(tmp_path, [row | {"start": 0, "attended": "a.npy"}, row | {"start": 11, "attended": "b.npy"}])
    with pytest.raises(BadInput, match="line 3: attended: expected 10 bands, as a.npy has, found 28"):
        source(tmp_path, PLACED, "mel")
    assert "line 3: attended" in problems(tmp_path)


def test_eeg_that_is_too_short_for_the_filters_is_told_before(tmp_path: Path) -> None:
    write_folder(tmp_path, seconds=1.5)
    assert "line 2: duration: expected EEG of 6.617 s with what is around it, for the filters (or set high_pass=0)" in (
        problems(tmp_path)
    )
    steps = replace(PLACED, high_pass=0.0)
    assert check(tmp_path, steps) == []
    prepared(folder(), tmp_path, tmp_path / "store", high_pass=0)


@pytest.mark.parametrize("samples", [844, 845, 846, 847, 848])
def test_what_check_passes_is_long_enough_for_the_filters(tmp_path: Path, samples: int) -> None:
    write_folder(tmp_path / "raw")
    row = {"subject": "x", "start": 0, "attended": "speech/a1.wav"}
    write_npy(tmp_path / "raw" / "x.npy", 20 * noise(6, samples), RATE)
    write_table(tmp_path / "raw", [row | {"eeg": "x.npy", "eeg_rate": RATE, "eeg_unit": "uV"}])
    given = {"channels": ",".join(NAMES)}
    if not check(tmp_path / "raw", replace(PLACED, **given)):  # type: ignore[arg-type]
        assert samples >= 847
        prepared(folder(), tmp_path / "raw", tmp_path / "store", **given)
    else:
        assert samples < 847


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", suffix=".vhdr")
    eeg = 20 * noise(6, 23 * RATE)
    eeg[2, 1000] = np.nan
    write_brainvision(tmp_path / "raw" / "eeg" / "S2.vhdr", eeg, RATE, NAMES)
    with pytest.raises(BadInput, match="EEG|samples"):
        prepared(folder(), tmp_path / "raw", tmp_path / "store")
    write_brainvision(tmp_path / "raw" / "eeg" / "S2.vhdr", 20 * noise(6, 23 * RATE), RATE, NAMES)
    sound = noise(10 * SOUND) / 10
    sound[70_000] = np.inf
    write_sound(tmp_path / "raw" / "speech" / "a1.wav", sound, subtype="FLOAT")
    with pytest.raises(BadInput, match="audio: expected finite samples"):
        prepared(folder(), tmp_path / "raw", tmp_path / "store2")


# What a folder begins with.


def test_the_template_is_a_table_of_known_columns_that_check_finds_no_files_of(tmp_path: Path) -> None:
    paths = write_template(tmp_path / "new")
    assert [path.name for path in paths] == ["trials.csv", "README.txt"]
    told = check(tmp_path / "new", PLACED)
    assert len(told) == 12 and all(": expected a file below" in line for line in told)
    readme = paths[1].read_text()
    assert all(column in readme for column in COLUMNS)
    with pytest.raises(BadInput, match="trials.csv: file: expected none of that name"):
        write_template(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="folder: expected one that can be written to"):
        write_template(tmp_path / "file" / "new")


def test_the_template_becomes_a_store_when_its_files_are_there(tmp_path: Path) -> None:
    write_template(tmp_path / "raw")
    (tmp_path / "raw" / "eeg").mkdir()
    for name in ("S01", "S02"):
        write_edf(tmp_path / "raw" / "eeg" / f"{name}.edf", 20 * noise(6, 140 * RATE), RATE, NAMES)
    for number, name in enumerate(("a1", "a2", "b1", "b2")):
        write_sound(tmp_path / "raw" / "speech" / f"{name}.wav", noise(61 * SOUND, seed=number) / 10)
    store = prepared(folder(), tmp_path / "raw", tmp_path / "store")
    assert len(store.trials) == 4 and {speech.story for speech in store.stimuli.values()} == {"story A", "story B"}


# Damage.


def tiny(home: Path, suffix: str) -> FolderSteps:
    """Two trials of a second, in files of a few kilobytes."""
    (home / "eeg").mkdir(parents=True)
    WRITERS[suffix](home / "eeg" / f"x{suffix}", 20 * noise(3, 3 * 32), 32, NAMES[:3])
    for number in (1, 2):
        write_sound(home / f"s{number}.wav", noise(500, seed=number) / 10, 500)
    rate = {"eeg_rate": 32, "eeg_unit": "uV"} if suffix == ".npy" else {}
    about = {"subject": "Jo, the first", "eeg": f'"eeg/x{suffix}"', "ear": "left", "language": "de"} | rate
    write_table(
        home,
        [
            about | {"subject": '"Jo"', "start": 0.25, "attended": "s1.wav", "unattended": "s2.wav", "duration": 0.5},
            about | {"subject": '"Jo"', "start": "1.5", "attended": "s2.wav", "unattended": "s1.wav"},
        ],
    )
    names = ",".join(NAMES[:3]) if suffix == ".npy" else ""
    return FolderSteps(montage="easycap-M1", channels=names, high_pass=0.0, reference="none", eeg_rate=32)


def read_or_refused(home: Path, steps: FolderSteps) -> bool:
    """Whether everything could be read; what is read is as it says that it is."""
    try:
        found = takes(source(home, steps))
        for take in found:
            assert 0 <= take.start < take.eeg.samples / take.eeg.rate and 1 <= take.eeg.rate <= 1e6
            assert take.eeg.channels == take.eeg.read(0, take.eeg.samples).shape[0]
            assert take.eeg.read(0, take.eeg.samples).shape[1] == take.eeg.samples
            for speech in filter(None, (take.attended, take.unattended)):
                sound = speech.open()
                assert sound.read(0, sound.samples).shape == (1, sound.samples)
    except BadInput as refusal:
        assert refusal.where and refusal.field and refusal.expected and refusal.found
        return False
    return True


def fuzzed(home: Path, suffix: str, name: str, count: int, seed: int) -> tuple[int, int]:
    """How many damaged versions of a file are read, and how many refused."""
    steps = tiny(home, suffix)
    assert read_or_refused(home, steps)
    content = (home / name).read_bytes()
    outcomes = [0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in damaged(content, count, seed):
            (home / name).write_bytes(case)
            outcomes[read_or_refused(home, steps)] += 1
    (home / name).write_bytes(content)
    assert read_or_refused(home, steps)
    return outcomes[1], outcomes[0]


DAMAGED = {
    "trials.csv": (".npy", 700),
    "eeg/x.npy": (".npy", 400),
    "eeg/x.edf": (".edf", 250),
    "eeg/x.bdf": (".bdf", 100),
    "eeg/x.vhdr": (".vhdr", 250),
    "eeg/x.eeg": (".vhdr", 50),
    "eeg/x.vmrk": (".vhdr", 50),
    "s1.wav": (".npy", 400),
}


@pytest.mark.parametrize("name", [*DAMAGED])
def test_damage_is_refused_or_read(tmp_path: Path, name: str) -> None:
    """2,200 cases; 400 more below."""
    suffix, count = DAMAGED[name]
    read, refused = fuzzed(tmp_path / "raw", suffix, name, count, 1)
    assert read + refused == count and refused >= (0 if name.endswith("vmrk") else count // 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DAMAGED])
def test_much_damage_is_refused_or_read(tmp_path: Path, name: str) -> None:
    suffix, count = DAMAGED[name]
    fuzzed(tmp_path / "raw", suffix, name, 4 * count, 2)


def test_cells_with_anything_in_them_are_refused_or_read(tmp_path: Path) -> None:
    """400 tables whose text is whole."""
    steps = tiny(tmp_path / "raw", ".npy")
    path, rng = tmp_path / "raw" / "trials.csv", np.random.default_rng(4)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    read = 0
    for _ in range(400):
        changed = [[*line] for line in lines]
        for _ in range(rng.integers(1, 3)):
            line = changed[rng.integers(len(changed))]
            line[rng.integers(len(line))] = ODD[rng.integers(len(ODD))]
        path.write_text("\n".join(",".join(line) for line in changed), encoding="utf-8")
        read += read_or_refused(tmp_path / "raw", steps)
    assert 0 < read < 300


ODD = [
    "",
    "0",
    "1",
    "0.75",
    "-1",
    "1e9",
    "1e999",
    "nan",
    "inf",
    "x",
    '"',
    '""',
    '"x""y"',
    "../s1.wav",
    "/",
    ".",
    "s1.wav",
]
ODD += [
    "s2.wav",
    "eeg/x.npy",
    "trials.csv",
    "left",
    "test",
    "V",
    "#",
    "é",
    "a b",
    "\u2028",
    "start",
    "subject",
    "32",
    "\\",
]
ODD += ["x" * 5000, "\ufeff", "１", "1,5", "=1+1", "~", "*", "con", "%s", "{}"]


# The whole way.


def envelopes(count: int, seconds: float) -> np.ndarray:
    """Slow and positive, as those of speech; at the EEG's rate."""
    kernel = np.hanning(RATE // 4)
    waves = noise(count, round(seconds * RATE), seed=5)
    return np.stack([np.abs(np.convolve(wave, kernel, "same")) for wave in waves])


def follow(home: Path, subjects: int = 4, pairs: int = 5, seconds: float = 15.0) -> None:
    """EEG follows the envelope of the attended speech by 100 ms; even subjects attend to the second talker first."""
    loudness, rows = envelopes(2 * pairs, seconds), []
    (home / "eeg").mkdir(parents=True)
    for number, envelope in enumerate(loudness):
        time = np.arange(round(seconds * SOUND)) / SOUND
        loud = np.interp(time * RATE, np.arange(len(envelope)), envelope / envelope.max())
        write_sound(home / f"{number}.wav", 0.1 * loud * noise(len(time), seed=100 + number))
    weights = noise(len(NAMES), seed=6)[:, None]
    for subject in range(subjects):
        eeg = 15 * noise(len(NAMES), round((pairs * (seconds + 1) + 1) * RATE), seed=200 + subject)
        for pair in range(pairs):
            both = [2 * pair, 2 * pair + 1]
            attended, other = both if (subject + pair) % 2 else both[::-1]
            start = 1 + pair * (seconds + 1)
            begin = round((start + 0.1) * RATE)
            eeg[:, begin : begin + loudness.shape[1]] += weights * 10 * loudness[attended] / loudness.std()
            about = {"subject": f"S{subject}", "eeg": f"eeg/S{subject}.bdf", "start": start}
            rows.append(about | {"attended": f"{attended}.wav", "unattended": f"{other}.wav"})
        write_edf(home / "eeg" / f"S{subject}.bdf", eeg, RATE, NAMES)
    write_table(home, rows)


def leaderboard(home: Path, protocol: str, *systems: str) -> tuple[dict[tuple[str, str], Any], str]:
    """Means by system and control, and the page."""
    from eeg2speech.evaluation.run import run_suite
    from eeg2speech.evaluation.suite import Machine, Suite
    from eeg2speech.report import render_leaderboard

    follow(home / "raw")
    assert check(home / "raw", PLACED) == []
    store = prepared(folder(), home / "raw", home / "store", title="ours")
    about: dict[str, Any] = {"studies": [str(store.root)], "splits": ["stimulus"], "systems": [*systems]}
    suite = Suite(name="ours", protocol=protocol, controls=["true_eeg", "noise_cue"], **about)
    machine = Machine(jobs=1, device="cpu", progress=False)
    records = run_suite(suite, home / "out", machine, lambda line: None).read_all()
    found = {(record.system.name, record.control): record.metrics for record in records}
    return found, render_leaderboard(home / "out" / "records", home / "leaderboard.md")


def test_from_a_folder_to_a_leaderboard(tmp_path: Path) -> None:
    found, page = leaderboard(tmp_path, "folder-retrieval-1", "ridge_envelope", "retrieval_chance")
    assert found["ridge_envelope", "true_eeg"]["attention_accuracy"].mean > 0.9
    assert found["ridge_envelope", "noise_cue"]["attention_accuracy"].mean < 0.75
    assert "| ridge_envelope |" in page and "one's own EEG and speech" in page


@pytest.mark.slow
def test_the_talker_attended_to_is_extracted_from_a_folder(tmp_path: Path) -> None:
    found, _ = leaderboard(tmp_path, "folder-1", "mtrf_select_true_sources", "mixture")
    assert found["mtrf_select_true_sources", "true_eeg"]["selection_accuracy"].mean > 0.9
    assert found["mtrf_select_true_sources", "noise_cue"]["selection_accuracy"].mean < 0.75
