"""Properties of the embedded study: what it promises about attention, balance, power, alignment and repetition."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal, stats

from eeg2speech.assets import corpus
from eeg2speech.data import forward_model as model
from eeg2speech.data.store import Store, _revision
from eeg2speech.data.studies import simulated
from eeg2speech.data.studies.simulated import SimulatedStudy
from eeg2speech.data.types import Trial
from eeg2speech.errors import BadInput

TINY = {"n_subjects": 4, "n_pairs": 6, "listeners_per_pair": 4, "trial_seconds": 20.0}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    return {
        level: SimulatedStudy(level, **TINY).prepare(tmp_path_factory.mktemp(level))
        for level in ("clear", "null", "confounded")
    }


def side(store: Store, trial: Trial) -> int:
    """0 if the trial's attended stimulus comes first by (speaker, id)."""
    assert trial.unattended is not None
    first, other = (((store.stimuli[s].speaker, s)) for s in (trial.attended, trial.unattended))
    return int(first > other)


# ------------------------------------------------------------------------------------------------------- repetition


def test_same_seed_gives_the_same_bytes_whatever_the_order_of_work(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(simulated, "WORKERS", 1)
    again = SimulatedStudy("clear", **TINY).prepare(tmp_path)
    assert again.index.revision == stores["clear"].index.revision
    for name in again.recordings:
        files = [(store.root / "eeg" / f"{name}.npy").read_bytes() for store in (again, stores["clear"])]
        assert files[0] == files[1]
    again.verify()


def test_a_listener_does_not_depend_on_who_was_made_before():
    alone = model.make_listener(3, "S02")
    model.make_listener(3, "S01")
    assert np.array_equal(alone.background, model.make_listener(3, "S02").background)
    assert not np.array_equal(alone.attended, model.make_listener(4, "S02").attended)


def test_other_seed_gives_another_study(stores, tmp_path):
    other = SimulatedStudy("clear", seed=7, **TINY).prepare(tmp_path)
    assert other.index.revision != stores["clear"].index.revision
    assert {r.hash for r in other.recordings.values()}.isdisjoint(r.hash for r in stores["clear"].recordings.values())


def test_settings_name_the_data_however_a_processor_rounds(stores, tmp_path, monkeypatch):
    """A sample that is rounded the other way is no other data: weights and records of one machine hold on another."""
    exact = model.simulate

    def rounded_otherwise(*arguments):
        eeg = exact(*arguments)
        eeg[0, 0] += model.EEG_STEP_UV
        return eeg

    monkeypatch.setattr(model, "simulate", rounded_otherwise)
    other = SimulatedStudy("clear", **TINY).prepare(tmp_path)
    assert {r.hash for r in other.recordings.values()} != {r.hash for r in stores["clear"].recordings.values()}
    assert other.index.revision == stores["clear"].index.revision
    other.verify()


def test_the_revisions_of_committed_records_are_those_of_the_settings():
    assert SimulatedStudy("clear").revision == "de113601322d5659"
    assert SimulatedStudy("null").revision == "28bfe866b4c1d65a"


def test_a_store_of_an_older_version_gets_the_name_of_its_settings(tmp_path):
    study = SimulatedStudy("clear", **TINY)
    path = study.prepare(tmp_path).root / "index.json"
    body = json.loads(path.read_text())
    del body["checksum"]
    body["revision"] = _revision(body)
    path.write_text(json.dumps(body))
    assert Store(tmp_path).index.revision == body["revision"] != study.revision
    assert study.prepare(tmp_path).index.revision == study.revision
    assert Store(tmp_path).index.revision == study.revision


def test_a_store_that_is_there_is_opened_and_another_one_refused(stores):
    root = stores["clear"].root
    before = (root / "index.json").stat().st_mtime_ns
    assert SimulatedStudy("clear", **TINY).prepare(root).index.revision == stores["clear"].index.revision
    assert (root / "index.json").stat().st_mtime_ns == before
    with pytest.raises(BadInput, match="seed"):
        SimulatedStudy("clear", seed=1, **TINY).prepare(root)
    with pytest.raises(BadInput, match="simulated-null"):
        SimulatedStudy("null", **TINY).prepare(root)


def test_the_refusal_of_another_store_says_what_to_do(stores, monkeypatch):
    root = stores["clear"].root
    monkeypatch.setattr(model, "GENERATOR_VERSION", model.GENERATOR_VERSION + 1)
    with pytest.raises(BadInput) as refusal:
        SimulatedStudy("clear", **TINY).prepare(root)
    assert refusal.value.field == "settings: generator_version"
    assert f"delete the folder '{root}'" in str(refusal.value)
    assert "eeg2speech prepare simulated-clear --out" in str(refusal.value)


def test_a_changed_constant_is_noticed(stores, monkeypatch):
    monkeypatch.setattr(model, "SOURCE_NAM", 1.0)
    with pytest.raises(BadInput, match="SOURCE_NAM"):
        SimulatedStudy("clear", **TINY).prepare(stores["clear"].root)


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "claer"}, "did you mean 'clear'"),
        ({"n_subjects": 5}, "n_subjects"),
        ({"listeners_per_pair": 3}, "listeners_per_pair"),
        ({"listeners_per_pair": 18}, "listeners_per_pair"),
        ({"trial_seconds": 0.0}, "trial_seconds"),
        ({"trial_seconds": 1.001}, "trial_seconds"),
        ({"n_pairs": 0}, "n_pairs"),
        ({"seed": -1}, "seed"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(BadInput, match=message):
        SimulatedStudy(**settings)


def test_more_pairs_than_the_corpus_gives_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="n_pairs"):
        SimulatedStudy(n_pairs=10_000).prepare(tmp_path)


