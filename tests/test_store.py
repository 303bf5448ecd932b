import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eeg2speech.data import Segment, Sensors, Store, StoreWriter, StudyFacts, Trial
from eeg2speech.errors import BadInput

FACTS = StudyFacts("toy", "Toy", "CC0", "none", "", "made here", "noise", 16_000, 128)
SENSORS = Sensors(("A", "B"), ((0.0, 0.0, 0.1), (0.0, 0.1, 0.0)))


def writer(root: Path) -> StoreWriter:
    made = StoreWriter(root, FACTS, SENSORS, {})
    rng = np.random.default_rng(0)
    made.add_recording("r", "S1", rng.standard_normal((2, 128 * 10)).astype(np.float32), 128)
    return made


def speech(seed: int, seconds: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.1, 0.1, round(16_000 * seconds)).astype(np.float32)


def toy(root: Path) -> Store:
    made = writer(root)
    a, b = (made.add_stimulus(speech(k), 16_000, f"voice {k}", "en", f"story {k}") for k in (1, 2))
    made.add_trial(Trial("t", "r", "S1", 0.0, 10.0, a, b))
    return made.close()


def test_the_same_speech_is_stored_once(tmp_path: Path) -> None:
    made = writer(tmp_path)
    assert made.add_stimulus(speech(1), 16_000, "v", "en", "x") == made.add_stimulus(
        speech(1), 16_000, "v", "en", "again"
    )
    assert len(list((tmp_path / "stimuli").iterdir())) == 1


def test_audio_and_eeg_of_a_segment_cover_the_same_time(tmp_path: Path) -> None:
    store = toy(tmp_path)
    whole, part = store.cut(Segment("t", 0.0, 10.0)), store.cut(Segment("t", 2.5, 4.0))
    np.testing.assert_array_equal(part.eeg, whole.eeg[:, 320:832])
    np.testing.assert_array_equal(part.attended, whole.attended[40_000:104_000])


def test_signals_are_memory_maps_and_the_store_pickles_as_its_path(tmp_path: Path) -> None:
    store = toy(tmp_path)
    assert isinstance(store.eeg("r"), np.memmap) and isinstance(store.stimulus(next(iter(store.stimuli))), np.memmap)
    again = pickle.loads(pickle.dumps(store))
    assert again.index.revision == store.index.revision and len(pickle.dumps(store)) < 1000


def test_revision_follows_the_content(tmp_path: Path) -> None:
    first = toy(tmp_path / "a").index.revision
    assert toy(tmp_path / "b").index.revision == first
    made = writer(tmp_path / "c")
    a, b = (made.add_stimulus(speech(k), 16_000, f"voice {k}", "en", f"story {k}") for k in (1, 3))
    made.add_trial(Trial("t", "r", "S1", 0.0, 10.0, a, b))
    assert made.close().index.revision != first


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"attended": "nothing"}, "attended", "a stimulus of this study"),
        ({"unattended": "nothing"}, "unattended", "a stimulus of this study"),
        ({"recording": "q"}, "recording", "a recording of this study"),
        ({"subject": "S2"}, "subject", "'S1'"),
        ({"start": 1.0}, "duration", "10.000 s"),
        ({"start": -1.0}, "start", "0 s or later"),
        ({"start": float("nan")}, "start", "0 s or later"),
        ({"duration": float("nan")}, "duration", "more than 0"),
        ({"duration": 0.0}, "duration", "more than 0"),
    ],
)
def test_a_trial_that_does_not_fit_is_refused(tmp_path: Path, change: dict, field: str, expected: str) -> None:
    made = writer(tmp_path)
    a, b = (made.add_stimulus(speech(k), 16_000, f"voice {k}", "en", f"story {k}") for k in (1, 2))
    with pytest.raises(BadInput, match=expected) as refusal:
        made.add_trial(replace(Trial("t", "r", "S1", 0.0, 10.0, a, b), **change))
    assert refusal.value.field == field


