import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mne_bids
import numpy as np
import pytest
from fuzz import damaged
from scipy.io import wavfile

from eeg2speech.data import Sensors, Store, StoreWriter, StudyFacts, Trial
from eeg2speech.data.bids import export_bids, read_bids
from eeg2speech.errors import BadInput

FACTS = StudyFacts(
    name="toy",
    title="Toy set",
    licence="CC0",
    citation="A. Author (2020). A toy. Journal.",
    doi="10.5061/dryad.070jc",
    how_to_get="made here",
    note="simulated noise",
    audio_rate=1000,
    eeg_rate=128,
    known_problems=("one", "two"),
    splits=("by trial",),
)
SENSORS = Sensors(("Fz", "A,1", "VEOG"), ((0.0, 0.1 / 3, 0.1), (-0.07, 1e-9, 0.0), (0.0, 0.0, 0.0)))
SETTINGS: dict[str, object] = {"version": 1, "steps": {"reference": "average", "high_pass": 0.5}}
SUBJECTS = ("S-1", "S_2", "S-1")


def eeg(seed: int, channels: int = 3, samples: int = 600) -> np.ndarray:
    """Of all magnitudes that float32 has."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((channels, samples)) * 10.0 ** rng.uniform(-40, 37, (channels, samples))).astype("f4")


def sound(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape or (4000,)).astype(np.float32)


def study(
    root: Path, facts: StudyFacts = FACTS, sensors: Sensors = SENSORS, subjects: Sequence[str] = SUBJECTS
) -> Store:
    """Recordings of two subjects in turn, trials in another order, and a recording without any."""
    writer = StoreWriter(root, facts, sensors, SETTINGS)
    shape = (4000,) if facts.stimuli == "audio" else (5, 4000)
    for k, subject in enumerate(subjects):
        writer.add_recording(f"r.{k}", subject, eeg(k, len(sensors)), facts.eeg_rate)
    writer.add_recording("none", subjects[0], eeg(9, len(sensors), 5), facts.eeg_rate)
    a = writer.add_stimulus(sound(1, *shape), facts.audio_rate, "voice 1", "en", 'a "title"', "story")
    b = writer.add_stimulus(sound(2, *shape), facts.audio_rate, "voice\N{NO-BREAK SPACE}2", "da", "")
    writer.add_trial(Trial("late", "r.2", subjects[2], 0.3, 4.0, a, b, "left", "train"))
    writer.add_trial(Trial("t/1 \N{GREEK SMALL LETTER ALPHA}", "r.0", subjects[0], 0, 3, b))
    writer.add_trial(Trial("mid", "r.1", subjects[1], 1 / 3, 0.1 + 0.2, b, a, "right", "test"))
    writer.add_trial(Trial("again", "r.2", subjects[2], 0.0, 2.0, a))
    return writer.close()


def same(one: Store, other: Store) -> bool:
    other.verify()
    return (one.root / "index.json").read_bytes() == (other.root / "index.json").read_bytes()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    root = tmp_path_factory.mktemp("bids")
    store = study(root / "store")
    export_bids(store, root / "bids")
    return store, root / "bids"


@pytest.fixture
def copy(exported: tuple[Store, Path], tmp_path: Path) -> Path:
    return shutil.copytree(exported[1], tmp_path / "bids")


def rows(path: Path) -> list[dict[str, str]]:
    head, *lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


# There and back


def test_a_store_comes_back_to_the_bit_with_its_revision(exported: tuple[Store, Path], tmp_path: Path) -> None:
    store, folder = exported
    assert same(store, read_bids(folder, tmp_path / "back"))


def test_a_simulated_study_comes_back(store: Store, tmp_path: Path) -> None:
    assert len(export_bids(store, tmp_path / "bids")) == len(store.recordings)
    assert same(store, read_bids(tmp_path / "bids", tmp_path / "back"))


def test_nothing_warns(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = study(tmp_path / "store")
        export_bids(store, tmp_path / "bids")
        read_bids(tmp_path / "bids", tmp_path / "back")


def test_features_come_back(tmp_path: Path) -> None:
    store = study(tmp_path / "store", replace(FACTS, stimuli="mel", audio_rate=64))
    export_bids(store, tmp_path / "bids")
    assert len([*(tmp_path / "bids/stimuli").glob("*.npy")]) == 2
    assert same(store, read_bids(tmp_path / "bids", tmp_path / "back"))


@pytest.mark.parametrize(
    ("subjects", "labels"),
    [
        (("sub-027", "sub-3", "sub-027"), ["027", "3"]),
        (("S 1", "S_1", "S 1"), ["01", "02"]),
        (("a", "A", "a"), ["01", "02"]),
        (("\N{LATIN SMALL LETTER E WITH ACUTE}", "b", "\N{LATIN SMALL LETTER E WITH ACUTE}"), ["01", "02"]),
        (("", "b", ""), ["01", "02"]),
    ],
)
def test_names_that_are_no_labels_are_mapped_and_come_back(
    tmp_path: Path, subjects: tuple[str, str, str], labels: list[str]
) -> None:
    store = study(tmp_path / "store", subjects=subjects)
    export_bids(store, tmp_path / "bids")
    assert sorted(path.name for path in (tmp_path / "bids").glob("sub-*")) == [f"sub-{label}" for label in labels]
    told = {row["participant_id"]: row["subject"] for row in rows(tmp_path / "bids/participants.tsv")}
    assert told == {f"sub-{label}": name or "n/a" for label, name in zip(labels, subjects[:2], strict=True)}
    assert same(store, read_bids(tmp_path / "bids", tmp_path / "back"))


@pytest.mark.parametrize("rate", [64, 120, 125, 1000, 977])
def test_rates_come_back(tmp_path: Path, rate: int) -> None:
    writer = StoreWriter(tmp_path / "store", replace(FACTS, eeg_rate=rate), SENSORS, {})
    writer.add_recording("r", "S", eeg(0), rate)
    writer.add_trial(Trial("t", "r", "S", 0.0, 0.5, writer.add_stimulus(sound(1), 1000, "v", "en", "x")))
    store = writer.close()
    export_bids(store, tmp_path / "bids")
    assert same(store, read_bids(tmp_path / "bids", tmp_path / "back"))


def test_sensors_without_a_place_come_back(tmp_path: Path) -> None:
    nan = float("nan")
    store = study(tmp_path / "store", sensors=Sensors(("A", "B"), ((nan, nan, nan), (0.0, 0.1, 0.0))))
    export_bids(store, tmp_path / "bids")
    assert same(store, read_bids(tmp_path / "bids", tmp_path / "back"))


def test_a_revision_that_was_given_comes_back(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store", FACTS, SENSORS, {})
    writer.add_recording("r", "S", eeg(0), 128)
    writer.add_trial(Trial("t", "r", "S", 0.0, 1.0, writer.add_stimulus(sound(1), 1000, "v", "en", "x")))
    store = writer.close("by settings")
    export_bids(store, tmp_path / "bids")
    assert read_bids(tmp_path / "bids", tmp_path / "back").index.revision == "by settings"
    assert same(store, Store(tmp_path / "back"))


def test_long_recordings_are_written_and_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eeg2speech.data.bids.BLOCK", 77)
    monkeypatch.setattr("eeg2speech.data.bids_reading.BLOCK", 101)
    store = study(tmp_path / "store")
    export_bids(store, tmp_path / "bids")
    assert same(store, read_bids(tmp_path / "bids", tmp_path / "back"))


# As others read it


def test_headers_are_told_in_the_order_of_the_recordings(tmp_path: Path) -> None:
    store = study(tmp_path / "store")
    found = [path.relative_to(tmp_path / "bids").as_posix() for path in export_bids(store, tmp_path / "bids")]
    assert found == [
        "sub-S1/eeg/sub-S1_task-listening_run-01_eeg.vhdr",
        "sub-S2/eeg/sub-S2_task-listening_run-01_eeg.vhdr",
        "sub-S1/eeg/sub-S1_task-listening_run-02_eeg.vhdr",
        "sub-S1/eeg/sub-S1_task-listening_run-03_eeg.vhdr",
    ]


def test_mne_bids_reads_signals_trials_and_positions(exported: tuple[Store, Path]) -> None:
    store, folder = exported
    paths = mne_bids.BIDSPath(root=folder, suffix="eeg", extension=".vhdr", datatype="eeg").match()
    assert len(paths) == 4 and mne_bids.get_entity_vals(folder, "subject") == ["S1", "S2"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a column of participants that MNE has no place for
        raw = mne_bids.read_raw_bids(paths[1], verbose="ERROR")
    np.testing.assert_array_equal((raw.get_data() * 1e6).astype(np.float32), store.eeg("r.2"))
    trials = [t for t in store.trials.values() if t.recording == "r.2"]
    assert sorted(zip(raw.annotations.onset, raw.annotations.duration, strict=True)) == sorted(
        (t.start, t.duration) for t in trials
    )
    assert set(raw.annotations.description) == {"one-talker", "two-talkers"}
    assert tuple(raw.ch_names) == SENSORS.names and set(raw.get_channel_types()) == {"eeg"}
    placed = raw.get_montage().get_positions()["ch_pos"]
    np.testing.assert_array_equal(placed["Fz"], SENSORS.positions[0])


def test_all_files_are_named_as_bids_has_it(exported: tuple[Store, Path]) -> None:
    _, folder = exported
    for path in folder.rglob("sub-*.*"):
        assert mne_bids.get_bids_path_from_fname(path).fpath == path
    assert not [path for path in folder.rglob("*") if path.is_file() and not path.stat().st_size]


def test_the_description_says_licence_source_and_citation(exported: tuple[Store, Path]) -> None:
    body = json.loads((exported[1] / "dataset_description.json").read_text())
    assert (body["Name"], body["License"], body["HowToAcknowledge"]) == (FACTS.title, FACTS.licence, FACTS.citation)
    assert body["SourceDatasets"] == [{"DOI": "doi:10.5061/dryad.070jc"}] and "Authors" not in body
    assert body["GeneratedBy"][0]["Description"] == FACTS.note
    assert FACTS.known_problems[1] in (exported[1] / "README").read_text()


def test_tables_name_what_the_store_names(exported: tuple[Store, Path]) -> None:
    store, folder = exported
    events = rows(folder / "sub-S1/eeg/sub-S1_task-listening_run-02_events.tsv")
    late = store.trials["late"]
    assert events[1] == {
        "onset": "0.3",
        "duration": "4.0",
        "trial_type": "two-talkers",
        "trial": "late",
        "stim_file": f"{late.attended}.wav",
        "attended": late.attended,
        "unattended": late.unattended,
        "ear": "left",
        "part": "train",
        "place": "0",
    }
    assert events[0]["unattended"] == events[0]["ear"] == events[0]["part"] == "n/a"
    stimuli = rows(folder / "stimuli/stimuli.tsv")
    assert [(row["stimulus"], row["language"], row["rate"]) for row in stimuli] == [
        (s.id, s.language, "1000") for s in store.stimuli.values()
    ]
    scans = rows(folder / "sub-S1/sub-S1_scans.tsv")
    assert [row["recording"] for row in scans] == ["r.0", "r.2", "none"]


def test_stimuli_are_sound_files(exported: tuple[Store, Path]) -> None:
    store, folder = exported
    for stimulus in store.stimuli.values():
        rate, samples = wavfile.read(folder / "stimuli" / f"{stimulus.id}.wav")
        assert rate == stimulus.rate and samples.dtype == np.float32
        np.testing.assert_array_equal(samples, store.stimulus(stimulus.id))


def test_the_same_store_is_written_to_the_same_bytes(exported: tuple[Store, Path], tmp_path: Path) -> None:
    store, folder = exported
    export_bids(store, tmp_path / "again")
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_the_data_room_loads_no_heavy_package() -> None:
    heavy = ("mne", "mne_bids", "scipy", "pydantic", "torch", "pandas")
    code = f"import sys, eeg2speech.data.bids; assert not [m for m in {heavy} if m in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)


# What is refused when written


def test_a_folder_that_holds_something_is_refused(exported: tuple[Store, Path], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "own.txt").write_text("own")
    for folder in (tmp_path / "full", tmp_path / "full" / "own.txt"):
        with pytest.raises(BadInput, match="folder: expected a new or an empty one"):
            export_bids(exported[0], folder)
    (tmp_path / "empty").mkdir()
    assert export_bids(exported[0], tmp_path / "empty")


def test_an_export_that_fails_leaves_no_data_set_and_is_begun_anew(
    exported: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("eeg2speech.data.bids._write_description", lambda *_: (_ for _ in ()).throw(RuntimeError))
        export_bids(exported[0], tmp_path / "bids")
    assert not (tmp_path / "bids").exists()
    export_bids(exported[0], tmp_path / "bids")
    assert [path.name for path in tmp_path.iterdir()] == ["bids"]
    assert same(exported[0], read_bids(tmp_path / "bids", tmp_path / "back"))


@pytest.mark.parametrize(
    ("change", "where", "field"),
    [
        ({"title": "n/a"}, "stimulus", "title"),
        ({"title": "a\tb"}, "stimulus", "title"),
        ({"speaker": "a\nb"}, "stimulus", "speaker"),
        ({"trial": "a\rb"}, "trial 'a", "id"),
        ({"ear": "n/a"}, "trial 't'", "ear"),
    ],
)
def test_text_that_a_table_cannot_hold_is_refused(tmp_path: Path, change: dict, where: str, field: str) -> None:
    told = {"title": "x", "speaker": "v", "trial": "t", "ear": ""} | change
    writer = StoreWriter(tmp_path / "store", FACTS, SENSORS, {})
    writer.add_recording("r", "S", eeg(0), 128)
    stimulus = writer.add_stimulus(sound(1), 1000, told["speaker"], "en", told["title"])
    writer.add_trial(Trial(told["trial"], "r", "S", 0.0, 1.0, stimulus, ear=told["ear"]))
    with pytest.raises(BadInput, match="expected text in one line") as refusal:
        export_bids(writer.close(), tmp_path / "bids")
    assert refusal.value.where.startswith(where) and refusal.value.field == field
    assert not (tmp_path / "bids").exists()


@pytest.mark.parametrize("names", [("A", "A"), ("A", ""), (" A", "B"), ("A\n", "B"), ("n/a", "B"), ("A\\1", "B")])
def test_sensors_whose_names_a_header_cannot_hold_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    store = study(tmp_path / "store", sensors=Sensors(names, ((0.0, 0.0, 0.1), (0.0, 0.1, 0.0))))
    with pytest.raises(BadInput, match="sensors: name"):
        export_bids(store, tmp_path / "bids")


def test_without_mne_bids_the_extra_is_named(
    exported: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eeg2speech.data.bids.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"package: expected mne-bids: pip install 'eeg2speech\[bids\]'"):
        export_bids(exported[0], tmp_path / "bids")


def test_a_folder_whose_name_looks_like_a_signal_is_no_trap(exported: tuple[Store, Path], tmp_path: Path) -> None:
    export_bids(exported[0], tmp_path / "my.eeg" / "x.vhdr")
    assert same(exported[0], read_bids(tmp_path / "my.eeg" / "x.vhdr", tmp_path / "back"))


def test_a_store_that_is_damaged_is_refused(tmp_path: Path) -> None:
    store = study(tmp_path / "store")
    broken = np.load(store.root / "eeg/r.1.npy")
    broken[0, 7] = np.nan
    np.save(store.root / "eeg/r.1.npy", broken)
    with pytest.raises(BadInput, match=r"r\.1\.npy: content hash"):
        export_bids(Store(store.root), tmp_path / "bids")


# What is refused when read


EVENTS = "sub-S1/eeg/sub-S1_task-listening_run-02_events.tsv"
HEADER = "sub-S1/eeg/sub-S1_task-listening_run-02_eeg.vhdr"
SCANS = "sub-S1/sub-S1_scans.tsv"
ELECTRODES = "sub-S2/eeg/sub-S2_space-CapTrak_electrodes.tsv"


def refused(folder: Path, match: str | None, changed: bool = False) -> BadInput:
    root = folder.parent / "back"
    with pytest.raises(BadInput, match=match) as refusal:
        read_bids(folder, root, changed)
    assert not (root / "index.json").exists()
    return refusal.value


@pytest.mark.parametrize(
    "name",
    ["dataset_description.json", "participants.tsv", "stimuli/stimuli.tsv", EVENTS, HEADER, SCANS, ELECTRODES]
    + ["sub-S1/eeg/sub-S1_task-listening_run-02_eeg.eeg"],
)
def test_a_file_that_is_missing_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert Path(name).stem in refused(copy, None).where


def test_a_stimulus_that_is_missing_is_named(copy: Path) -> None:
    sound_file = next((copy / "stimuli").glob("*.wav"))
    sound_file.unlink()
    assert refused(copy, "file: expected a stimulus named in stimuli.tsv").where == str(sound_file)


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", r"dataset_description\.json: file")
    folder = tmp_path / "bids"
    for text in ('{"Name": "x", "BIDSVersion": "1.9.0"}', "[]", "3"):
        folder.mkdir(exist_ok=True)
        (folder / "dataset_description.json").write_text(text)
        refused(folder, "EEG2Speech: expected facts and settings")
    (folder / "dataset_description.json").write_text("{")
    refused(folder, "content: expected JSON")


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("format",), 2, "format: expected 1, found 2"),
        (("format",), "1", "format: expected int"),
        (("revision",), None, "revision: expected str"),
        (("settings",), [], "settings: expected dict"),
        (("facts", "eeg_rate"), 0, "facts.eeg_rate: expected at least 1"),
        (("facts", "eeg_rate"), "128", "facts.eeg_rate: expected"),
        (("facts", "known_problems"), "none", "facts.known_problems: expected"),
        (("facts", "licence"), None, "facts.licence: expected"),
        (("facts", "licence"), "CC BY", "content: expected what was exported"),
        (("settings", "version"), 2, "content: expected what was exported"),
        (("revision",), "another", "content: expected what was exported"),
    ],
)
def test_a_description_that_says_otherwise_is_refused(
    copy: Path, path: tuple[str, ...], value: object, match: str
) -> None:
    body = json.loads((copy / "dataset_description.json").read_text())
    inner = body["EEG2Speech"]
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (copy / "dataset_description.json").write_text(json.dumps(body))
    refused(copy, match)


def swap(old: str, new: str) -> Callable[[str], str]:
    def swapped(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return swapped


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        (EVENTS, swap("0.3", "later"), "onset: expected a number, found 'later'"),
        (EVENTS, swap("0.3", "nan"), "onset: expected a number"),
        (EVENTS, swap("0.3", "n/a"), "onset: expected a number"),
        (EVENTS, swap("0.3", "0.4"), "content: expected what was exported"),
        (EVENTS, swap("left", "right"), "content: expected what was exported"),
        (EVENTS, swap("onset", "begin"), "columns: expected onset, once"),
        (EVENTS, swap("trial_type", "onset"), "columns: expected onset, once"),
        (EVENTS, swap("\tleft", ""), "row 3: expected 10 columns, found 9"),
        (EVENTS, swap("late", '"late'), "content: expected a table"),
        (EVENTS, swap("train\t0", "train\t-1"), "place: expected a whole number"),
        (EVENTS, lambda text: "", "columns: expected onset, once, found none"),
        (EVENTS, lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "content: expected what was"),
        (SCANS, swap("eeg/sub-S1", "../sub-S2/eeg/sub-S1"), "filename: expected eeg/sub-S1_"),
        (SCANS, swap("600", "601"), "content: expected what was exported"),
        ("participants.tsv", swap("sub-S1", "../sub-S1"), "participant_id: expected sub- and letters"),
        ("participants.tsv", lambda text: text.partition("\n")[0] + "\n", "rows: expected at least one"),
        ("stimuli/stimuli.tsv", swap("4000", "4001"), "content: expected what was exported"),
        ("stimuli/stimuli.tsv", swap("\t1000", "\t1e3"), "rate: expected a whole number"),
        (ELECTRODES, swap("Fz", "Cz"), "electrodes: expected those of the other subjects"),
        (ELECTRODES, swap("0.1", "up"), "z: expected a number"),
    ],
)
def test_a_table_that_says_otherwise_is_refused(
    copy: Path, name: str, change: Callable[[str], str], match: str
) -> None:
    (copy / name).write_text(change((copy / name).read_text(encoding="utf-8")), encoding="utf-8")
    refused(copy, match)


def test_tables_changed_on_purpose_are_taken_up_under_a_revision_of_their_own(
    copy: Path, exported: tuple[Store, Path], tmp_path: Path
) -> None:
    text = (copy / EVENTS).read_text(encoding="utf-8")
    (copy / EVENTS).write_text(text.replace("left", "right").replace("\n", "\r\n"), encoding="utf-8", newline="")
    store = read_bids(copy, tmp_path / "back", changed=True)
    store.verify()
    assert store.trials["late"] == replace(exported[0].trials["late"], ear="right")
    assert store.index.revision != exported[0].index.revision
    assert {k: t for k, t in store.trials.items() if k != "late"} == {
        k: t for k, t in exported[0].trials.items() if k != "late"
    }


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        (EVENTS, swap("0.3", "30"), "trial 'late': duration: expected an end within"),
        (EVENTS, swap("0.3", "1e999"), "trial 'late': start"),
        (EVENTS, swap("late", "again"), "trial 'again': id: expected a name used once"),
        (SCANS, swap("r.0", "r.2"), "recording: expected a name used once, found 'r.2'"),
        (SCANS, swap("r.0", "../r"), r"recording '\.\./r': id: expected a name of letters"),
        (SCANS, swap("600", "601"), "samples: expected 601, found 600"),
        ("stimuli/stimuli.tsv", swap("4000", "4001"), r"content: expected float32 \[4001\]"),
        ("stimuli/stimuli.tsv", swap("\t1000", "\t1001"), "content hash"),
        ("stimuli/stimuli.tsv", swap("4000\t0", "4000\t9"), r"\.npy: file"),
    ],
)
def test_changes_that_do_not_fit_are_refused_also_on_purpose(
    copy: Path, name: str, change: Callable[[str], str], match: str
) -> None:
    (copy / name).write_text(change((copy / name).read_text(encoding="utf-8")), encoding="utf-8")
    refused(copy, match, changed=True)


def test_samples_that_differ_from_their_hash_are_refused(copy: Path) -> None:
    for path in (copy / HEADER.replace(".vhdr", ".eeg"), next((copy / "stimuli").glob("*.wav"))):
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
        refused(copy, "content hash")
        path.write_bytes(whole[:-40])
        refused(copy, None)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (swap("SamplingInterval=7812.5", "SamplingInterval=7812"), "rate: expected 128"),
        (swap("Ch1=Fz", "Ch1=Cz"), "channels: expected"),
        (swap("NumberOfChannels=3", "NumberOfChannels=2"), None),
        (swap("IEEE_FLOAT_32", "INT_16"), "samples: expected 600, found 1200"),
        (swap("MULTIPLEXED", "VECTORIZED"), None),
        (swap("Fz,,1,", "Fz,,2,"), "content hash"),
        (lambda text: "", "content: expected BrainVision"),
    ],
)
def test_a_header_that_says_otherwise_is_refused(copy: Path, change: Callable[[str], str], match: str | None) -> None:
    (copy / HEADER).write_text(change((copy / HEADER).read_text(encoding="utf-8")), encoding="utf-8")
    refused(copy, match)


def test_a_store_is_not_overwritten(exported: tuple[Store, Path]) -> None:
    with pytest.raises(BadInput, match="folder: expected one without a store"):
        read_bids(exported[1], exported[0].root)
    exported[0].verify()


# Fuzz


def tiny(root: Path) -> Store:
    facts = replace(FACTS, audio_rate=64)
    writer = StoreWriter(root, facts, Sensors(("A", "B"), ((0.0, 0.0, 0.1), (0.0, 0.1, 0.0))), SETTINGS)
    writer.add_recording("r", "S-1", eeg(0, 2, 130), 128)
    a, b = (writer.add_stimulus(sound(k, 70), 64, f"voice {k}", "en", f"title {k}") for k in (1, 2))
    writer.add_trial(Trial("t1", "r", "S-1", 0.0, 0.5, a, b, "left", "train"))
    writer.add_trial(Trial("t2", "r", "S-1", 0.5, 0.5, b))
    return writer.close()


def fuzzed(tmp_path: Path, count: int, seed: int) -> None:
    """Files damaged in turn: refused, or the very store."""
    store = tiny(tmp_path / "store")
    export_bids(store, tmp_path / "bids")
    names = ("dataset_description.json", "*.tsv", "*.wav", "*.vhdr", "*.eeg", "*.vmrk")
    files = sorted(path for name in names for path in (tmp_path / "bids").rglob(name) if "_channels" not in path.name)
    read = 0
    for path in files:
        whole = path.read_bytes()
        for case, content in enumerate(damaged(whole, count // len(files) + 1, seed)):
            path.write_bytes(content)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    back = read_bids(tmp_path / "bids", tmp_path / "back")
                assert same(store, back), (path, case)
                read += 1
            except BadInput:
                assert not (tmp_path / "back" / "index.json").exists()
            shutil.rmtree(tmp_path / "back", ignore_errors=True)
        path.write_bytes(whole)
    assert 0 < read < count


def test_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    fuzzed(tmp_path, 300, 0)


@pytest.mark.slow
def test_much_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    fuzzed(tmp_path, 2000, 1)