# ------------------------------------------------------------------------------------------------------------ plan


def test_the_full_matching_wastes_no_stimulus_and_never_pairs_a_voice_with_itself():
    pieces = simulated._pieces(60.0)
    pairs = SimulatedStudy()._pairs()
    used = Counter(piece for pair in pairs for piece in pair)
    assert max(used.values()) == 1
    assert all(first.track.speaker != second.track.speaker for first, second in pairs)
    largest = max(Counter(piece.track.speaker for piece in pieces).values())
    assert len(pairs) == min(len(pieces) // 2, len(pieces) - largest)
    assert len({frozenset(piece.track.speaker for piece in pair) for pair in pairs}) >= 5


@pytest.mark.parametrize("counts", [{"a": 5, "b": 2, "c": 2}, {"a": 9, "b": 3, "c": 2}, {"a": 4, "b": 4, "c": 3}])
@pytest.mark.parametrize("seed", range(20))
def test_matching_is_as_large_as_can_be(counts, seed):
    track = corpus.tracks()[0]
    voices = {v: corpus.Track(**{**vars(track), "speaker": v, "track": v}) for v in counts}
    pieces = [simulated.Piece(voices[v], n, n + 1) for v, count in counts.items() for n in range(count)]
    pairs = simulated._match(pieces, np.random.default_rng(seed))
    total, largest = sum(counts.values()), max(counts.values())
    assert len(pairs) == min(total // 2, total - largest)


@cache
def full_schedule(seed: int) -> list[simulated.Listening]:
    study = SimulatedStudy(seed=seed)
    return study._schedule(study._pairs())


def test_the_full_schedule_spreads_its_trials():
    plan = full_schedule(2026)
    heard = Counter(h.subject for h in plan)
    assert len(heard) == 16
    for half in (range(8), range(8, 16)):
        counts = [heard[subject] for subject in half]
        assert max(counts) - min(counts) <= 1
    for pair in {h.pair for h in plan}:
        listeners = [h.subject for h in plan if h.pair == pair]
        assert len(set(listeners)) == 8 and sum(subject < 8 for subject in listeners) == 4


@pytest.mark.parametrize("seed", [2026, *range(4)])
def test_both_sides_of_every_pair_are_attended_about_as_often(seed):
    plan = full_schedule(seed)
    for pair in {h.pair for h in plan}:
        assert {h.side for h in plan if h.pair == pair} == {0, 1}
    low, high = stats.binom.ppf([0.001, 0.999], len(plan), 0.5)
    assert low <= sum(h.side == 0 for h in plan) <= high


def leaning(plan: list[simulated.Listening], unit: str) -> float:
    """Sum over subjects, or pairs, of the squared difference between the two sides' counts over their sum: chi-squared
    under coins with as many degrees as units, 0 or nearly so where a design is balanced exactly."""
    sides = defaultdict(list)
    for h in plan:
        sides[getattr(h, unit)].append(2 * h.side - 1)
    return sum(sum(own) ** 2 / len(own) for own in sides.values())


def test_sides_are_thrown_and_not_balanced():
    """Exact balance would let some of a subject's or a pair's trials tell the others."""
    plans = [full_schedule(seed) for seed in (2026, *range(4))]
    low, high = stats.chi2.ppf([0.001, 0.999], 16 * len(plans))
    assert low < sum(leaning(plan, "subject") for plan in plans) < high
    pairs = sum(len({h.pair for h in plan}) for plan in plans)
    # A pair thrown again lost a difference of 8 in 8, which a coin gives once in 128: (1 - 8/128) / (1 - 1/128).
    found = sum(leaning(plan, "pair") for plan in plans)
    assert found == pytest.approx(0.945 * pairs, abs=4 * (2 * pairs) ** 0.5)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_coins_are_fair_and_never_all_alike(count):
    rng = np.random.default_rng(0)
    thrown = [tuple(int(side) for side in simulated._coins(count, rng)) for _ in range(2000)]
    ways = 2**count - 2
    assert len(set(thrown)) == ways
    expected = len(thrown) / ways
    chi2 = sum((seen - expected) ** 2 / expected for seen in Counter(thrown).values())
    assert chi2 < stats.chi2.ppf(0.999, ways - 1)


@pytest.mark.parametrize("level", ["clear", "null"])
def test_both_sides_of_each_pair_are_attended_by_someone(stores, level):
    store = stores[level]
    by_pair, heard = defaultdict(list), Counter(trial.subject for trial in store.trials.values())
    for trial in store.trials.values():
        assert store.stimuli[trial.attended].speaker != store.stimuli[trial.unattended].speaker
        by_pair[trial.pair].append(side(store, trial))
    assert len(by_pair) == TINY["n_pairs"] and len(store.stimuli) == 2 * TINY["n_pairs"]
    assert all(len(sides) == 4 and set(sides) == {0, 1} for sides in by_pair.values())
    assert heard == dict.fromkeys(store.subjects, 6)


def test_attention_is_the_same_on_all_levels_that_throw_it(stores):
    clear, null = ([(t.id, t.attended) for t in stores[level].trials.values()] for level in ("clear", "null"))
    assert clear == null


def test_confounded_means_that_the_subject_decides_the_side(stores):
    sides = {(t.subject, side(stores["confounded"], t)) for t in stores["confounded"].trials.values()}
    assert sides == {("S01", 0), ("S02", 0), ("S03", 1), ("S04", 1)}


def test_trials_fill_the_recording_in_an_order_of_each_subject(stores):
    store, orders = stores["clear"], set()
    for subject in store.subjects:
        trials = [t for t in store.trials.values() if t.subject == subject]
        assert [t.start for t in trials] == [20.0 * n for n in range(len(trials))]
        assert store.recordings[subject].samples == len(trials) * 20 * 128
        orders.add(tuple(t.pair for t in trials))
    assert len(orders) == len(store.subjects)


# ------------------------------------------------------------------------------------------------------------- EEG


@pytest.mark.parametrize("level", ["clear", "null", "confounded"])
def test_amplitudes_are_those_of_eeg(stores, level):
    store = stores[level]
    for recording in store.recordings:
        eeg = store.eeg(recording)
        assert np.isfinite(eeg).all()
        assert np.abs(eeg.mean(axis=0)).max() < 0.1, "average reference"
        deviations = eeg.std(axis=1)
        assert 5 < np.median(deviations) < 30
        assert deviations.min() > 3 and deviations.max() < 60
        sampled = np.abs(eeg * 32 - np.round(eeg * 32)).max()
        assert sampled == 0, "steps of 1/32 microvolt"


def test_null_has_the_power_of_clear(stores):
    for recording in stores["null"].recordings:
        ratio = stores["null"].eeg(recording).var() / stores["clear"].eeg(recording).var()
        assert 0.8 < ratio < 1.25


def test_null_eeg_does_not_depend_on_the_speech():
    listener, rng = model.make_listener(1, "S01"), np.random.default_rng(0)
    rows = [np.abs(rng.standard_normal((2 * model.BANDS, 1280))) for _ in range(4)]
    first = model.simulate(listener, model.LEVELS["null"], [(rows[0], rows[1])])
    assert np.array_equal(first, model.simulate(listener, model.LEVELS["null"], [(rows[2], rows[3])]))


def test_attended_and_unattended_speech_leave_different_traces():
    listener, rng = model.make_listener(1, "S01"), np.random.default_rng(0)
    one, two = (np.abs(rng.standard_normal((2 * model.BANDS, 12800))) for _ in range(2))
    quiet = model.Level("test", 60.0, 1.0, 0.4)
    attended = model._response(listener, quiet, [(one, np.zeros_like(one))])
    both = model._response(listener, quiet, [(one, two)])
    assert 0.02 < (both - attended).var() / attended.var() < 0.5


def test_a_response_ends_with_its_trial():
    listener, rng = model.make_listener(1, "S01"), np.random.default_rng(0)
    rows = [np.abs(rng.standard_normal((2 * model.BANDS, 640))) for _ in range(2)]
    silence = np.zeros_like(rows[0])
    response = model._response(listener, model.LEVELS["clear"], [(rows[0], rows[1]), (silence, silence)])
    assert np.abs(response[:, :640]).max() > 1
    assert np.abs(response[:, 640:]).max() == 0


def test_left_auditory_cortex_is_seen_on_the_left_and_vertex_against_below():
    listener, sensors = model.make_listener(1, "S01"), model.sensors()
    field = dict(zip(sensors.names, listener.auditory, strict=True))
    assert field["C3"][0] > field["C4"][0] and field["C4"][1] > field["C3"][1]
    assert all(field["FCz"] > 0) and field["P9"][0] < 0 and field["P10"][1] < 0


# ----------------------------------------------------------------------------------------------------------- drives


def test_the_drive_of_a_modulated_tone_is_its_compressed_modulation():
    centre = model.BAND_CENTRES_HZ[4]
    time = np.arange(4 * 16_000) / 16_000
    modulation = 1 + 0.8 * np.sin(2 * np.pi * 4 * time)
    rows = model.drives((0.1 * modulation * np.sin(2 * np.pi * centre * time)).astype(np.float32))
    expected = modulation[::125] ** model.COMPRESSION
    assert rows.shape == (2 * model.BANDS, 4 * 128)
    middle = slice(32, -32)
    assert np.corrcoef(rows[4, middle], expected[middle])[0, 1] > 0.999
    rise = np.maximum(0, np.diff(expected, prepend=expected[0]))
    assert np.corrcoef(rows[4 + model.BANDS, middle], rise[middle])[0, 1] > 0.98


def test_silence_drives_nothing():
    assert not model.drives(np.zeros(16_000, np.float32)).any()


# ------------------------------------------------------------------------------------- speech in the EEG, in time


def standard(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows between 1 and 12 Hz with mean 0 and deviation 1: made here, apart from the generator."""
    rows = signal.sosfiltfilt(signal.butter(2, [1, 12], "band", fs=128, output="sos"), rows)
    return (rows - rows.mean(-1, keepdims=True)) / rows.std(-1, keepdims=True)


def response(store: Store, trial: Trial, role: str) -> NDArray[np.float64]:
    """Mean over sensors of the squared circular correlation of EEG and broadband envelope: [lag], EEG after speech."""
    slow = signal.resample_poly(np.abs(signal.hilbert(store.stimulus(getattr(trial, role)))), 1, 125)
    begin = round(trial.start * 128)
    eeg = standard(store.eeg(trial.recording)[:, begin : begin + len(slow)])
    cross = np.fft.irfft(np.fft.rfft(eeg) * np.fft.rfft(standard(slow)).conj())
    return np.mean((cross / len(slow)) ** 2, axis=0)


def excess(store: Store, role: str) -> tuple[float, NDArray[np.float64]]:
    """Largest response from 0 to 0.3 s, mean over all trials, and the same with the speech moved round: chance."""
    trace = np.mean([response(store, trial, role) for trial in store.trials.values()], axis=0)
    chance = [trace[shift : shift + 40].max() for shift in range(200, len(trace) - 200, 60)]
    return float(trace[:40].max()), np.array(chance)


def test_clear_eeg_follows_the_attended_speech_more_than_the_other(stores):
    attended, chance = excess(stores["clear"], "attended")
    unattended, _ = excess(stores["clear"], "unattended")
    assert attended > 2 * chance.max()
    assert attended > 2 * unattended


@pytest.mark.parametrize("role", ["attended", "unattended"])
def test_null_eeg_follows_no_speech(stores, role):
    found, chance = excess(stores["null"], role)
    assert found < chance.mean() + 3 * chance.std()


@pytest.mark.parametrize("place", [0, -1])
def test_eeg_and_speech_stay_aligned_to_the_end_of_a_recording(stores, place):
    store, rows = stores["clear"], []
    for subject in store.subjects:
        trial = [t for t in store.trials.values() if t.subject == subject][place]
        rows.append(response(store, trial, "attended"))
    lag = int(np.argmax(np.mean(rows, axis=0)))
    assert 0.05 <= lag / 128 <= 0.25
