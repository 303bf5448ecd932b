"""From raw files to a store: aligned, continued, cleaned by the steps that are named; on a study written here."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from eeg2speech.data.preparation.blocks import ArrayBlocks, Blocks
from eeg2speech.data.preparation.cleaning import cleaned, margin
from eeg2speech.data.preparation.montages import montage, placed
from eeg2speech.data.preparation.resampling import polyphase, ratio, resampled
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Steps, settled
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.store import Store
from eeg2speech.data.types import Sensors, StudyFacts
from eeg2speech.errors import BadInput

RATE, SOUND, SECONDS = 500, 44_100, 30
NAMES = ("Fz", "Cz", "Pz", "C3", "C4", "Oz")
SENSORS = placed(NAMES, "biosemi64", "test")
FACTS = StudyFacts("written", "t", "CC0", "c", "10.1/x", "write it", "noise", 16_000, 128)
PLAIN = {"high_pass": 0.0, "reference": "none"}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@dataclass(frozen=True)
class WrittenSteps(Steps):
    gain: float = 1.0


def write(root: Path, items: int = 3, takes: int = 2) -> None:
    root.mkdir(exist_ok=True)
    for k in range(items):
        np.save(root / f"eeg{k}.npy", noise(len(NAMES) + 1, takes * SECONDS * RATE, seed=k).astype(np.float32))
    for k in range(takes):
        np.save(root / f"sound{k}.npy", noise(1, SECONDS * SOUND, seed=100 + k).astype(np.float32) / 10)


def adapter(root: Path, steps: WrittenSteps) -> Source:
    def speech(k: int) -> Speech:
        path = root / f"sound{k}.npy"
        return Speech(path.name, lambda: ArrayBlocks(np.load(path), SOUND), (path,), speaker=f"s{k}")

    def item(path: Path) -> Item:
        eeg = ArrayBlocks(np.load(path, mmap_mode="r"), RATE, path, steps.gain)
        count = len(list(root.glob("sound*.npy")))
        takes = [Take(f"{path.stem}-{k}", eeg, speech(k), start=k * SECONDS) for k in range(count)]
        return Item(path.stem, path.stem, (path,), lambda: takes)

    found = sorted(root.glob("eeg*.npy"))
    return Source(SENSORS, tuple(map(item, found)), ("M1",), missing=("a thing",), notes=("a choice",))


def written(root: Path, **given: object) -> RawStudy[WrittenSteps]:
    study = RawStudy(FACTS, WrittenSteps, adapter)
    study.raw, study.given = root, given
    return study


@pytest.mark.filterwarnings("ignore:written")
def test_a_store_is_made_once_with_its_provenance(tmp_path: Path) -> None:
    write(tmp_path / "raw")
    with pytest.warns(UserWarning, match="written: a thing"):
        store = written(tmp_path / "raw").prepare(tmp_path / "store")
    assert len(store.recordings) == 3 and len(store.trials) == 6 and len(store.stimuli) == 2
    store.verify()
    told = json.loads((tmp_path / "store" / "provenance.json").read_text())
    assert {*told["sources"]} == {*(f"eeg{k}.npy" for k in range(3)), "sound0.npy", "sound1.npy"}
    assert told["steps"]["high_pass"] == 0.5 and told["versions"]["scipy"] and told["missing"] == ["a thing"]
    assert told["worst_misalignment_ms"] == 0
    assert not (tmp_path / "store" / "preparing").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*") if path.is_file()}
    again = written(tmp_path / "nowhere").prepare(tmp_path / "store")
    assert again.index == store.index
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore:written")
def test_the_same_files_and_settings_have_the_same_revision_and_others_another(tmp_path: Path) -> None:
    write(tmp_path / "raw", items=1)
    one, two = (written(tmp_path / "raw", **PLAIN).prepare(tmp_path / name).index.revision for name in "ab")
    assert one == two
    assert written(tmp_path / "raw", gain=2.0, **PLAIN).prepare(tmp_path / "c").index.revision != one
    np.save(tmp_path / "raw" / "eeg0.npy", noise(7, SECONDS * RATE * 2, seed=9).astype(np.float32))
    assert written(tmp_path / "raw", **PLAIN).prepare(tmp_path / "d").index.revision != one


@pytest.mark.filterwarnings("ignore:written")
def test_files_from_elsewhere_are_told_apart_by_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "sound.npy", noise(1, 3 * SOUND, seed=ord(name)))

    def find(root: Path, steps: Steps) -> Source:
        paths = [tmp_path / name / "sound.npy" for name in ("a", "b")]
        heard = [Speech(str(p), lambda p=p: ArrayBlocks(np.load(p), SOUND), (p,)) for p in paths]  # type: ignore[misc]
        take = Take("t", ArrayBlocks(noise(len(NAMES), 3 * RATE), RATE), *heard)
        return Source(SENSORS, (Item("r", "a", (), lambda: [take]),))

    study = RawStudy(FACTS, Steps, find)
    (tmp_path / "raw").mkdir()
    study.raw, study.given = tmp_path / "raw", PLAIN
    told = study.prepare(tmp_path / "store").index.settings["sources"]
    assert len(told) == 2 and all(name.startswith("elsewhere/") for name in told)  # type: ignore[arg-type, attr-defined]


class Stopped(Exception):
    pass


def stop(done: int, total: int, name: str) -> None:
    raise Stopped


@pytest.mark.filterwarnings("ignore:written")
def test_what_was_interrupted_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    write(tmp_path / "raw")

    def stop(done: int, total: int, name: str) -> None:
        if done == 2:
            raise Stopped

    study = written(tmp_path / "raw")
    study.progress = stop
    with pytest.raises(Stopped):
        study.prepare(tmp_path / "store")
    with pytest.raises(BadInput, match="run `eeg2speech prepare` first"):
        Store(tmp_path / "store")
    seen: list[tuple[int, int, str]] = []
    study.progress = lambda *told: seen.append(told)
    store = study.prepare(tmp_path / "store")
    assert seen == [(3, 3, "eeg2")]
    assert store.index == written(tmp_path / "raw").prepare(tmp_path / "whole").index


@pytest.mark.filterwarnings("ignore:written")
@pytest.mark.parametrize("name, shape", [("eeg0", (7, 2 * SECONDS * RATE)), ("sound1", (1, SECONDS * SOUND))])
def test_an_item_whose_file_changed_since_is_made_again(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    write(tmp_path / "raw", items=2)
    study = written(tmp_path / "raw")
    study.progress = stop
    with pytest.raises(Stopped):
        study.prepare(tmp_path / "store")
    np.save(tmp_path / "raw" / f"{name}.npy", noise(*shape, seed=77).astype(np.float32) / 10)
    study.progress = lambda *told: None
    store = study.prepare(tmp_path / "store")
    assert store.index == written(tmp_path / "raw").prepare(tmp_path / "whole").index


@pytest.mark.filterwarnings("ignore:written", "ignore:an interrupted")
def test_other_settings_begin_anew_and_are_refused_for_what_is_done(tmp_path: Path) -> None:
    write(tmp_path / "raw", items=2)
    study = written(tmp_path / "raw")

    study.progress = stop
    with pytest.raises(Stopped):
        study.prepare(tmp_path / "store")
    store = written(tmp_path / "raw", gain=3.0).prepare(tmp_path / "store")
    assert store.index.settings["steps"]["gain"] == 3.0  # type: ignore[index]
    assert written(tmp_path, gain="3").prepare(tmp_path / "store").index == store.index
    with pytest.raises(BadInput, match="settings: gain: expected 2.0, found 3.0"):
        written(tmp_path, gain=2.0).prepare(tmp_path / "store")


@pytest.mark.filterwarnings("ignore:written")
def test_side_by_side_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "raw", items=2)
    alone = written(tmp_path / "raw").prepare(tmp_path / "alone")
    monkeypatch.setattr("eeg2speech.data.preparation.study.SMALL", 0)
    study = written(tmp_path / "raw")
    study.jobs = 2
    assert study.prepare(tmp_path / "both").index == alone.index


@pytest.mark.parametrize("start", [0.0, 1.0, 2.0005, 3.9991])
@pytest.mark.parametrize("rate, sound", [(512.0, 44_100), (1024.0, 48_000), (128.0, 44_100), (500.0, 16_000)])
def test_impulses_stay_together_to_the_end_of_the_longest_trial(
    tmp_path: Path, start: float, rate: float, sound: int
) -> None:
    """Planted at the same time in EEG and sound, found within one EEG sample; 300 s."""
    seconds, places = 300.0, (0.5, 150.0, 299.5)
    eeg = np.zeros((len(NAMES), round((seconds + 10) * rate)), np.float32)
    speech = np.zeros((1, round(seconds * sound)), np.float32)
    for place in places:
        eeg[:, round((start + place) * rate)] = 1000
        speech[0, round(place * sound)] = 1

    def find(root: Path, steps: Steps) -> Source:
        heard = Speech("s", lambda: ArrayBlocks(speech, sound))
        return Source(SENSORS, (Item("r", "a", (), lambda: [Take("t", ArrayBlocks(eeg, rate), heard, start=start)]),))

    study = RawStudy(FACTS, Steps, find)
    study.raw, study.given = tmp_path, {"reference": "none", "high_pass": 0.5}
    store = study.prepare(tmp_path / "store")
    trial = store.trial("t")
    assert trial.duration == seconds
    for place in places:
        for signal, own in ((store.eeg("r")[0], 128), (store.stimulus(trial.attended), 16_000)):
            near = slice(round((place - 0.25) * own), round((place + 0.25) * own))
            peak = (near.start + np.argmax(np.abs(signal[near]))) / own
            assert abs(peak - place) <= 1 / 128
    told = json.loads((tmp_path / "store" / "provenance.json").read_text())["worst_misalignment_ms"]
    assert told == pytest.approx(1000 * abs(start - round(start * rate) / rate), abs=1e-5)
    assert told <= 500 / rate


@pytest.mark.parametrize(
    "rate, wanted", [(512, 128), (500, 128), (44_100, 16_000), (48_000, 16_000), (64, 128), (128, 128)]
)
@pytest.mark.parametrize("block", [500, 5000, 1 << 22])
def test_blocks_give_what_the_whole_gives(rate: int, wanted: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = np.cumsum(noise(2, 9001), axis=1)
    monkeypatch.setattr("eeg2speech.data.preparation.resampling.BLOCK", block)
    found = resampled(ArrayBlocks(signal, rate), wanted)
    factor = ratio(rate, wanted)
    edge = np.pad(signal, ((0, 0), (3200, 3200)), mode="edge") if factor != 1 else signal
    shift = 3200 * factor
    assert found.shape[1] == int(9001 * factor)
    if factor == 1:
        np.testing.assert_array_equal(found, signal.astype(np.float32))
    elif shift.denominator == 1:
        whole = polyphase(edge - edge.mean(axis=1, keepdims=True), factor) + edge.mean(axis=1, keepdims=True)
        expected = whole[:, int(shift) : int(shift) + found.shape[1]]
        np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(signal).max())


def test_a_stretch_is_a_part_of_the_whole() -> None:
    blocks = ArrayBlocks(noise(3, 20_000), 500)
    whole = resampled(blocks, 128, origin=1000)
    np.testing.assert_allclose(resampled(blocks, 128, 1000, 700, 300), whole[:, 700:1000], atol=1e-5)
    before = resampled(blocks, 128, 1000, -100, 200)
    np.testing.assert_allclose(before[:, 100:], whole[:, :100], atol=1e-5)


def test_resampling_passes_what_is_below_and_stops_what_is_above() -> None:
    time = np.arange(20 * 512) / 512
    low, high = (resampled(ArrayBlocks(np.sin(2 * np.pi * f * time)[None], 512), 128)[0, 300:-300] for f in (50, 70))
    assert np.std(low) == pytest.approx(np.sqrt(0.5), rel=1e-3)
    assert np.std(high) < 1e-5
    assert ratio(44_100, 16_000) == Fraction(160, 441)


def stretch(rate: int = 128, seconds: int = 20) -> np.ndarray:
    return noise(len(NAMES), rate * seconds).astype(np.float32) * 10


def clean(eeg: np.ndarray, *bad: str, **given: object) -> np.ndarray:
    steps = settled(Steps, {"high_pass": 0, "reference": "none"} | given, "test")
    return cleaned(eeg, 0, eeg.shape[1], steps, SENSORS, bad, "test").eeg


def test_references() -> None:
    eeg = stretch()
    np.testing.assert_allclose(clean(eeg, reference="average"), eeg - eeg.mean(axis=0), atol=1e-4)
    with_mastoids = np.concatenate([eeg, noise(2, eeg.shape[1]).astype(np.float32)])
    found = clean(with_mastoids, reference="electrodes")
    np.testing.assert_allclose(found, eeg - with_mastoids[-2:].mean(axis=0), atol=1e-4)
    np.testing.assert_array_equal(clean(eeg), eeg)
    with pytest.raises(BadInput, match="has no reference electrodes"):
        clean(eeg, reference="electrodes")


def test_filters_take_what_they_name() -> None:
    time = np.arange(128 * 60) / 128
    wave = {f: np.sin(2 * np.pi * f * time) for f in (0.05, 5, 40, 50)}
    eeg = np.tile(sum(wave.values()), (len(NAMES), 1)).astype(np.float32)

    def power(found: np.ndarray, f: float) -> float:
        inner = slice(1000, -1000)
        return float(abs(found[0, inner] @ np.exp(2j * np.pi * f * time[inner])) / len(time[inner]) * 2)

    found = clean(eeg, high_pass=0.5, low_pass=30, notch=50)
    assert power(found, 5) == pytest.approx(1, abs=0.02)
    assert max(power(found, f) for f in (0.05, 40, 50)) < 0.02
    assert power(clean(eeg, notch=50), 40) == pytest.approx(1, abs=0.05)
    assert power(clean(eeg, notch=50), 50) < 0.05


def test_eeg_that_is_shorter_than_its_filter_is_refused() -> None:
    with pytest.raises(BadInput, match="at least 6.6. s, as long as its filters .or set high_pass=0., found 2.00 s"):
        clean(stretch(seconds=2), high_pass=0.5)
    assert margin(Steps(high_pass=0.5)) == 423


def test_bad_sensors_are_told_left_out_of_the_reference_and_interpolated() -> None:
    sensors, rng = montage("biosemi64"), np.random.default_rng(0)
    # Neighbours are alike, as on a head: a few sources, far from the sensors.
    places = np.array(sensors.positions)
    mixing = np.exp(-((places[:, None] - rng.normal(0, 0.08, (1, 20, 3))) ** 2).sum(-1) / 0.01)
    eeg = (mixing @ rng.standard_normal((20, 2000)) * 20).astype(np.float32)
    broken = eeg.copy()
    broken[10] *= 500
    broken[20] = 3.0
    steps = settled(Steps, {"high_pass": 0, "reference": "none", "bad_channels": "interpolate"}, "test")
    found = cleaned(broken, 0, 2000, steps, sensors, ("Cz",), "test")
    assert {*found.bad} == {sensors.names[10], sensors.names[20], "Cz"}
    for row in (10, 20):
        assert np.corrcoef(found.eeg[row], eeg[row])[0, 1] > 0.9
    kept = cleaned(broken, 0, 2000, settled(Steps, {"high_pass": 0}, "test"), sensors, (), "test")
    good = [k for k in range(64) if k not in (10, 20)]
    np.testing.assert_allclose(kept.eeg[good].mean(axis=0), 0, atol=1e-3)
    with pytest.raises(BadInput, match="a sensor that is not flat"):
        cleaned(np.zeros((64, 500), np.float32), 0, 500, steps, sensors, (), "test")


@pytest.mark.parametrize(
    "given, told",
    [
        ({"hihg_pass": "1"}, "did you mean 'high_pass'"),
        ({"high_pass": "fast"}, "high_pass: expected"),
        ({"high_pass": "64"}, "0 to below 64 Hz"),
        ({"low_pass": "0.1"}, "more than high_pass"),
        ({"reference": "mean"}, "reference"),
        ({"eeg_rate": "12.5"}, "eeg_rate"),
        ({"eeg_rate": "1"}, "16 to 2000"),
        ({"bad_deviation": "nan"}, "more than 0"),
    ],
)
def test_settings_are_typed_and_refused_by_name(given: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        settled(WrittenSteps, given, "written")
    assert settled(WrittenSteps, {"gain": "2.5", "bad_channels": "keep"}, "written").gain == 2.5


def test_raw_files_have_to_be_named_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = RawStudy(FACTS, Steps, adapter)  # type: ignore[arg-type]
    monkeypatch.delenv("EEG2SPEECH_WRITTEN", raising=False)
    with pytest.raises(BadInput, match="EEG2SPEECH_WRITTEN. write it, found none named"):
        study.prepare(tmp_path / "store")
    monkeypatch.setenv("EEG2SPEECH_WRITTEN", str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="nothing of that name"):
        study.prepare(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    study.raw = tmp_path / "empty"
    with pytest.raises(BadInput, match="recordings: expected at least one"):
        study.prepare(tmp_path / "store")


def one(take: Take, sensors: Sensors = SENSORS, **facts: object) -> RawStudy[Steps]:
    about = FACTS if not facts else StudyFacts(**(FACTS.__dict__ | facts))  # type: ignore[arg-type]
    return RawStudy(about, Steps, lambda root, steps: Source(sensors, (Item("r", "a", (), lambda: [take]),)))


@pytest.mark.parametrize(
    "take, told",
    [
        (Take("t", ArrayBlocks(noise(5, 9000), 500), Speech("s", lambda: SPOKEN)), "6 channels, found 5"),
        (
            Take("t", ArrayBlocks(noise(6, 9000), 500), Speech("s", lambda: SPOKEN), start=18),
            "within the recording's 18",
        ),
        (Take("t", ArrayBlocks(noise(6, 9000), 500), Speech("s", lambda: SPOKEN), start=-1), "start of the speech"),
        (Take("t", ArrayBlocks(np.full((6, 9000), np.nan), 500), Speech("s", lambda: SPOKEN)), "NaN or infinite"),
        (Take("t", ArrayBlocks(noise(6, 9000), 500), Speech("s", lambda: FEATURES)), "channels: expected 1, found 4"),
        (Take("t", ArrayBlocks(noise(6, 9000), 500), Speech("s", lambda: SPOKEN), seconds=0.0), "at least one sample"),
    ],
)
def test_takes_that_cannot_be_are_refused(tmp_path: Path, take: Take, told: str) -> None:
    study = one(take)
    study.raw = tmp_path
    with pytest.raises(BadInput, match=told):
        study.prepare(tmp_path / "store")


SPOKEN: Blocks = ArrayBlocks(noise(1, 10 * 16_000) / 10, 16_000)
FEATURES: Blocks = ArrayBlocks(noise(4, 10 * 64), 64)


def test_a_study_of_features_keeps_them_with_their_rate(tmp_path: Path) -> None:
    take = Take("t", ArrayBlocks(noise(6, 9000), 500), Speech("s", lambda: FEATURES))
    study = one(take, stimuli="mel")
    study.raw, study.given = tmp_path, {"audio_rate": 64}
    store = study.prepare(tmp_path / "store")
    stimulus = store.stimuli[store.trial("t").attended]
    assert (stimulus.bands, stimulus.samples, stimulus.rate) == (4, 640, 64) and store.facts.stimuli == "mel"
    np.testing.assert_allclose(store.stimulus(stimulus.id), FEATURES.read(0, 640), rtol=1e-6)