def test_a_trial_longer_than_its_stimulus_is_refused(tmp_path: Path) -> None:
    made = writer(tmp_path)
    short = made.add_stimulus(speech(1, 9.0), 16_000, "v", "en", "x")
    with pytest.raises(BadInput, match=r"attended: expected at least 10\.000 s of audio, found 9\.000 s"):
        made.add_trial(Trial("t", "r", "S1", 0.0, 10.0, short))


def test_rates_channels_and_nan_are_refused_when_written(tmp_path: Path) -> None:
    made = writer(tmp_path)
    eeg = np.zeros((2, 100), np.float32)
    with pytest.raises(BadInput, match="rate: expected 128 Hz, found 64 Hz"):
        made.add_recording("x", "S1", eeg, 64)
    with pytest.raises(BadInput, match="stimulus 'story': rate: expected 16000 Hz, found 44100 Hz"):
        made.add_stimulus(speech(1), 44_100, "v", "en", "story")
    with pytest.raises(BadInput, match=r"shape: expected \[2, samples\], found \[3, 100\]"):
        made.add_recording("x", "S1", np.zeros((3, 100), np.float32), 128)
    eeg[1, 5] = np.nan
    with pytest.raises(BadInput, match="eeg: expected finite samples, found 1 samples"):
        made.add_recording("x", "S1", eeg, 128)
    with pytest.raises(BadInput, match="trials: expected at least one, found 0"):
        made.close()


