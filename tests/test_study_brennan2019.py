"""The adapter of Brennan & Hale 2019 on files written here: where speech begins in the EEG, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fuzz import damaged
from scipy import io
from study_brennan2019_files import (
    HEADER,
    LABELS,
    RATE,
    SENSORS,
    SOUND,
    Row,
    cell,
    noise,
    proc,
    raw,
    spread,
    trl,
    without,
    words,
    write_brainvision,
    write_proc,
    write_raw,
    write_sounds,
    write_study,
    write_table,
)

from eeg2speech.data.preparation.mne_blocks import MneBlocks
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Source, Take
from eeg2speech.data.preparation.steps import settled
from eeg2speech.data.studies.brennan2019 import FACTS, SUBJECTS, Brennan2019Steps, brennan2019, source
from eeg2speech.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:brennan2019:UserWarning")
ROWS = words(segments=2)
STARTS = spread(ROWS)
LENGTH = STARTS[2] + 1000


def found(root: Path, **given: Any) -> Source:
    return source(root, settled(Brennan2019Steps, given, "brennan2019"))


def takes(root: Path, item: int = 0, **given: Any) -> list[Take]:
    return list(found(root, **given).items[item].takes())


def eeg_of(take: Take) -> np.ndarray:
    return np.asarray(take.eeg.read(0, take.eeg.samples))


def starts(root: Path, **given: Any) -> list[float]:
    """Where segments begin, in samples."""
    return [take.start * RATE for take in takes(root, **given)]


def study(root: Path, rows: list[Row] = ROWS, **made: Any) -> Path:
    """One person; ``proc``, ``raw``, ``eeg`` and ``table`` replace what is usual."""
    write_raw(root, made.get("raw") or raw(made.get("eeg", noise(62, LENGTH))))
    write_proc(root / "proc", made.get("proc") or proc(trl(rows, STARTS)))
    write_table(root, made.get("table", rows))
    write_sounds(root / "audio", 2.0, (1, 2))
    return root


@pytest.mark.parametrize("release, exactly", [("v1", 0), ("v2", 1e-4)])
def test_segments_begin_where_their_words_say(tmp_path: Path, release: str, exactly: float) -> None:
    write_study(tmp_path, subjects=(3, 1, 10), segments=12, release=release)
    source = found(tmp_path)
    assert [item.id for item in source.items] == ["S01", "S03", "S10"]
    assert source.sensors.names == tuple(SENSORS) and source.references == ()
    places = dict(zip(montage("easycap-M10").names, montage("easycap-M10").positions, strict=True))
    assert source.sensors.positions == tuple(places[name] for name in SENSORS)
    made, expected = list(source.items[1].takes()), spread(words(12))
    assert [take.id for take in made] == [f"S03_{k:02d}" for k in range(1, 13)]
    assert [take.start * RATE for take in made] == [expected[k] for k in range(1, 13)]
    for k, take in enumerate(made, 1):
        assert take.attended.key == f"SoundFile{k}" and take.unattended is None and take.ear == take.part == ""
        assert take.attended.story == "Alice's Adventures in Wonderland, chapter 1" and take.attended.language == "en"
        assert take.attended.open().rate == SOUND and take.bad == ("7", "12", "40")
    np.testing.assert_allclose(eeg_of(made[0]), noise(62, made[0].eeg.samples, seed=3)[:60], rtol=0, atol=exactly)


def test_files_that_are_read_are_named(tmp_path: Path) -> None:
    for release, kinds in (("v1", [".mat"]), ("v2", [".vhdr", ".eeg", ".vmrk"])):
        root = write_study(tmp_path / release, subjects=(1,), release=release)
        own = {root / f"S01{kind}" for kind in kinds} | {root / "proc" / "S01.mat", root / "AliceChapterOne-EEG.csv"}
        (item,) = found(root).items
        assert {*item.files} == own
        assert [take.attended.files for take in item.takes()] == [
            (root / "audio" / f"DownTheRabbitHoleFinal_SoundFile{k}.wav",) for k in (1, 2)
        ]


def test_epochs_taken_for_words_are_three_tenths_of_a_second_early(tmp_path: Path) -> None:
    early = np.array(starts(study(tmp_path), onset="epoch")) - starts(tmp_path)
    np.testing.assert_allclose(early, 1 - 150, atol=1)
    first = ROWS[0]["onset"]
    assert starts(tmp_path, onset="epoch")[0] == pytest.approx(trl(ROWS, STARTS)[0, 0] - first * RATE, abs=1)


def test_a_segment_that_begins_before_the_eeg_is_left_out_and_told(tmp_path: Path) -> None:
    near = {1: 100, 2: 100 + STARTS[2] - STARTS[1]}
    study(tmp_path, proc=proc(trl(ROWS, near)))
    assert starts(tmp_path) == [100, near[2]]
    assert [take.id for take in takes(tmp_path, onset="epoch")] == ["S01_02"]
    (told,) = [text for text in found(tmp_path, onset="epoch").missing if "before the EEG" in text]
    assert told.startswith("S01: no segment 1: it begins 0.09")


def test_words_are_found_by_order_wherever_they_are(tmp_path: Path) -> None:
    matrix = trl(ROWS, STARTS)
    mixed = np.random.default_rng(0).permutation(len(ROWS))
    columns = [0, 1, 2, 5, 3, 4]
    made = proc(matrix[mixed][:, columns], varnames=cell(["Order", "segment", "tmin"]).T)
    assert starts(study(tmp_path, proc=made, table=[ROWS[k] for k in mixed[::-1]])) == [STARTS[1], STARTS[2]]


def test_people_with_fewer_rows_are_told_and_their_segments_stay_in_place(tmp_path: Path) -> None:
    matrix = trl(ROWS, STARTS)
    study(tmp_path, proc=proc(matrix[[0, 2, 5, 6, 7]]))
    assert starts(tmp_path) == [STARTS[1], STARTS[2]]
    assert "S01: proc.trl has 5 of 8 words" in found(tmp_path).missing
    write_proc(tmp_path / "proc", proc(matrix[:4]))
    assert starts(tmp_path) == [STARTS[1]]
    assert "S01: no words of segments 2" in found(tmp_path).missing


def test_joining_by_row_wants_as_many_rows(tmp_path: Path) -> None:
    matrix = trl(ROWS, STARTS)[:, :5]
    nameless = partial(proc, varnames=cell(["segment", "tmin"]))
    study(tmp_path, proc=nameless(matrix))
    with pytest.raises(BadInput, match=r"proc.varnames: expected Order \(or --set join=row\)"):
        found(tmp_path)
    assert starts(tmp_path, join="row") == [STARTS[1], STARTS[2]]
    write_proc(tmp_path / "proc", nameless(matrix[:-1]))
    with pytest.raises(
        BadInput, match="expected 8 rows, as AliceChapterOne-EEG.csv has .or --set join=order., found 7"
    ):
        found(tmp_path, join="row")


def test_names_of_all_columns_are_taken_too(tmp_path: Path) -> None:
    names = ["start_sample", "stop_sample", "offset", "segment", "tmin", "Order"]
    assert starts(study(tmp_path, proc=proc(trl(ROWS, STARTS), varnames=cell(names)))) == [STARTS[1], STARTS[2]]


def test_a_start_may_lie_between_two_samples(tmp_path: Path) -> None:
    matrix = trl(ROWS, STARTS)
    matrix[2:4, 0] += 1
    assert starts(study(tmp_path, proc=proc(matrix))) == [STARTS[1] + 0.5, STARTS[2]]


def test_single_words_out_of_place_are_told_and_change_nothing(tmp_path: Path) -> None:
    rows = words(segments=2, each=12)
    places = spread(rows)
    matrix = trl(rows, places)
    matrix[3, 0] += 30
    write_study(tmp_path, subjects=(1,), each=12)
    write_proc(tmp_path / "proc", proc(matrix))
    assert starts(tmp_path) == [places[1], places[2]]
    told = "S01: 1 of 24 words lie elsewhere than their segment's others say, by 0.060 s at most"
    assert told in found(tmp_path).notes and found(tmp_path, tolerance=0.1).notes == ()


def shifted() -> np.ndarray:
    """The second segment has the trigger of the first."""
    return trl(ROWS, {1: STARTS[1], 2: STARTS[1] + 100})


def scattered() -> np.ndarray:
    matrix = trl(ROWS, STARTS)
    matrix[0, 0] += 30
    return matrix


DOUBTS = [
    (shifted, r"segment 2 begins 1.\d* s before the end of segment 1"),
    (lambda: trl(ROWS, {1: STARTS[2], 2: STARTS[1]}), r"segment 2 begins 4.\d* s before the end of segment 1"),
    (scattered, "1 of 4 words of segment 1 lie elsewhere than the others say"),
]


@pytest.mark.parametrize("matrix, told", DOUBTS)
def test_triggers_that_contradict_each_other(tmp_path: Path, matrix: Callable[[], np.ndarray], told: str) -> None:
    """As of S26, S34, S35 and S36."""
    write_study(tmp_path, subjects=(1, 26))
    write_proc(tmp_path / "proc", proc(matrix(), "S26"), "S26")
    usual = found(tmp_path)
    assert [item.id for item in usual.items] == ["S01"]
    (text,) = [text for text in usual.missing if text.startswith("S26")]
    assert re.fullmatch(f"S26 is left out: {told}", text)
    kept = found(tmp_path, triggers="keep")
    assert [item.id for item in kept.items] == ["S01", "S26"] and any(told[:15] in text for text in kept.notes)
    with pytest.raises(BadInput, match=f"S26.mat: proc.trl: expected segments one after the other, found {told}"):
        found(tmp_path, triggers="refuse")


def test_nobody_left_is_refused_with_the_reasons(tmp_path: Path) -> None:
    study(tmp_path, proc=proc(shifted()))
    with pytest.raises(BadInput, match=r"people: expected at least one .* S01 is left out: segment 2 begins"):
        found(tmp_path)
    with pytest.raises(BadInput, match="people: expected at least one with EEG and proc .brainmagick."):
        found(write_study(tmp_path / "x", subjects=(2,)), subjects="brainmagick")


def test_lists_of_people(tmp_path: Path) -> None:
    assert [len(SUBJECTS[name]) for name in ("paper", "brainmagick", "all")] == [33, 33, 42]
    assert len(SUBJECTS["paper"] & SUBJECTS["brainmagick"]) == 29 and SUBJECTS["paper"] < SUBJECTS["all"]
    write_study(tmp_path, subjects=(1, 2, 7, 26, 28))
    (tmp_path / "proc" / "S28.mat").unlink()
    for name, people in (("paper", [1, 26]), ("brainmagick", [1, 7]), ("all", [1, 2, 7, 26])):
        made = found(tmp_path, subjects=name)
        assert [item.id for item in made.items] == [f"S{k:02d}" for k in people]
        (told,) = [text for text in made.missing if text.startswith("no file in proc of")]
        assert "S28" in told and "S03" in told and "S01" not in told
        (told,) = [text for text in made.missing if text.startswith("no EEG of")]
        assert "S03" in told and "S28" not in told and "S02" not in told
    assert "subjects=paper leaves out S02, S07" in found(tmp_path).notes


def test_missing_files_are_told(tmp_path: Path) -> None:
    write_study(tmp_path, subjects=SUBJECTS["paper"], segments=12, release="v2", each=1)
    assert found(tmp_path).missing == ("AliceChapterOne-EEG.csv: 12 of 2129 words",)
    (tmp_path / "S05.vhdr").unlink()
    (tmp_path / "proc" / "S08.mat").unlink()
    (tmp_path / "audio" / "DownTheRabbitHoleFinal_SoundFile4.wav").unlink()
    assert found(tmp_path).missing == (
        "no EEG of S05",
        "no file in proc of S08, without which nobody knows what was heard when",
        "audio: no DownTheRabbitHoleFinal_SoundFileN.wav for N = 4",
        "AliceChapterOne-EEG.csv: 12 of 2129 words",
    )


def moved(root: Path, *places: tuple[str, str]) -> Path:
    for before, after in places:
        (root / after).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / before, root / after)
    return root


LAYOUTS: list[tuple[tuple[str, str], ...]] = [
    (("proc", "timelock-preprocessing"),),
    (("proc", "outer/proc"), ("outer", "proc"), ("audio", "inner/audio"), ("inner", "audio")),
    (("proc", "outer/timelock-preprocessing"), ("outer", "proc")),
    (("S01.mat", "eeg/S01.mat"), ("S03.mat", "eeg/S03.mat")),
    (
        ("S01.mat", "in/S01.mat"),
        ("S03.mat", "in/S03.mat"),
        ("audio", "in/audio"),
        ("proc", "in/proc"),
        ("AliceChapterOne-EEG.csv", "in/AliceChapterOne-EEG.csv"),
    ),
]


@pytest.mark.parametrize("places", LAYOUTS)
def test_files_may_lie_in_other_folders(tmp_path: Path, places: tuple[tuple[str, str], ...]) -> None:
    moved(write_study(tmp_path), *places)
    for litter in ("__MACOSX/proc", "__MACOSX", "proc/__MACOSX"):
        (tmp_path / litter).mkdir(parents=True, exist_ok=True)
        (tmp_path / litter / "S04.mat").write_bytes(b"x")
    (tmp_path / "._S05.mat").write_bytes(b"x")
    assert [item.id for item in found(tmp_path).items] == ["S01", "S03"]
    assert len(takes(tmp_path)) == 2 and takes(tmp_path)[0].attended.open().rate == SOUND


def test_two_releases_in_a_folder_have_to_be_chosen_from(tmp_path: Path) -> None:
    write_study(tmp_path)
    write_study(tmp_path, release="v2")
    with pytest.raises(BadInput, match=r"release: expected --set release=v1 \(SNN.mat\) or v2"):
        found(tmp_path)
    exact, close = (eeg_of(takes(tmp_path, release=name)[0]) for name in ("v1", "v2"))
    np.testing.assert_allclose(exact, close, rtol=0, atol=1e-4)
    (tmp_path / "S01.vhdr").unlink()
    (tmp_path / "S03.vhdr").unlink()
    with pytest.raises(BadInput, match="release: expected files of v2, found those of v1"):
        found(tmp_path, release="v2")


def bads(impedence: Any, rejections: Any) -> dict[str, Any]:
    return proc(trl(ROWS, STARTS), impedence={"bads": impedence}, rejections={"badchans": rejections})


NONE = np.zeros((0, 0))
BADS: list[tuple[Any, Any, tuple[str, ...]]] = [
    ("12", NONE, ("12",)),
    (NONE, "12", ("12",)),
    (cell(["12"]), cell([]), ("12",)),
    (cell(["30"]).T, cell(["2"]), ("2", "30")),
    (np.array(["1 ", "12"]), "", ("1", "12")),
    (cell([]).T, NONE, ()),
    (cell([cell(["5", "6"])]), cell(["5"]), ("5", "6")),
]


@pytest.mark.parametrize("impedence, rejections, expected", BADS)
def test_bad_channels_are_those_of_both_lists(
    tmp_path: Path, impedence: Any, rejections: Any, expected: tuple[str, ...]
) -> None:
    study(tmp_path, proc=bads(impedence, rejections))
    assert {take.bad for take in takes(tmp_path)} == {expected} and found(tmp_path).notes == ()


def test_one_list_of_bad_channels_may_be_chosen_and_missing_ones_are_told(tmp_path: Path) -> None:
    study(tmp_path)
    by = {name: takes(tmp_path, bad_lists=name)[0].bad for name in ("both", "impedence", "rejections", "none")}
    assert by == {"both": ("7", "12", "40"), "impedence": ("12", "40"), "rejections": ("7", "12"), "none": ()}
    write_proc(tmp_path / "proc", bads(cell(["Ref", "VEOG", "3"]), NONE))
    assert found(tmp_path).notes == ("S01: bad channels that are no sensors: Ref, VEOG",)
    write_proc(tmp_path / "proc", without(without(proc(trl(ROWS, STARTS)), "impedence"), "rejections.badchans"))
    assert found(tmp_path).notes == ("S01: no proc.impedence.bads", "S01: no proc.rejections.badchans")
    assert takes(tmp_path)[0].bad == ()


def test_what_a_file_says_of_itself_is_held_against_it(tmp_path: Path) -> None:
    study(tmp_path, proc=proc(trl(ROWS, STARTS), subject="R0041", tot_trials=9.0))
    expected = ("S01: proc.subject is 'R0041'", "S01: proc.tot_trials is 9, and proc.trl has 8 rows")
    assert found(tmp_path).notes == expected
    write_proc(tmp_path / "proc", proc(trl(ROWS, STARTS), subject="S02"))
    with pytest.raises(BadInput, match="proc.subject: expected S01, as the file is named, found S02"):
        found(tmp_path)


MATRIX = trl(ROWS, STARTS)


def changed(row: int, column: int, value: float) -> dict[str, Any]:
    matrix = MATRIX.copy()
    matrix[row, column] = value
    return proc(matrix)


REFUSED_PROC: list[tuple[dict[str, Any], str]] = [
    (without(proc(MATRIX), "trl"), "a field 'trl'"),
    (without(proc(MATRIX), "varnames"), "a field 'varnames'"),
    (proc(np.zeros((0, 6))), r"proc.trl: expected numbers \[words, columns\], found"),
    (proc(MATRIX * 1j), "complex"),
    (proc(MATRIX[:, :5]), r"proc.trl: expected 3 and 3 more columns, as proc.varnames has names, found \[8, 5\]"),
    (proc(MATRIX[:, :2], varnames=cell([])), "3 and 0 more columns"),
    (proc(MATRIX, varnames=np.ones((1, 3))), "proc.varnames: expected texts"),
    (proc(MATRIX, varnames=cell([1.0, "tmin", "Order"])), "proc.varnames: expected text"),
    (proc(MATRIX, varnames=cell(["order", "tmin", "Order"])), "proc.varnames: expected 'order' once"),
    (proc(MATRIX, varnames=cell(["segment", "tmin", "Ordre"])), "Order .or --set join=row"),
    (changed(1, 0, np.nan), "proc.trl: start of row 2: expected whole numbers, found nan"),
    (changed(1, 0, 0.5), "proc.trl: start of row 2: expected whole numbers, found 0.5"),
    (changed(2, 2, 1e300), "proc.trl: offset of row 3: expected whole numbers, found 1e.300"),
    (changed(0, 5, 5), r"proc.trl: Order of row 1: expected one of AliceChapterOne-EEG.csv, found 5"),
    (changed(0, 5, 2), r"proc.trl: Order of row 2: expected a word used once, found 2"),
    (changed(7, 3, 1), r"proc.trl: segment of row 8: expected that of AliceChapterOne-EEG.csv, found 1"),
    (bads(1.0, NONE), "proc.impedence.bads: expected texts"),
    (bads(cell([1.0]), NONE), "proc.impedence.bads: expected text"),
    (bads({"a": 1.0}, NONE), "proc.impedence.bads: expected text"),
    (proc(MATRIX, tot_trials="many"), "proc.tot_trials: expected a number"),
    (proc(MATRIX, subject=1.0), "proc.subject: expected text"),
]


@pytest.mark.parametrize("made, told", REFUSED_PROC, ids=[told for _, told in REFUSED_PROC])
def test_files_of_proc_that_are_none_are_refused(tmp_path: Path, made: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told) as refusal:
        found(study(tmp_path, proc=made))
    assert refusal.value.where.endswith("proc/S01.mat")


EEG = noise(62, LENGTH)


def header(**given: Any) -> Row:
    return raw(EEG, hdr=given)


def labelled(labels: list[str]) -> Row:
    return raw(noise(len(labels), LENGTH), labels)


REFUSED_RAW: list[tuple[Callable[[], Row], str]] = [
    *(
        (partial(without, raw(EEG), name), f"field '{name.split('.')[-1]}'")
        for name in ("hdr.Fs", "hdr.label", "hdr.chanunit", "fsample", "label", "trial")
    ),
    (lambda: raw(EEG, fsample=512.0), "raw.fsample: expected 500, found 512"),
    (lambda: header(Fs=250.0), "raw.hdr.Fs: expected 500, found 250"),
    (lambda: header(nSamplesPre=10.0), "raw.hdr.nSamplesPre: expected 0, found 10"),
    (lambda: header(nTrials=2.0), "raw.hdr.nTrials: expected 1, found 2"),
    (lambda: header(nSamples=1.0), f"raw.hdr.nSamples: expected {LENGTH}, found 1"),
    (lambda: header(chanunit=cell(["nV"] * 62)), "raw.hdr.chanunit: expected one unit of all sensors, uV, found nV"),
    (lambda: header(chanunit=cell(["mV", *["uV"] * 61])), "one unit of all sensors, uV, found mV, uV"),
    (lambda: header(chanunit=cell(["uV"] * 61)), "raw.hdr.chanunit: expected 62, as raw.hdr.label has, found 61"),
    (lambda: raw(EEG, sampleinfo=np.array([[2.0, LENGTH + 1]])), r"raw.sampleinfo: expected \[1, "),
    (lambda: raw(EEG, sampleinfo="all"), "raw.sampleinfo"),
    (lambda: raw(EEG, time=cell([np.arange(LENGTH)[None] / 512])), "raw.time: expected .* samples from 0 s on"),
    (lambda: raw(EEG, time=cell([np.arange(LENGTH - 1)[None] / 500])), "raw.time"),
    (lambda: raw(EEG, time=cell([np.full((1, LENGTH), np.nan)])), "raw.time"),
    (lambda: raw(EEG, trial=cell([EEG.T])), r"raw.trial: expected numbers \[62, samples\]"),
    (lambda: raw(EEG, trial=cell([EEG[:61]])), r"raw.trial: expected numbers \[62, samples\], found float64 \[61"),
    (lambda: raw(EEG, trial=cell([EEG, EEG])), "raw.trial: expected one element"),
    (lambda: raw(EEG, trial=cell([EEG * 1j])), "complex"),
    (lambda: labelled(SENSORS[1:]), "raw.label: expected 60 sensors, 1 to 61 without 29, found 0 of the name '1'"),
    (lambda: labelled(["2", *LABELS[1:]]), "found 0 of the name '1'"),
    (lambda: labelled([*LABELS, "1"]), "found 2 of the name '1'"),
    (lambda: raw(noise(62, 700)), "length: expected more than .* samples, for .* has a word there, found 700"),
]


@pytest.mark.parametrize("made, told", REFUSED_RAW, ids=[told for _, told in REFUSED_RAW])
def test_eeg_that_is_not_the_study_s_is_refused(tmp_path: Path, made: Callable[[], Row], told: str) -> None:
    study(tmp_path, raw=made())
    with pytest.raises(BadInput, match=told) as refusal:
        takes(tmp_path)
    assert refusal.value.where == str(tmp_path / "S01.mat")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("write", [lambda root, eeg: write_raw(root, raw(eeg)), write_brainvision])
def test_samples_that_are_not_finite_are_refused_where_they_are_read(
    tmp_path: Path, write: Callable[[Path, np.ndarray], object], value: float
) -> None:
    study(tmp_path)
    (tmp_path / "S01.mat").unlink()
    eeg = EEG.copy()
    eeg[3, 700], eeg[60:, 300] = value, value
    write(tmp_path, eeg)
    (take, _) = takes(tmp_path)
    assert take.eeg.read(0, 700).shape == (60, 700)
    with pytest.raises(BadInput, match="expected finite"):
        take.eeg.read(600, 701)


ORDERS = [
    LABELS,
    LABELS[:61],
    [*SENSORS, "VEOG", "Aux5"],
    ["VEOG", *SENSORS[::-1], "Aux5"],
    [*SENSORS[30:], "AUD", *SENSORS[:30], "29"],
]


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("labels", ORDERS)
def test_channels_are_found_by_their_names(tmp_path: Path, labels: list[str], compress: bool) -> None:
    eeg = noise(len(labels), LENGTH)
    study(tmp_path)
    write_raw(tmp_path, raw(eeg, labels), compress=compress)
    write_brainvision(tmp_path, eeg, labels)
    expected = eeg[[labels.index(name) for name in SENSORS]]
    np.testing.assert_array_equal(eeg_of(takes(tmp_path, release="v1")[0]), expected)
    np.testing.assert_allclose(eeg_of(takes(tmp_path, release="v2")[0]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("unit, microvolts", [("uV", 1), ("µV", 1), ("mV", 1e3), ("V", 1e6)])
def test_units_become_microvolts(tmp_path: Path, unit: str, microvolts: float) -> None:
    eeg = noise(62, LENGTH) / microvolts
    study(tmp_path, raw=raw(eeg, hdr={"chanunit": cell([unit] * 62)}))
    write_brainvision(tmp_path, eeg, unit=unit)
    for release in ("v1", "v2"):
        block = eeg_of(takes(tmp_path, release=release)[0])
        np.testing.assert_allclose(block, noise(62, LENGTH)[:60], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_what_files_need_not_say_may_be_missing(tmp_path: Path, kind: type) -> None:
    made = raw(noise(62, LENGTH).astype(kind))
    for name in ("hdr.nSamples", "hdr.nSamplesPre", "hdr.nTrials", "hdr.chantype", "hdr.nChans", "sampleinfo", "time"):
        made = without(made, name)
    lean = without(without(proc(MATRIX), "subject"), "tot_trials")
    study(tmp_path, raw=made, proc=lean)
    np.testing.assert_array_equal(eeg_of(takes(tmp_path)[0]), noise(62, LENGTH).astype(kind)[:60])
    assert found(tmp_path).notes == ()


def table(text: str) -> bytes:
    """Bytes of a table with few columns."""
    return ("Word,Segment,onset,offset,Order\r\n" + text).encode("latin-1")


GOOD = "Alice,1,0.1,0.5,1"
REFUSED_TABLES: list[tuple[bytes, str]] = [
    (b"", "content: expected a table with commas"),
    (table(""), "words: expected at least one, found none"),
    (b"Word,Segment,onset,Order\r\na,1,0.1,1", "columns: expected 'offset', once, found Word, Segment, onset, Order"),
    (b"Order,Segment,onset,offset,Order\r\n1,1,0.1,0.5,1", "columns: expected 'Order', once"),
    (table(f"{GOOD}\r\nwas,1,0.5,0.6"), "row 2: expected 5 cells, found 4"),
    (table(f"{GOOD}\r\nwas,1,0.5,0.6,2,7"), "row 2: expected 5 cells, found 6"),
    (table(f"{GOOD}\r\nwas,1,x,0.6,2"), "onset of row 2: expected a number, found 'x'"),
    (table(f"{GOOD}\r\nwas,1,1_0,0.6,2"), "onset of row 2: expected a number"),
    (table(f"{GOOD}\r\nwas,1,,0.6,2"), "onset of row 2: expected a number, found ''"),
    (table(f"{GOOD}\r\nwas,1,nan,0.6,2"), "onset of row 2: expected finite numbers, found nan"),
    (table(f"{GOOD}\r\nwas,1,-1,0.6,2"), "onset of row 2: expected seconds in a sound, found -1"),
    (table(f"{GOOD}\r\nwas,1,0.5,1e99,2"), "offset of row 2: expected seconds in a sound"),
    (table(f"{GOOD}\r\nwas,13,0.5,0.6,2"), "Segment of row 2: expected 1 to 12, found 13"),
    (table(f"{GOOD}\r\nwas,1.5,0.5,0.6,2"), "Segment of row 2: expected whole numbers, found 1.5"),
    (table(f"{GOOD}\r\nwas,1,0.5,0.6,1"), "Order of row 2: expected numbers from 1, each once, found 1"),
    (table(f"{GOOD}\r\nwas,1,0.5,0.6,0"), "Order of row 2: expected numbers from 1, each once, found 0"),
    (table(f'{GOOD}\r\n"was,1,0.5,0.6,2'), "content: expected a table with commas"),
    (table(f"{GOOD}\r\n{'x' * 200_000},1,0.5,0.6,2"), "content: expected a table with commas"),
]


@pytest.mark.parametrize("content, told", REFUSED_TABLES, ids=[told for _, told in REFUSED_TABLES])
def test_tables_that_are_none_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (study(tmp_path) / "AliceChapterOne-EEG.csv").write_bytes(content)
    with pytest.raises(BadInput, match=told) as refusal:
        found(tmp_path)
    assert refusal.value.where.endswith("AliceChapterOne-EEG.csv")


def test_tables_are_read_by_the_names_of_their_columns(tmp_path: Path) -> None:
    path = write_table(study(tmp_path), ROWS, trigger=False)
    assert b"\x1a" in path.read_bytes() and b"\r\n" in path.read_bytes() and not path.read_bytes().endswith(b"\n")
    assert starts(tmp_path) == [STARTS[1], STARTS[2]]
    turned = [",".join(line.split(",")[::-1]) for line in path.read_text("latin-1").splitlines()]
    path.write_bytes("\n".join(["\u00ef\u00bb\u00bf" + turned[0], *turned[1:], ""]).encode("latin-1"))
    assert starts(tmp_path) == [STARTS[1], STARTS[2]] and HEADER.startswith("Word,Trigger")


def test_the_sound_has_to_have_all_words(tmp_path: Path) -> None:
    study(tmp_path)
    write_sounds(tmp_path / "audio", 1.0, (2,))
    first, second = takes(tmp_path)
    assert first.attended.open().samples == 2 * SOUND
    with pytest.raises(
        BadInput, match=r"SoundFile2.wav: length: expected 1.837 s, where the last word ends, found 1.0"
    ):
        second.attended.open()


FOLDERS: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "files: expected S01.mat or S01.vhdr and others, here or one folder below, found none"),
    (lambda root: (root / "S01.mat").unlink(), "files: expected S01.mat or S01.vhdr"),
    (lambda root: shutil.rmtree(root / "proc"), "proc: expected SNN.mat in proc or in timelock-preprocessing"),
    (lambda root: shutil.rmtree(root / "audio"), "audio: expected audio/DownTheRabbitHoleFinal_SoundFile1.wav"),
    (lambda root: (root / "AliceChapterOne-EEG.csv").unlink(), "AliceChapterOne-EEG.csv, found no such file"),
    (lambda root: (root / "proc" / "S01.mat").write_bytes(b"x" * 300), "proc/S01.mat: content"),
    (lambda root: io.savemat(root / "proc" / "S01.mat", {"x": 1.0}), "variables: expected proc, found x"),
    (lambda root: io.savemat(root / "proc" / "S01.mat", {"proc": 1.0}), "a field 'trl'"),
    (lambda root: io.savemat(root / "S01.mat", {"raw": 1.0}), "a field 'Fs'|a field 'hdr'"),
    (lambda root: (root / "S01.mat").write_bytes(b""), "S01.mat: content"),
    (lambda root: (root / "S01.mat").rename(root / "S99.mat"), "people: expected at least one"),
]


@pytest.mark.parametrize("spoil, told", FOLDERS)
def test_folders_that_are_not_the_study_are_refused(tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    root = study(tmp_path / "raw")
    spoil(root)
    with pytest.raises(BadInput, match=told):
        takes(root)


def test_eeg_in_two_folders_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        study(tmp_path / name)
    with pytest.raises(BadInput, match="files: expected EEG in one folder, found a, b"):
        found(tmp_path)


SETTINGS = [
    ("subjects", "some"),
    ("release", "v3"),
    ("onset", "x"),
    ("join", "x"),
    ("triggers", "x"),
    ("bad_lists", "x"),
]


@pytest.mark.parametrize("name, value", [*SETTINGS, ("tolerance", "0"), ("tolerance", "nan"), ("tolerance", "inf")])
def test_settings_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        settled(Brennan2019Steps, {name: value}, "brennan2019")


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: (root / "S01.eeg").unlink(), "EEG file: expected one that MNE reads"),
    (lambda root: (root / "S01.vhdr").write_bytes(b""), "EEG file: expected one that MNE reads"),
    (lambda root: write_brainvision(root, EEG, LABELS, unit="K"), "unit of '1': expected .* found 'K'"),
    (lambda root: write_brainvision(root, EEG, LABELS, step=1000), "rate: expected 500 Hz, found 1000 Hz"),
    (lambda root: write_brainvision(root, EEG[:59], SENSORS[1:]), "channels: expected .* none named 1"),
    (lambda root: write_brainvision(root, EEG[:, :500]), "length: expected more than"),
]


@pytest.mark.parametrize("spoil, told", BROKEN)
def test_brainvision_that_is_not_the_study_s_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(write_study(tmp_path, subjects=(1,), release="v2"))
    with pytest.raises(BadInput, match=told) as refusal:
        eeg_of(takes(tmp_path)[0])
    assert refusal.value.where == str(tmp_path / "S01.vhdr")


def test_brainvision_without_units_is_microvolt(tmp_path: Path) -> None:
    """So the format is defined."""
    block = MneBlocks(write_brainvision(tmp_path, EEG, unit="")).read(0, 100)
    np.testing.assert_allclose(block, EEG[:, :100], rtol=0, atol=1e-4)


def test_blocks_of_mne_have_all_channels_unless_some_are_named(tmp_path: Path) -> None:
    path = write_brainvision(tmp_path, EEG)
    every, some = MneBlocks(path), MneBlocks(path, ["VEOG", "3", "1"])
    assert (every.channels, every.samples, every.rate, some.channels) == (62, LENGTH, RATE, 3)
    np.testing.assert_allclose(every.read(100, 300), EEG[:, 100:300], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(some.read(100, 300), every.read(100, 300)[[60, 2, 0]])


def prepared(root: Path, **given: Any) -> Any:
    study = brennan2019()
    study.raw, study.given = root, given
    return study.prepare(root.parent / f"store{len(list(root.parent.iterdir()))}")


@pytest.mark.parametrize("release", ["v1", "v2"])
def test_a_store_has_what_the_files_have(tmp_path: Path, release: str) -> None:
    root = write_study(tmp_path / "raw", release=release, each=14)
    store = prepared(root, reference="none", high_pass=0, eeg_rate=500)
    store.verify()
    assert store.subjects == ("S01", "S03") and len(store.trials) == 4 and len(store.stimuli) == 2
    assert store.facts.doi == FACTS.doi and all(trial.unattended is None for trial in store.trials.values())
    begins = spread(words(segments=2, each=14))
    lengths = [round(store.trial(f"S03_0{k}").duration * RATE) for k in (1, 2)]
    eeg = noise(62, takes(root, 1)[0].eeg.samples, seed=3)[:60]
    expected = np.concatenate([eeg[:, begins[k] : begins[k] + lengths[k - 1]] for k in (1, 2)], axis=1)
    np.testing.assert_allclose(store.eeg("S03"), expected, rtol=0, atol=1e-4)


def test_a_sound_that_a_trial_needs_is_not_left_out_silently(tmp_path: Path) -> None:
    root = write_study(tmp_path / "raw", each=14)
    (root / "audio" / "DownTheRabbitHoleFinal_SoundFile2.wav").unlink()
    with pytest.raises(BadInput, match="SoundFile2.wav: file: expected a sound file, found no such file"):
        prepared(root)


@pytest.mark.parametrize("release", ["v1", "v2"])
@pytest.mark.parametrize("high_pass", [0, 0.5])
def test_impulses_stay_together_to_the_end_of_the_longest_trial(tmp_path: Path, release: str, high_pass: float) -> None:
    rows = words(segments=1, each=140)  # 65 s, as the longest segments
    begin, seconds = {1: 777}, 66.0
    places = (0.5, 31.234, 65.5)
    eeg, sound = np.zeros((62, 777 + round(seconds * RATE) + 300)), np.zeros(round(seconds * SOUND))
    for place in places:
        eeg[:, begin[1] + round(place * RATE)] = 1000 * np.arange(1, 63)
        sound[round(place * SOUND)] = 0.9
    root = tmp_path / "raw"
    write = partial(write_brainvision, root, eeg) if release == "v2" else partial(write_raw, root, raw(eeg))
    write()
    write_proc(root / "proc", proc(trl(rows, begin)))
    write_table(root, rows)
    (root / "audio").mkdir()
    soundfile.write(root / "audio" / "DownTheRabbitHoleFinal_SoundFile1.wav", sound, SOUND, "PCM_16")
    store = prepared(root, reference="none", high_pass=high_pass)
    trial = store.trial("S01_01")
    assert trial.duration == seconds
    for place in places:
        for signal, rate in ((store.eeg("S01")[7], 128), (store.stimulus(trial.attended), 16_000)):
            near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
            peak = (near.start + np.argmax(np.abs(signal[near]))) / rate
            assert abs(peak - place) <= 1 / 128


TINY = words(segments=2, each=3, apart=0.002)
TINY_STARTS = spread(TINY, first=2, gap=0.0)
TINY_LENGTH = TINY_STARTS[2] + 40
Read = list[tuple[str, float, tuple[str, ...], str, np.ndarray]]


def write_tiny(root: Path, release: str, compress: bool) -> Path:
    eeg = noise(62, TINY_LENGTH)
    if release == "v1":
        write_raw(root, raw(eeg), compress=compress)
    else:
        write_brainvision(root, eeg)
    write_proc(root / "proc", proc(trl(TINY, TINY_STARTS)), compress=compress)
    write_table(root, TINY)
    write_sounds(root / "audio", 0.5, (1, 2))
    return root


def read_all(root: Path) -> Read:
    """All that the adapter tells, EEG read."""
    made: Read = []
    for item in found(root).items:
        for take in item.takes():
            count = min(take.eeg.samples, 100_000)
            block = np.asarray(take.eeg.read(0, count))
            assert block.shape == (60, count) and np.isfinite(block).all() and take.eeg.rate == RATE
            assert np.isfinite(take.start) and round(take.start * RATE) >= 0
            assert re.fullmatch(r"S01_\d\d", take.id) and {*take.bad} <= {*SENSORS}
            made.append((take.id, take.start, take.bad, take.attended.key, block))
    assert made
    return made


def fuzzed(root: Path, path: Path, count: int, same: bool) -> int:
    """Damage a file in ``count`` ways; those that were read in spite of it, the ``same`` as before where it has to."""
    good, read = read_all(root), 0
    for content in damaged(path.read_bytes(), count):
        path.write_bytes(content)
        try:
            made = read_all(root)
        except BadInput:
            continue
        read += 1
        if same:
            assert [each[:4] for each in made] == [each[:4] for each in good]
            for one, other in zip(made, good, strict=True):
                np.testing.assert_array_equal(one[4], other[4])
    return read


FUZZED = [
    ("S01.mat", "v1", True, 300),
    ("S01.mat", "v1", False, 300),
    ("proc/S01.mat", "v1", True, 400),
    ("proc/S01.mat", "v1", False, 500),
    ("AliceChapterOne-EEG.csv", "v1", False, 500),
]


@pytest.mark.parametrize("name, release, compress, count", FUZZED)
def test_damaged_files_are_refused_or_read_right(
    tmp_path: Path, name: str, release: str, compress: bool, count: int
) -> None:
    write_tiny(tmp_path, release, compress)
    fuzzed(tmp_path, tmp_path / name, count, same=compress)


@pytest.mark.parametrize("kind", [".vhdr", ".eeg", ".vmrk"])
def test_damaged_brainvision_is_refused_or_read_whole(tmp_path: Path, kind: str) -> None:
    write_tiny(tmp_path, "v2", True)
    fuzzed(tmp_path, tmp_path / f"S01{kind}", 70, same=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".vhdr", ".eeg", ".vmrk"])
def test_damaged_brainvision_at_length(tmp_path: Path, kind: str) -> None:
    write_tiny(tmp_path, "v2", True)
    fuzzed(tmp_path, tmp_path / f"S01{kind}", 700, same=False)