@pytest.mark.parametrize(
    "name", ["", "a/b", "../r", "a\\b", "..", ".r", "a b", "a\n", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_a_recording_whose_name_cannot_be_a_files_is_refused(tmp_path: Path, name: str) -> None:
    made = writer(tmp_path / "store")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="id: expected a name of letters, digits and"):
        made.add_recording(name, "S1", np.zeros((2, 100), np.float32), 128)
    assert sorted(tmp_path.rglob("*")) == before


def test_names_with_all_the_signs_that_are_allowed_are_stored(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.add_recording("S1_run-2.a+b", "S1", np.zeros((2, 1280), np.float32), 128)
    made.add_trial(Trial("t", "S1_run-2.a+b", "S1", 0.0, 10.0, made.add_stimulus(speech(1), 16_000, "v", "en", "x")))
    assert made.close().eeg("S1_run-2.a+b").shape == (2, 1280)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "cut in its magic": lambda raw: raw[:5],
    "cut in its header": lambda raw: raw[:60],
    "cut in its samples": lambda raw: raw[:-100],
    "the magic of a zip": lambda raw: b"PK\x03\x04" + raw[4:],
    "zeros": lambda raw: bytes(len(raw)),
    "brace not closed": lambda raw: raw.replace(b"}", b" ", 1),
    "unhashable key": lambda raw: raw.replace(b"'descr'", b"['des']", 1),
    "too large to count": lambda raw: raw.replace(b"1280), }" + 20 * b" ", b"1280" + 20 * b"9" + b"), }", 1),
}


@pytest.mark.parametrize("damage", [*DAMAGE])
def test_an_eeg_file_that_is_cut_short_or_damaged_is_refused(tmp_path: Path, damage: str) -> None:
    toy(tmp_path)
    path = tmp_path / "eeg" / "r.npy"
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    assert path.read_bytes() != whole
    with pytest.raises(BadInput, match=r"r\.npy: content: expected float32 \[2, 1280\], found a file that is cut"):
        Store(tmp_path).cut(Segment("t", 0.0, 4.0))


def test_a_folder_in_place_of_a_signal_is_refused(tmp_path: Path) -> None:
    toy(tmp_path)
    (tmp_path / "eeg" / "r.npy").unlink()
    (tmp_path / "eeg" / "r.npy").mkdir()
    with pytest.raises(BadInput, match=r"r\.npy: content"):
        Store(tmp_path).eeg("r")


def test_an_eeg_file_of_another_size_is_refused(tmp_path: Path) -> None:
    toy(tmp_path)
    np.save(tmp_path / "eeg" / "r.npy", np.zeros((2, 1000), np.float32))
    with pytest.raises(BadInput, match=r"expected float32 \[2, 1280\], found float32 \[2, 1000\]"):
        Store(tmp_path).eeg("r")


def test_nan_in_stored_eeg_is_refused_when_read(tmp_path: Path) -> None:
    toy(tmp_path)
    eeg = np.load(tmp_path / "eeg" / "r.npy")
    eeg[0, 300] = np.nan
    np.save(tmp_path / "eeg" / "r.npy", eeg)
    store = Store(tmp_path)
    store.cut(Segment("t", 4.0, 4.0))
    with pytest.raises(BadInput, match=r"r\.npy: eeg of Segment.*: expected finite samples, found 1"):
        store.cut(Segment("t", 0.0, 4.0))
    with pytest.raises(BadInput, match="content hash"):
        store.verify()


def test_a_missing_file_and_a_damaged_index_are_refused(tmp_path: Path) -> None:
    store = toy(tmp_path)
    shutil.rmtree(tmp_path / "stimuli")
    with pytest.raises(BadInput, match="file: expected a signal named in index.json, found no such file"):
        store.cut(Segment("t", 0.0, 4.0))
    index = tmp_path / "index.json"
    text = index.read_text()
    index.write_text(text[:-50])
    with pytest.raises(BadInput, match="index.json: content: expected JSON"):
        Store(tmp_path)
    index.write_bytes(b"\xff" + text.encode())
    with pytest.raises(BadInput, match="index.json: content: expected JSON"):
        Store(tmp_path)
    index.write_text(text.replace('"subject": "S1"', '"subject": "S9"'))
    with pytest.raises(BadInput, match="index.json: checksum"):
        Store(tmp_path)
    with pytest.raises(BadInput, match="run `eeg2speech prepare` first"):
        Store(tmp_path / "elsewhere")


def test_a_segment_outside_its_trial_and_an_unknown_trial_are_refused(tmp_path: Path) -> None:
    store = toy(tmp_path)
    with pytest.raises(BadInput, match="a window within 0 to 10.0 s"):
        store.cut(Segment("t", 7.0, 4.0))
    with pytest.raises(BadInput, match="did you mean 't'"):
        store.cut(Segment("tt", 0.0, 4.0))


MB = 1e6

READING = """
import json, sys, tracemalloc
import numpy as np
from eeg2speech.data import Segment, Store

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])

def cut():
    trial = trials[rng.integers(len(trials))]
    store.cut(Segment(trial.id, float(rng.integers(int(trial.duration) - 4)), 4.0))
    return anonymous()

store, rng = Store(sys.argv[1]), np.random.default_rng(0)
trials = list(store.trials.values())
first = cut()
tracemalloc.start()
grown = max(cut() for _ in range(200)) - first
print(json.dumps([grown, tracemalloc.get_traced_memory()[1]]))
"""
"""Prints by how much the process's own memory grew, and the most that was allocated at one time, in bytes."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    names, seconds = tuple(f"C{k}" for k in range(64)), 1200
    made = StoreWriter(tmp_path, FACTS, Sensors(names, ((0.0, 0.0, 0.1),) * 64), {})
    eeg, audio = np.zeros((64, 128 * seconds), np.float32), np.zeros(16_000 * seconds // 2, np.float32)
    for k in range(4):
        audio[0] = k
        stimulus = made.add_stimulus(audio, 16_000, "v", "en", f"story {k}")
        made.add_recording(f"r{k}", f"S{k}", eeg, 128)
        for half in range(2):
            made.add_trial(Trial(f"t{k}{half}", f"r{k}", f"S{k}", half * seconds / 2, seconds / 2, stimulus))
    made.close()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.npy")) > 300 * MB
    reading = subprocess.run([sys.executable, "-c", READING, tmp_path], capture_output=True, text=True)
    shutil.rmtree(tmp_path)
    assert reading.returncode == 0, reading.stderr
    grown, peak = json.loads(reading.stdout)
    assert grown < 30 * MB and peak < 30 * MB
